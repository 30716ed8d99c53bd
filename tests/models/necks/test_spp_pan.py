import pytest
import torch
import torch.nn.functional as F

from trivet.errors import UsageError
from trivet.models.necks.spp_pan import PyramidPooling, SppPan
from trivet.structures import FeatureSpec

FEATURES = (FeatureSpec(16, 8), FeatureSpec(32, 16), FeatureSpec(64, 32))


def test_halves_the_backbones_channels():
    assert SppPan(FEATURES).features == (FeatureSpec(8, 8), FeatureSpec(16, 16), FeatureSpec(32, 32))


def test_pooling_takes_the_largest_around_each_cell_in_darknets_order():
    x = torch.randn(1, 2, 7, 9)
    pooled = PyramidPooling()(x)
    assert torch.equal(pooled[:, 6:], x)
    for number, side in enumerate((13, 9, 5)):
        padded = F.pad(x, [side // 2] * 4, value=-torch.inf)
        wanted = padded.unfold(2, side, 1).unfold(3, side, 1).amax(dim=(-2, -1))
        assert torch.equal(pooled[:, 2 * number : 2 * number + 2], wanted)


def test_refuses_a_single_level():
    with pytest.raises(UsageError, match=r"needs at least two levels, got \(3, 3\)"):
        SppPan(FEATURES, levels=(3, 3))
