import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trivet.errors import UsageError
from trivet.models.build import build_model
from trivet.models.count import count_parameters
from trivet.models.necks.deconvnet import DeconvNet, unpool
from trivet.structures import FeatureSpec

VGG = tuple(FeatureSpec(channels, 2**level) for level, channels in enumerate((64, 128, 256, 512, 512)))
TINY = tuple(FeatureSpec(channels, 2**level) for level, channels in enumerate((2, 3, 4, 5, 5)))


def tiny(**options):
    torch.manual_seed(0)
    return DeconvNet(TINY, **{"hidden": 6, **options})


def pyramid(size_hw, *, rounded="up", batch=2):
    torch.manual_seed(1)
    sizes = [size_hw]
    for _ in TINY[1:]:
        sizes.append(tuple((side + (rounded == "up")) // 2 for side in sizes[-1]))
    return [torch.randn(batch, f.channels, *size) for f, size in zip(TINY, sizes, strict=True)]


@given(height=st.integers(1, 17), width=st.integers(1, 17), ceil_mode=st.booleans(), seed=st.integers(0, 99))
def test_unpooling_is_torchs(height, width, ceil_mode, seed):
    ceil_mode = ceil_mode or min(height, width) == 1  # rounding down, nothing would be left
    torch.manual_seed(seed)
    x = torch.randn(2, 3, height, width)
    pooled, switches = F.max_pool2d(x, 2, ceil_mode=ceil_mode, return_indices=True)
    expected = F.max_unpool2d(pooled, switches, 2, output_size=(height, width))
    assert torch.equal(unpool(pooled, switches, (height, width)), expected)


def test_unpooling_by_hand():
    x = torch.tensor([[1.0, 5.0, 2.0], [3.0, 4.0, 9.0], [8.0, 7.0, 6.0]]).view(1, 1, 3, 3)
    pooled, switches = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    assert pooled.flatten().tolist() == [5.0, 9.0, 8.0, 6.0]
    back = unpool(pooled * 10, switches, (3, 3))
    assert back[0, 0].tolist() == [[0.0, 50.0, 0.0], [0.0, 0.0, 90.0], [80.0, 0.0, 60.0]]


def test_unpooling_keeps_half_precision_and_sends_gradients_back():
    x = torch.randn(1, 2, 4, 4, dtype=torch.bfloat16)
    pooled, switches = F.max_pool2d(x.float(), 2, return_indices=True)
    values = pooled.bfloat16().requires_grad_()
    result = unpool(values, switches, (4, 4))
    assert result.dtype == torch.bfloat16
    (result * torch.arange(16).view(4, 4)).sum().backward()
    assert torch.equal(values.grad, switches.bfloat16())


def layers(neck):
    """(kind, in, out, kernel, padding) of each convolution in the order in which data meets them."""
    parts = [neck.fc6, neck.fc7, neck.deconv6, *reversed(neck.blocks)]
    return [
        (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0], m.padding[0])
        for part in parts
        for m in part.modules()
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))
    ]


def test_layers_as_published():
    with torch.device("meta"):
        neck = DeconvNet(VGG)
    decoder = [(512, 512)] * 3 + [(512, 512), (512, 512), (512, 256)] + [(256, 256), (256, 256), (256, 128)]
    decoder += [(128, 128), (128, 64), (64, 64), (64, 64)]
    assert layers(neck) == [
        ("Conv2d", 512, 4096, 7, 0),
        ("Conv2d", 4096, 4096, 1, 0),
        ("ConvTranspose2d", 4096, 512, 7, 0),
        *(("ConvTranspose2d", before, after, 3, 1) for before, after in decoder),
    ]
    assert neck.features == (FeatureSpec(64, 1),)
    with_norm = [m for m in neck.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(with_norm) == len(layers(neck)) == 16
    assert all((m.eps, m.momentum) == (1e-5, 0.1) for m in with_norm)
    weights = sum(before * after * kernel**2 for _, before, after, kernel, _ in layers(neck))
    vectors = sum(3 * after for _, _, after, _, _ in layers(neck))  # bias, and the norm's scale and shift
    assert count_parameters(neck) == weights + vectors == 237_081_152


def test_starts_as_published():
    torch.manual_seed(0)
    neck = DeconvNet(tuple(FeatureSpec(32, 2**level) for level in range(5)), hidden=32)
    deconvs = [m for m in neck.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert all(float(m.weight.detach().std()) == pytest.approx(0.01, rel=0.05) for m in deconvs)
    norms = [m for m in neck.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(torch.equal(m.bias, torch.full_like(m.bias, 0.001)) for m in norms)


@pytest.mark.parametrize("rounded", ["up", "down"])
@pytest.mark.parametrize("size_hw", [(16, 16), (224, 32), (35, 50), (61, 17)], ids=str)
def test_returns_to_the_finest_maps_size(size_hw, rounded):
    (x,) = tiny().eval()(pyramid(size_hw, rounded=rounded))
    assert x.shape == (2, 2, *size_hw)


def test_a_single_pixel_goes_through():
    assert tiny().eval()(pyramid((1, 1)))[0].shape == (2, 2, 1, 1)


def test_a_last_map_of_the_kernels_size_is_not_padded():
    """224 pixels make 7 cells after five poolings: the middle sees exactly the last pooled map, and one cell comes out of fc6."""
    neck = tiny().eval()
    seen = {}
    neck.fc6.register_forward_hook(lambda _, inputs, result: seen.update(fc6=(inputs[0], result)))
    maps = pyramid((224, 224), batch=1)
    neck(maps)
    assert torch.equal(seen["fc6"][0], F.max_pool2d(maps[-1], 2))
    assert seen["fc6"][1].shape[-2:] == (1, 1)


def test_each_stage_by_hand():
    neck = tiny(block_layers=(1, 1, 1, 1, 1)).eval()
    maps = pyramid((224, 256), batch=1)

    def run(layer, x):
        return layer.activation(layer.norm(layer.conv(x)))

    pools = [F.max_pool2d(x, 2, return_indices=True) for x in maps]
    x = run(neck.deconv6, run(neck.fc7, run(neck.fc6, pools[-1][0])))
    for (_, switches), block, finer in reversed(list(zip(pools, neck.blocks, maps, strict=True))):
        x = run(block[0], F.max_unpool2d(x, switches, 2, output_size=finer.shape[-2:]))
    torch.testing.assert_close(neck(maps)[0], x)


def test_width_shrinks_the_hidden_layers():
    assert tiny(hidden=64, width=0.25).fc7.conv.out_channels == 16


def test_knows_which_classifier_layers_it_is_made_of():
    with torch.device("meta"):
        full, thin = DeconvNet(VGG), DeconvNet(VGG, hidden=256)
    assert full.weight_names["fc6.conv.weight"] == ("pre_logits.fc1.weight", "classifier.0.weight")
    assert full.weight_names["fc7.conv.bias"] == ("pre_logits.fc2.bias", "classifier.3.bias")
    assert set(full.weight_names) <= full.state_dict().keys()
    assert thin.weight_names == {}


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
@pytest.mark.parametrize("size_hw", [(64, 64), (65, 49)], ids=str)
def test_other_backbones(backbone, size_hw):
    """Maps may halve rounding up (residual networks) or down (ConvNeXt), and start at any stride."""
    options = {"levels": (2, 5), "block_layers": (1, 1, 1, 2), "hidden": 8, "mask_layers": 0}
    model = build_model(backbone=backbone, neck="deconvnet", head="semantic", classes=2, **options).eval()
    images = torch.randn(1, 3, *size_hw)
    assert model(images).shape[-2:] == (-(-size_hw[0] // 4), -(-size_hw[1] // 4))
    maps = model.backbone(images)
    assert model.neck(maps)[0].shape[-2:] == maps[0].shape[-2:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block_layers": (1, 2)}, r"for each of the backbone's 5 levels, got \(1, 2\)"),
        ({"block_layers": (1, 1, 1, 1, 0)}, r"at least 1 .* got \(1, 1, 1, 1, 0\)"),
        ({"width": 0.0}, "hidden x width of at least 1, got 6 x 0.0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        tiny(**arguments)


def test_levels_without_a_gap():
    with pytest.raises(UsageError, match=r"backbone gives levels \[0, 2\]"):
        DeconvNet((FeatureSpec(2, 1), FeatureSpec(2, 4)), block_layers=(1, 1))
