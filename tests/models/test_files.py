import argparse
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.models.tiny import tiny_model
from trivet.errors import StorageError, UsageError
from trivet.models.files import plain_state, read_weights, save_weights
from trivet.structures import LabelMap

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_safetensors_round_trip_with_spec_and_labels(tmp_path):
    model, labels = tiny_model(), LabelMap(("cat", "dog"), (3, 7))
    save_weights(model, tmp_path / "m.safetensors", labels=labels)
    file = read_weights(tmp_path / "m.safetensors")
    assert (file.spec, file.labels) == (model.spec, labels)
    assert file.tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(file.tensors[key], value) for key, value in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_channels_last_weights_are_saved_as_they_are(tmp_path):
    model = tiny_model().to(memory_format=torch.channels_last)
    save_weights(model, tmp_path / "m.safetensors")
    tensors = read_weights(tmp_path / "m.safetensors").tensors
    assert all(torch.equal(tensors[key], value) for key, value in model.state_dict().items())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_weights(tiny_model(), path)
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("trivet.models.files.save_file", fail)
    with pytest.raises(StorageError, match="disk full"):
        save_weights(tiny_model(), path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        {"state_dict": {"a.weight": torch.zeros(1)}, "state_dict_ema": STATE},
        {"model": STATE},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module._orig_mod.{key}": value for key, value in STATE.items()}},
    ],
    ids=["plain", "timm", "averaged", "model", "ddp", "compiled"],
)
def test_reads_what_training_scripts_save(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    tensors = read_weights(tmp_path / "w.pth").tensors
    assert tensors.keys() == STATE.keys()
    assert torch.equal(tensors["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin"])
def test_a_file_that_would_run_code_is_refused(tmp_path, suffix):
    bomb, path = tmp_path / "exploded", tmp_path / f"w.{suffix}"
    torch.save({"a": torch.ones(1), "b": Bomb(bomb)}, path)
    with pytest.raises(UsageError, match="refused, for it holds more than tensors and plain data"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Bomb(bomb)))
    with pytest.raises(UsageError, match=r"refused|not a whole weights file"):
        read_weights(path)
    assert not bomb.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 100])
def test_a_damaged_file_is_named(tmp_path, name, keep):
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(STATE, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=rf"{name}: (not a whole|refused)"):
        read_weights(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"there is no weights file '.*nowhere\.pth'"):
        read_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "wanted a state dict .* got list"),
        ({}, "got a dict of nothing"),
        ({"epoch": 3}, "got a dict of 'epoch'"),
        ({"state_dict": {"a": 1}}, "got a dict of 'state_dict'"),
    ],
)
def test_what_is_no_state_dict_is_said(content, message):
    with pytest.raises(UsageError, match=message):
        plain_state(content, source="x")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"labels": "{"}, "its labels are not JSON"),
        ({"labels": "[{}]"}, "need 'label', 'name' and 'file_id'"),
        ({"spec": "3"}, "a model's spec is a JSON object, got '3'"),
    ],
)
def test_damaged_metadata_is_said(tmp_path, metadata, message):
    save_file(STATE, tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(UsageError, match=message):
        read_weights(tmp_path / "w.safetensors")


def test_save_checks_its_arguments(tmp_path):
    with pytest.raises(UsageError, match="a model of 2 classes needs as many labels, got 1"):
        save_weights(tiny_model(), tmp_path / "m.safetensors", labels=LabelMap.from_names(["cat"]))
    with pytest.raises(UsageError, match="there is no folder"):
        save_weights(tiny_model(), tmp_path / "none" / "m.safetensors")


@pytest.mark.slow
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "m.safetensors"
    save_weights(tiny_model(), path)
    script = (
        "import sys; from tests.models.tiny import tiny_model; from trivet.models.files import save_weights\n"
        "model = tiny_model(); print('ready', flush=True)\n"
        "while True: save_weights(model, sys.argv[1])"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        assert process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()
        process.communicate()
        assert read_weights(path).spec is not None


def test_wrapped_state_is_left_alone():
    content = {"state_dict": {"module.a": torch.ones(1)}}
    plain_state(content, source="x")
    assert list(content["state_dict"]) == ["module.a"]
    assert isinstance(nn.Linear(1, 1).state_dict(), dict)
