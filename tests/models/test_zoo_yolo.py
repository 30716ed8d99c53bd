"""What YOLOv4 must do as a whole; at an eighth of its width."""

import pytest
import torch
from torch import nn

from trivet.models.blocks import FrozenBatchNorm
from trivet.models.build import build_model, load_model
from trivet.models.count import count_model
from trivet.models.kernels import use_fast_kernels
from trivet.models.weights import save_weights
from trivet.models.zoo import ZOO, zoo_names
from trivet.models.zoo_yolo import YOLOS
from trivet.structures import LabelMap


def thin(name="yolov4", **options):
    torch.manual_seed(0)
    return build_model(name, **{"classes": 3, "width": 0.125, "depth": 0.25, **options})


@pytest.fixture(scope="module", params=YOLOS)
def model(request):
    return thin(request.param)


@pytest.mark.parametrize("size_hw", [(64, 64), (65, 97), (90, 33), (7, 5)], ids=str)
def test_any_size(model, size_hw):
    with torch.no_grad():
        output = model.eval()(torch.rand(2, 3, *size_hw))
    spec = model.anchor_spec
    for level, logits, deltas, sure in zip(spec.levels, *output, strict=True):
        cells = tuple(-(-side // 2**level) for side in size_hw)
        assert tuple(logits.shape) == (2, spec.per_cell * 3, *cells)
        assert tuple(deltas.shape) == (2, spec.per_cell * 4, *cells)
        assert tuple(sure.shape) == (2, spec.per_cell, *cells)


def test_gradient_reaches_every_parameter(model):
    model.zero_grad()
    output = model.train()(torch.rand(2, 3, 96, 64))
    sum((one * torch.randn_like(one)).sum() for level in output for one in level).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_evaluation_repeats_and_sees_each_image_alone(model):
    images = torch.rand(2, 3, 65, 64)
    with torch.no_grad():
        first, again = model.eval()(images), model(images)
        alone = model(images[1:])
    assert all(
        torch.equal(a, b)
        for one, other in zip(first, again, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    torch.testing.assert_close(alone.box_deltas[0], first.box_deltas[0][1:], rtol=1e-4, atol=1e-5)


def test_weights_survive_a_file(model, tmp_path):
    labels = LabelMap.from_names(["car", "bus", "bicycle"])
    save_weights(model, tmp_path / "m.safetensors", labels=labels)
    again, written = load_model(tmp_path / "m.safetensors")
    assert (again.spec, written) == (model.spec, labels)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_mixed_precision(model):
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = model.eval()(torch.rand(1, 3, 64, 64))
    assert all(one.isfinite().all() for level in output for one in level)


def test_starts_without_a_false_alarm_and_with_darknets_pictures(model):
    with torch.no_grad():
        output = model.eval()(torch.rand(1, 3, 64, 64))
    assert max(float(sure.sigmoid().max()) for sure in output.objectness) < 0.05
    assert (model.spec.mean, model.spec.std, model.fill_rgb) == ((0,) * 3, (1,) * 3, (128,) * 3)


@pytest.mark.parametrize("size", [(512, 91.1), (416, 60.1), (320, 35.5)])
def test_multiply_adds_are_those_of_the_readme_at_every_size(size):
    side, published = size
    with torch.device("meta"):
        whole = build_model("yolov4")
    assert 2 * count_model(whole, (side, side)).macs / 1e9 == pytest.approx(published, rel=0.005)


def test_parts_have_the_published_sizes():
    with torch.device("meta"):
        whole = build_model("yolov4")
    parts = count_model(whole, (608, 608)).by_part
    assert parts["backbone"][0] == 26_617_184
    # another port counts the way up, and one 1x1 convolution before it, to the head: together they are the same
    assert parts["neck"][0] + parts["head"][0] == 15_842_048 + 21_903_869


@pytest.mark.parametrize(("norm", "kind"), [("gn", nn.GroupNorm), ("frozen_bn", FrozenBatchNorm)])
def test_other_norms_reach_every_part(norm, kind):
    model = thin(norm=norm).train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for part in ("backbone", "neck", "head"):
        assert any(isinstance(module, kind) for module in model.get_submodule(part).modules())
    output = model(torch.rand(1, 3, 64, 64))
    sum(one.square().sum() for level in output for one in level).backward()


def test_compiled_kernels_change_no_output():
    plain, fast = (thin().to(memory_format=torch.channels_last).train() for _ in range(2))
    use_fast_kernels(fast)
    images = torch.rand(2, 3, 64, 64).to(memory_format=torch.channels_last)
    for one, other in zip(plain(images), fast(images), strict=True):
        for wanted, found in zip(one, other, strict=True):
            assert float((wanted - found).detach().norm()) < 0.01 * float(wanted.detach().norm())


def test_the_parts_serve_others():
    model = build_model(backbone="test_resnet", head="yolo", classes=2)
    assert (model.spec.neck, model.anchor_spec.levels) == ("spp_pan", range(3, 6))
    mixed = build_model(
        backbone="cspdarknet53_mish", neck="bifpn", classes=2, width=0.125, channels=16, layers=1
    )
    assert mixed.task == "detection"


def test_the_zoo_lists_it():
    assert set(YOLOS) <= set(zoo_names("detection"))
    assert ZOO["yolov4"].classes == build_model("yolov4", width=0.125, depth=0.1).spec.classes == 80
