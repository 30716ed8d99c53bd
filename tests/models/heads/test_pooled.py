import pytest
import torch

from trivet.errors import UsageError
from trivet.models.heads.flat import FlatHead
from trivet.models.heads.pooled import PooledHead
from trivet.structures import FeatureSpec

PYRAMID = tuple(FeatureSpec(4, stride) for stride in (8, 16))
STAGES = (FeatureSpec(4, 8), FeatureSpec(6, 16))


def maps(features):
    return tuple(torch.randn(2, f.channels, 64 // f.stride, 64 // f.stride) for f in features)


@pytest.mark.parametrize(
    ("features", "pool", "width"),
    [(PYRAMID, "auto", 8), (STAGES, "auto", 6), (STAGES, "all", 10), (PYRAMID, "last", 4)],
)
def test_which_maps_are_pooled(features, pool, width):
    head = PooledHead(features, classes=3, pool=pool)
    given = maps(features)
    pooled = torch.cat([x.mean(dim=(2, 3)) for x in given], dim=1)[:, -width:]
    assert torch.allclose(head(given), pooled @ head.linear.weight.T + head.linear.bias, atol=1e-6)


def test_maximum_without_bias_and_scaled():
    head = PooledHead(STAGES, classes=3, pooling="maximum", linear_bias=False, logit_scale=0.5)
    given = maps(STAGES)
    assert torch.allclose(head(given), given[1].amax(dim=(2, 3)) @ head.linear.weight.T / 2, atol=1e-6)
    assert head.class_rows == {"linear.weight": 1}


def test_convolutions_come_before_pooling():
    head = PooledHead(PYRAMID, classes=3, layers=1, expand=9)
    assert head.linear.in_features == 18
    head(maps(PYRAMID)).sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_dropout_in_training_alone():
    head = PooledHead(STAGES, classes=3, dropout=0.5)
    given = maps(STAGES)
    assert not torch.equal(head(given), head(given))
    head.eval()
    assert torch.equal(head(given), head(given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "some"}, "unknown choice of pooled maps 'some'"),
        ({"pooling": "mean"}, "unknown pooling 'mean'"),
        ({"dropout": 1.0}, "dropout in \\[0, 1\\)"),
        ({"expand": 0}, "expand >= 1 or None"),
    ],
)
def test_wrong_options_of_a_pooled_head(options, message):
    with pytest.raises(UsageError, match=message):
        PooledHead(STAGES, classes=3, **options)


def test_a_flat_head_sees_where_things_are():
    head = FlatHead(STAGES, classes=3, grid_hw=(4, 4)).eval()
    given = maps(STAGES)
    assert torch.allclose(
        head(given), given[1].flatten(1) @ head.linear.weight.T + head.linear.bias, atol=1e-6
    )
    assert not torch.allclose(head(given), head([x.flip(-1) for x in given]))


def test_a_flat_head_takes_any_size():
    head = FlatHead(STAGES, classes=3, grid_hw=(2, 3), hidden=(5,), dropout=0.1)
    assert head((torch.randn(1, 4, 9, 9), torch.randn(1, 6, 5, 7))).shape == (1, 3)
    with pytest.raises(UsageError, match="of at least 1 and dropout"):
        FlatHead(STAGES, classes=3, hidden=(0,))
