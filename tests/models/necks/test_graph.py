import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.errors import UsageError
from trivet.models.necks import NECKS
from trivet.models.necks.graph import Fuse, Plan, Resample
from trivet.structures import FeatureSpec

FEATURES = (FeatureSpec(8, 8), FeatureSpec(12, 16), FeatureSpec(16, 32))


@given(st.lists(st.floats(-1, 3), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_fast_fusion_divides_clipped_weights_by_their_sum(weights):
    fuse = Fuse(len(weights), "fast")
    fuse.weights.data = torch.tensor(weights)
    maps = [torch.randn(1, 2, 3, 3) for _ in weights]
    clipped = [max(weight, 0.0) for weight in weights]
    expected = sum(x * weight / (sum(clipped) + 1e-4) for x, weight in zip(maps, clipped, strict=True))
    torch.testing.assert_close(fuse(maps), expected)


def test_softmax_fusion():
    fuse = Fuse(2, "softmax")
    fuse.weights.data = torch.tensor([0.0, 1.0])
    maps = [torch.randn(1, 2, 3, 3) for _ in range(2)]
    share = torch.tensor(1.0).sigmoid()
    torch.testing.assert_close(fuse(maps), maps[0] * (1 - share) + maps[1] * share)


def test_sum_fusion_has_no_weights():
    fuse = Fuse(3, "sum")
    maps = [torch.randn(1, 2, 3, 3) for _ in range(3)]
    assert not list(fuse.parameters())
    torch.testing.assert_close(fuse(maps), torch.stack(maps).sum(0))


@pytest.mark.parametrize("fusion", ["fast", "softmax"])
def test_fusion_weights_start_equal(fusion):
    assert torch.equal(Fuse(3, fusion).weights, torch.ones(3))


def test_enlarges_by_the_nearest_pixel():
    x = torch.randn(1, 2, 3, 4)
    resample = Resample(downsample="pool", upsample="nearest", padding="same")
    assert torch.equal(resample(x, (5, 8)), F.interpolate(x, (5, 8)))


@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=60, deadline=None)
def test_reaches_any_size_in_every_mode(here, there):
    for downsample in ("pool", "bilinear", "nearest"):
        resample = Resample(downsample=downsample, upsample="bilinear", padding="symmetric")
        assert resample(torch.zeros(1, 1, *here), there).shape[2:] == there


def test_equal_size_is_left_alone():
    x = torch.randn(1, 1, 4, 4)
    assert Resample(downsample="pool", upsample="nearest", padding="same")(x, (4, 4)) is x


def test_projects_a_map_once_for_each_node_that_takes_it():
    """P4 and P5 enter two nodes of the first layer with different weights (EfficientDet's released models)."""
    neck = NECKS["bifpn"](FEATURES, channels=10, layers=2)
    projected = [sorted(node.project) for node in neck.layers[0].nodes]
    assert projected == [[], ["2"], ["1"], ["0"], ["1"], ["2"], [], []]
    assert not any(len(node.project) for node in neck.layers[1].nodes)
    assert list(neck.extra) == ["p6"]


def test_plan_numbers_maps():
    plan = Plan(3, 5)
    assert [plan.source(level) for level in plan.levels] == [0, 1, 2]
    assert plan.add(4, 1, 2) == 3
    assert plan.add(3, 0, 3) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "fats"}, "unknown fusion 'fats'; did you mean 'fast'"),
        ({"downsample": "max"}, "unknown downsample 'max'"),
        ({"upsample": "neerest"}, "unknown upsample 'neerest'; did you mean 'nearest'"),
        ({"layers": 0}, "layers and channels of at least 1, got 0 and 64"),
        ({"levels": (5, 5)}, r"at least two levels, got \(5, 5\)"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        NECKS["bifpn"](FEATURES, **options)
