import pytest
import timm
import torch
from torch import nn

from trivet.errors import UsageError
from trivet.models.vgg import BACKBONES, VGG16
from trivet.structures import FeatureSpec

CHANNELS = (64, 128, 256, 512, 512, 512)


def convolutions(net):
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("name", BACKBONES)
def test_is_timms_network(name):
    """Same names, same maps: on sides that halve exactly, where rounding down and up are one."""
    ours = BACKBONES[name](levels=(0, 5)).eval()
    with torch.device("meta"):  # timm starts 138 million weights, most of them thrown away at once
        theirs = timm.create_model(name, features_only=True, out_indices=(0, 1, 2, 3, 4, 5)).eval()
    state = {key.replace("body.features.", "features_"): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        expected, maps = theirs(images), ours(images)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert [feature.channels for feature in ours.features] == theirs.feature_info.channels()
    assert [feature.stride for feature in ours.features] == theirs.feature_info.reduction()
    assert (ours.mean, ours.std) == (theirs.pretrained_cfg["mean"], theirs.pretrained_cfg["std"])


def test_ends_at_the_coarsest_level_asked_for():
    with torch.device("meta"):
        net = VGG16(levels=(0, 4))
    assert net.features == tuple(FeatureSpec(c, 2**level) for level, c in enumerate(CHANNELS[:5]))
    assert len(convolutions(net)) == 13
    assert sum(isinstance(module, nn.MaxPool2d) for module in net.modules()) == 4


@pytest.mark.parametrize("size_hw", [(32, 48), (33, 49), (1, 1)], ids=str)
def test_sides_are_halved_rounding_up(size_hw):
    net = VGG16(levels=(0, 5), width=1 / 32)
    expected = [tuple(-(-side // stride) for side in size_hw) for stride in (1, 2, 4, 8, 16, 32)]
    assert [tuple(x.shape[-2:]) for x in net(torch.randn(1, 3, *size_hw))] == expected


@pytest.mark.parametrize("side", [321, 33, 40, 1])
def test_atrous_ends_at_stride_8(side):
    net = VGG16(levels=(3, 3), atrous=True, width=1 / 32)
    assert net.features == (FeatureSpec(16, 8),)
    assert net(torch.randn(1, 3, side, side))[0].shape[-2:] == (-(-side // 8), -(-side // 8))


def test_atrous_layers_as_published():
    with torch.device("meta"):
        net = VGG16(levels=(3, 3), atrous=True)
    pools = [module for module in net.modules() if isinstance(module, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [
        (3, 2, 1),
        (3, 2, 1),
        (3, 2, 1),
        (3, 1, 1),
        (3, 1, 1),
    ]
    assert [conv.dilation[0] for conv in convolutions(net)] == [1] * 10 + [2] * 3
    assert all(conv.padding == conv.dilation for conv in convolutions(net))


def test_width_shrinks_every_layer():
    full, thin = VGG16(width=1 / 8), VGG16(width=1 / 16)
    assert [c.out_channels for c in convolutions(full)] == [2 * c.out_channels for c in convolutions(thin)]
    assert thin.features[-1].channels == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (6, 7)}, r"none of them within levels 6 to 7 \(strides 64 to 128\)"),
        ({"levels": (4, 5), "atrous": True}, r"maps of strides \[1, 2, 4, 8\]"),
        ({"width": 0.001}, "a VGG-16 of width 0.001 has no channels"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message), torch.device("meta"):
        VGG16(**arguments)
