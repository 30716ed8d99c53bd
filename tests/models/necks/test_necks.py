"""What every neck of the table must do."""

import pytest
import torch

from trivet.errors import UsageError
from trivet.models.blocks import Style
from trivet.models.necks import NECKS
from trivet.structures import FeatureSpec

FEATURES = (FeatureSpec(8, 4), FeatureSpec(12, 8), FeatureSpec(16, 16), FeatureSpec(24, 32))

PYRAMIDS = [name for name in NECKS if name not in ("none", "deconvnet")]


def maps_for(size_hw, *, batch=1, features=FEATURES):
    return [
        torch.randn(batch, f.channels, -(-size_hw[0] // f.stride), -(-size_hw[1] // f.stride))
        for f in features
    ]


def build(name, **options):
    torch.manual_seed(0)
    return NECKS[name](FEATURES, **{"channels": 16, "levels": (3, 6), **options})


@pytest.mark.parametrize("name", PYRAMIDS)
class TestEveryNeck:
    def test_publishes_what_it_returns(self, name):
        neck = build(name)
        assert neck.features == tuple(FeatureSpec(16, stride) for stride in (8, 16, 32, 64))

    @pytest.mark.parametrize("size_hw", [(128, 128), (65, 97), (33, 200), (1, 1)], ids=str)
    def test_halves_any_size_rounding_up(self, name, size_hw):
        maps = build(name).eval()(maps_for(size_hw))
        expected = [tuple(-(-side // stride) for side in size_hw) for stride in (8, 16, 32, 64)]
        assert [tuple(x.shape[2:]) for x in maps] == expected

    @pytest.mark.parametrize("levels", [(2, 5), (3, 5), (4, 7), (5, 8)], ids=str)
    def test_starts_and_ends_at_any_level(self, name, levels):
        neck = build(name, levels=levels).eval()
        assert [feature.level for feature in neck.features] == list(range(levels[0], levels[1] + 1))
        assert len(neck(maps_for((64, 64)))) == len(neck.features)

    def test_takes_maps_that_do_not_halve_exactly(self, name):
        """VGG pools without padding: 25 -> 12."""
        maps = [
            torch.randn(1, f.channels, side, side) for f, side in zip(FEATURES, (50, 25, 12, 6), strict=True)
        ]
        assert [x.shape[2] for x in build(name).eval()(maps)] == [25, 12, 6, 3]

    @pytest.mark.parametrize(
        "style", [Style(), Style(norm="gn", separable=False, redundant_bias=True, padding="same")]
    )
    def test_every_parameter_gets_a_gradient(self, name, style):
        neck = build(name, style=style)
        sum(x.square().sum() for x in neck(maps_for((64, 96), batch=2))).backward()
        without = [
            key
            for key, parameter in neck.named_parameters()
            if parameter.grad is None or not parameter.grad.any()
        ]
        # A convolution's bias just before a norm is redundant by design: its gradient is 0 up to rounding.
        assert not [key for key in without if not key.endswith(".bias")]

    def test_keeps_channels_last(self, name):
        neck = build(name).eval().to(memory_format=torch.channels_last)
        maps = [x.to(memory_format=torch.channels_last) for x in maps_for((64, 64))]
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in neck(maps)[:2])

    def test_state_survives_saving(self, name):
        first, second = build(name).eval(), NECKS[name](FEATURES, channels=16, levels=(3, 6)).eval()
        second.load_state_dict(first.state_dict())
        maps = maps_for((64, 64))
        assert all(torch.equal(a, b) for a, b in zip(first(maps), second(maps), strict=True))

    def test_says_which_level_the_backbone_lacks(self, name):
        with pytest.raises(
            UsageError, match=r"starts at level 1 \(stride 2\) but the backbone gives levels \[2, 3, 4, 5\]"
        ):
            build(name, levels=(1, 5))

    def test_refuses_no_channels(self, name):
        with pytest.raises(UsageError, match=r"channels of at least 1, got .*0"):
            build(name, channels=0)

    def test_runs_in_lower_precision(self, name):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert all(x.isfinite().all() for x in build(name)(maps_for((64, 64), batch=2)))
