"""What is remembered of an operator is what PyTorch finds anew."""

import pytest
import torch
from torch import nn

from trivet.memory import plan_memory
from trivet.memory.remembered import Remembered


class Mixed(nn.Module):
    """Convolutions, norms, views, sums in place, a recurrent layer and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(inplace=True))
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.rows = nn.GRU(8, 8, batch_first=True)
        self.look = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, images):
        maps = self.stem(images)
        for _ in range(3):  # the same operators on the same shapes: these come from memory
            maps = maps + self.again(maps).sigmoid_()
        rows = maps.flatten(2).transpose(1, 2)[:, ::128]
        rows, _ = self.rows(rows)
        rows, _ = self.look(rows, rows, rows)
        low, high = rows.detach().chunk(2, dim=1)
        return rows, torch.maximum(low, high[:, : low.shape[1]])


def _ledger(optimizer):
    plan = plan_memory(
        Mixed(), torch.empty(1, 3, 34, 34), lambda out: (out[0].sum(1) * out[1].mean(1)).sum(), optimizer
    )
    return plan.curve.ledger


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adagrad])
def test_a_step_is_the_same_with_and_without_memory(optimizer, monkeypatch):
    quick, again = _ledger(optimizer), _ledger(optimizer)
    monkeypatch.setattr(Remembered, "call", lambda self, func, args, kwargs, mode: func(*args, **kwargs))
    plain = _ledger(optimizer)
    assert quick.storages == plain.storages
    assert again.storages == plain.storages
    assert quick.phases == plain.phases
