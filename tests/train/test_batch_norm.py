import pytest
from torch import nn

from tests.train.tiny import TinyModel
from trivet.train.batch_norm import adapt_momentum, hold_statistics


@pytest.mark.parametrize("steps", [10, 100, 1000, 100_000])
def test_statistics_settle_within_the_budget(steps):
    norm = nn.BatchNorm2d(2, momentum=0.01)
    momentum = adapt_momentum(norm, steps)
    assert norm.momentum == momentum
    assert 0.01 <= momentum <= 0.1
    assert (1 - momentum) ** steps < (0.5 if steps == 10 else 0.02)


def test_no_momentum_is_lowered():
    model = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3), nn.BatchNorm2d(2, momentum=None))
    adapt_momentum(model, 10_000)
    assert model[0].momentum == 0.3
    assert model[1].momentum is None


@pytest.mark.parametrize(
    ("policy", "backbone_frozen", "learns"),
    [
        ("adapt", False, {"backbone": True, "head": True}),
        ("as-built", True, {"backbone": False, "head": True}),
        ("frozen-backbone", False, {"backbone": False, "head": True}),
        ("frozen", False, {"backbone": False, "head": False}),
    ],
)
def test_policies(policy, backbone_frozen, learns):
    model = TinyModel()
    model.head = nn.Sequential(nn.BatchNorm2d(4), model.head)
    model.train()
    hold_statistics(model, policy, backbone_frozen=backbone_frozen)
    assert {"backbone": model.backbone[1].training, "head": model.head[0].training} == learns
