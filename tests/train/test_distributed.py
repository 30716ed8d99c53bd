"""Two processes on CPU train as one process with the same global batch."""

from functools import partial

import pytest
import torch
from lightning_fabric import Fabric

from tests.train.tiny import TinyLoader, tiny_job, tiny_model, tiny_settings
from trivet.train.history import read_history
from trivet.train.loop import train
from trivet.train.processes import part

SETTINGS = {"epochs": 2, "accumulate": 2, "clip_norm": 1.0, "warmup": 0.0}


def train_process(fabric: Fabric, folder) -> None:
    model = tiny_model(norm=False)
    model.neck[1].p = 0.0
    batch = 4 // fabric.world_size
    loader = TinyLoader(5, batch=batch, rank=fabric.global_rank, world=fabric.world_size)
    train(model, tiny_job(folder, settings=tiny_settings(**SETTINGS), fabric=fabric, loader=loader))
    if fabric.is_global_zero:
        torch.save(model.state_dict(), folder / "weights.pt")
    part(fabric)
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        strategy = "ddp_spawn" if devices > 1 else "auto"
        fabric = Fabric(accelerator="cpu", devices=devices, strategy=strategy)
        fabric.launch(partial(train_process, folder=folder))
    one, two = (torch.load(tmp_path / str(n) / "weights.pt", weights_only=True) for n in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
    losses = [[row["loss"] for row in read_history(tmp_path / str(n) / "history.jsonl")] for n in (1, 2)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
