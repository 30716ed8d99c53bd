import pytest
import timm
import torch
from torch import nn

from trivet.errors import UsageError
from trivet.models.count import count_parameters
from trivet.models.csp_darknet import ConvUnit, CSPDarknet53
from trivet.structures import FeatureSpec

# Parameters of the stem with the first stage and of the others, as counted in another port of YOLOv4.
PUBLISHED = (61_152, 193_920, 1_758_976, 7_024_128, 17_579_008)


def timm_state(net: CSPDarknet53) -> dict[str, torch.Tensor]:
    """Return our weights under timm's names: it has one convolution for both branches and joins the short one first."""
    found = {}

    def put(theirs: str, *units: ConvUnit, swap: bool = False) -> None:
        weight = torch.cat([unit.conv.full.weight for unit in units])
        found[f"{theirs}.conv.weight"] = torch.cat(weight.chunk(2, dim=1)[::-1], dim=1) if swap else weight
        for name in ("weight", "bias", "running_mean", "running_var"):
            found[f"{theirs}.bn.{name}"] = torch.cat([getattr(unit.conv.norm, name) for unit in units])

    put("stem_conv1", net.stem)
    for number, stage in enumerate(net.stages):
        at = f"stages_{number}"
        put(f"{at}.conv_down", stage.down)
        put(f"{at}.conv_exp", stage.short, stage.enter)
        for block, residual in enumerate(stage.blocks):
            put(f"{at}.blocks.{block}.conv1", residual.reduce)
            put(f"{at}.blocks.{block}.conv2", residual.expand)
        put(f"{at}.conv_transition_b", stage.leave)
        put(f"{at}.conv_transition", stage.join, swap=True)
    return found


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    net = CSPDarknet53(levels=(1, 5)).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


@torch.no_grad()
def test_is_timms_network_with_mish(whole):
    theirs = timm.create_model(
        "cspdarknet53", features_only=True, out_indices=(1, 2, 3, 4, 5), act_layer="mish"
    ).eval()
    theirs.load_state_dict(timm_state(whole), strict=False)
    assert theirs.state_dict().keys() - timm_state(whole).keys() == {
        key for key in theirs.state_dict() if key.endswith("num_batches_tracked")
    }
    images = torch.rand(1, 3, 64, 96)
    for ours, wanted in zip(whole(images), theirs(images), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_has_the_published_size(whole):
    counts = [count_parameters(stage) for stage in whole.stages]
    counts[0] += count_parameters(whole.stem)
    assert tuple(counts) == PUBLISHED
    assert sum(counts) == 26_617_184
    assert sum(isinstance(module, nn.Conv2d) for module in whole.modules()) == 72
    assert {type(unit.activation) for unit in whole.modules() if isinstance(unit, ConvUnit)} == {nn.Mish}
    assert whole.features == tuple(FeatureSpec(64 * 2**i, 2 ** (i + 1)) for i in range(5))


@pytest.mark.parametrize("size_hw", [(64, 64), (65, 97), (33, 200), (1, 1)], ids=str)
def test_halves_any_size_rounding_up(size_hw):
    net = CSPDarknet53(width=0.125, depth=0.1).eval()
    maps = net(torch.zeros(1, 3, *size_hw))
    assert [tuple(x.shape[2:]) for x in maps] == [
        tuple(-(-side // stride) for side in size_hw) for stride in (8, 16, 32)
    ]


def test_width_and_depth_shrink_it():
    net = CSPDarknet53(width=0.25, depth=0.34)
    assert [feature.channels for feature in net.features] == [64, 128, 256]
    assert [len(stage.blocks) for stage in net.stages] == [1, 1, 3, 3, 1]


def test_stages_coarser_than_wanted_are_left_out():
    assert len(CSPDarknet53(levels=(2, 3), width=0.125).stages) == 3


@pytest.mark.parametrize("norm", ["gn", "frozen_bn"])
def test_every_norm_is_of_the_kind_asked_for(norm):
    net = CSPDarknet53(width=0.125, depth=0.1, norm=norm)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (6, 7)}, "maps of levels 1 to 5, none of them within levels 6 to 7"),
        ({"width": 0.0}, r"width and depth above 0, got width=0\.0"),
        ({"depth": -1.0}, r"depth=-1\.0"),
        ({"width": float("inf")}, "width=inf"),
    ],
)
def test_refuses_what_makes_no_network(options, message):
    with pytest.raises(UsageError, match=message):
        CSPDarknet53(**options)
