"""What every published segmenter must do; the large ones at a sixteenth of their width."""

import pytest
import torch
from torch import nn

from trivet.models.build import build_model, load_model
from trivet.models.count import count_model, count_parameters
from trivet.models.weights import save_weights
from trivet.models.zoo import ZOO, zoo_names
from trivet.models.zoo_segmentation import SEGMENTERS
from trivet.structures import LabelMap

THIN = {name: {"width": 1 / 16} for name, entry in SEGMENTERS.items() if entry.backbone.startswith("vgg")}
STRIDES = {"deconvnet_vgg16": 1, "deconvnet_vgg16_bn": 1, "deeplabv1_vgg16": 8}


def thin(name, **options):
    torch.manual_seed(0)
    return build_model(name, classes=3, **{**THIN.get(name, {}), **options})


def full(name):
    with torch.device("meta"):
        return build_model(name)


@pytest.fixture(scope="module", params=SEGMENTERS)
def segmenter(request):
    return request.param, thin(request.param)


@pytest.mark.parametrize("size_hw", [(64, 64), (65, 97), (90, 33), (7, 5)], ids=str)
def test_any_size(segmenter, size_hw):
    name, model = segmenter
    stride = STRIDES.get(name, 4)
    with torch.no_grad():
        output = model.eval()(torch.randn(2, 3, *size_hw))
    assert output.shape == (2, 3, -(-size_hw[0] // stride), -(-size_hw[1] // stride))
    assert output.isfinite().all()
    assert getattr(model.head, "stride", None) == stride
    assert model.task == "segmentation"


def test_gradient_reaches_every_parameter(segmenter):
    _, model = segmenter
    model.zero_grad()
    output = model.train()(torch.randn(2, 3, 96, 72))
    (output * torch.randn_like(output)).sum().backward()
    assert not [
        key
        for key, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]


def test_evaluation_repeats_and_sees_each_image_alone(segmenter):
    _, model = segmenter
    images = torch.randn(2, 3, 65, 64)
    with torch.no_grad():
        first, again = model.eval()(images), model(images)
        alone = model(images[1:])
    assert torch.equal(first, again)
    torch.testing.assert_close(alone, first[1:], rtol=1e-4, atol=1e-5)


def test_weights_survive_a_file(segmenter, tmp_path):
    _, model = segmenter
    labels = LabelMap.from_names(["road", "sky", "tree"])
    save_weights(model, tmp_path / "m.safetensors", labels=labels)
    again, written = load_model(tmp_path / "m.safetensors")
    assert (again.spec, written) == (model.spec, labels)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_mixed_precision(segmenter):
    _, model = segmenter
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.eval()(torch.randn(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize("name", SEGMENTERS)
def test_size_is_as_stated(name):
    entry, model = ZOO[name], full(name)
    count = count_model(model, (entry.size, entry.size))
    assert count.parameters == entry.parameters
    assert count.macs / 1e9 == pytest.approx(entry.gmacs, rel=0.001)
    assert model.spec.size_hw == (entry.size, entry.size)
    assert (entry.task, model.spec.classes) == ("segmentation", 21)


BLOCKS = [(3, (64, 64)), (64, (128, 128)), (128, (256,) * 3), (256, (512,) * 3), (512, (512,) * 3)]


def conv(before, after, kernel=3, *, norm=True):
    return before * after * kernel**2 + after + 2 * after * norm


def vgg(*, norm):
    return sum(
        conv(before, after, norm=norm)
        for entering, block in BLOCKS
        for before, after in zip((entering, *block), block, strict=False)
    )


@pytest.mark.parametrize(("name", "norm"), [("deconvnet_vgg16", False), ("deconvnet_vgg16_bn", True)])
def test_deconvnet_has_the_published_size(name, norm):
    """251.8 million: encoder 14.7, fc6 102.8, fc7 16.8, its way back 102.8, decoder 14.7; 65.5 GFLOP at 224."""
    model = full(name)
    decoder = [*zip([512] * 6, [512] * 5 + [256], strict=True), *zip([256] * 3, [256, 256, 128], strict=True)]
    decoder += [(128, 128), (128, 64), (64, 64), (64, 64)]
    parts = {
        "backbone": vgg(norm=norm),
        "neck.fc6": conv(512, 4096, 7),
        "neck.fc7": conv(4096, 4096, 1),
        "neck.deconv6": conv(4096, 512, 7),
        "neck.blocks": sum(conv(before, after) for before, after in decoder),
        "head": 64 * 21 + 21,
    }
    assert {part: count_parameters(model.get_submodule(part)) for part in parts} == parts
    assert ZOO[name].parameters == sum(parts.values())
    assert round(sum(parts.values()) / 1e6, 1) == 251.8
    assert 2 * count_model(model, (224, 224)).macs / 1e9 == pytest.approx(65.5, abs=0.05)


def test_deeplab_has_the_published_size():
    head = conv(512, 1024, norm=False) + conv(1024, 1024, 1, norm=False) + conv(1024, 21, 1, norm=False)
    assert ZOO["deeplabv1_vgg16"].parameters == vgg(norm=False) + head == 20_505_429


def test_deeplab_scores_41_cells_for_321_pixels():
    with torch.no_grad():
        assert thin("deeplabv1_vgg16").eval()(torch.zeros(1, 3, 321, 321)).shape[-2:] == (41, 41)


@pytest.mark.parametrize("name", THIN)
def test_width_shrinks_every_layer(name):
    def shapes(width):
        with torch.device("meta"):
            model = build_model(name, classes=3, width=width)
        return [
            (m.in_channels, m.out_channels)
            for m in model.modules()
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))
        ]

    whole, quarter = shapes(1.0), shapes(0.25)
    assert quarter[0] == (3, 16)
    assert quarter[1:-1] == [(before // 4, after // 4) for before, after in whole[1:-1]]
    assert quarter[-1] == (whole[-1][0] // 4, 3)


@pytest.mark.parametrize("name", ["semantic_fpn_lite0", "semantic_bifpn_lite0"])
def test_parts_of_the_light_ones_can_be_changed(name):
    model = thin(name, backbone="test_resnet", levels=(3, 5), channels=8, mask_layers=2, merge="concat")
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 8, 8)


def test_a_head_by_name_brings_its_neck_and_levels():
    model = build_model(backbone="test_resnet", head="semantic", classes=2)
    assert (model.spec.neck, model.head.stride) == ("fpn", 4)
    deeplab = build_model(backbone="vgg16", head="large_fov", classes=2, width=1 / 16, atrous=True)
    assert (deeplab.spec.neck, deeplab.head.stride) == ("none", 8)


def test_the_zoo_lists_them():
    assert zoo_names("segmentation") == list(SEGMENTERS)
