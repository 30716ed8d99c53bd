"""The published models against effdet: the same numbers from the same weights."""

import json
from pathlib import Path

import pytest
import torch

from tests.models.oracle import effdet_net, formula_image, formula_state, largest_difference
from trivet.models.build import build_model
from trivet.models.weights import load_weights
from trivet.models.zoo import ZOO

GOLDEN = json.loads((Path(__file__).parent / "effdet_golden.json").read_text())
WHOLE_FAMILY = sorted(
    {
        id(entry): name
        for name, entry in reversed(ZOO.items())
        if entry.task == "detection" and entry.head == "anchor"
    }.values()
)


def compare(name: str, size_hw: tuple[int, int], *, formula: bool) -> float:
    torch.manual_seed(0)
    net = effdet_net(name, size_hw).eval()
    if formula:
        net.load_state_dict(formula_state(net.state_dict()))
    model = build_model(name).eval()
    report = load_weights(model, net.state_dict())
    assert report.layout == "effdet"
    assert len(report.kept) == len(net.state_dict())
    image = formula_image(size_hw)
    with torch.no_grad():
        return largest_difference(net(image), model(image))


@pytest.mark.parametrize(
    ("name", "size_hw", "formula"),
    [
        ("tf_efficientdet_d0", (128, 128), False),
        ("tf_efficientdet_d0", (100, 140), True),
        ("efficientdet_d0", (65, 97), True),
        ("tf_efficientdet_lite0", (128, 96), True),
    ],
)
def test_outputs_equal_effdets(name, size_hw, formula):
    assert compare(name, size_hw, formula=formula) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("size_hw", [(256, 256), (384, 256), (200, 264)], ids=str)
@pytest.mark.parametrize(
    "name",
    [f"tf_efficientdet_{size}" for size in ("d0", "d1", "d3", "d6", "d7", "d7x", "lite0", "lite3")]
    + ["efficientdet_d0", "efficientdet_d1", "efficientdet_d3"],
)
def test_outputs_equal_effdets_at_larger_sizes(name, size_hw):
    assert compare(name, size_hw, formula=True) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE_FAMILY)
def test_every_published_model_equals_effdets(name):
    assert compare(name, (136, 160), formula=True) < 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientdet_d0",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("efficientdet_d0", "tf_efficientdet_lite0")),
    ],
)
def test_training_mode_equals_effdets(name):
    """Same outputs and same running statistics: the momentum and eps of each part are right."""
    size_hw = (96, 128)
    net = effdet_net(name, size_hw, backbone_args={"drop_path_rate": 0.0}).train()
    net.load_state_dict(formula_state(net.state_dict()))
    model = build_model(name, drop_path=0.0).train()
    load_weights(model, net.state_dict())
    image = torch.cat([formula_image(size_hw), formula_image(size_hw).flip(-1)])
    with torch.no_grad():
        assert largest_difference(net(image), model(image)) < 1e-4
    ours = {key: value.clone() for key, value in model.state_dict().items()}
    load_weights(model, net.state_dict())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(key, marks=[] if key == "tf_efficientdet_d0@128" else pytest.mark.slow, id=key)
        for key in GOLDEN
    ],
)
def test_golden_values(case):
    golden = GOLDEN[case]
    name, size = case.split("@")[0], golden["size"]
    net_state = formula_state(effdet_net(name, (size, size)).state_dict())
    model = build_model(name).eval()
    load_weights(model, net_state)
    with torch.no_grad():
        maps = model.backbone(formula_image((size, size)))
        output = model.head(model.neck(maps))
    assert sum(parameter.numel() for parameter in model.parameters()) == golden["params"]
    for x, (shape, mean) in zip(maps, golden["backbone"], strict=True):
        assert list(x.shape) == shape
        assert float(x.double().abs().mean()) == pytest.approx(mean, rel=1e-4)
    for levels, kind in ((output.class_logits, "cls"), (output.box_deltas, "box")):
        assert levels[0].flatten()[:4].tolist() == pytest.approx(golden[f"{kind}_first"], abs=1e-5)
        for x, (shape, mean, size_mean) in zip(levels, golden[kind], strict=True):
            assert list(x.shape) == shape
            assert float(x.double().mean()) == pytest.approx(mean, abs=1e-6)
            assert float(x.double().abs().mean()) == pytest.approx(size_mean, rel=1e-4)


def test_levels_of_one_pixel_keep_their_size():
    """effdet leaves P8 at 1 x 2 where P7 is 1 x 2 (its anchors are for 1 x 1); here every level halves, rounding up."""
    model = build_model("tf_efficientdet_d0", classes=1, levels=(3, 8), layers=1).eval()
    with torch.no_grad():
        output = model(torch.zeros(1, 3, 100, 144))
    assert [tuple(x.shape[2:]) for x in output.class_logits] == [
        (13, 18),
        (7, 9),
        (4, 5),
        (2, 3),
        (1, 2),
        (1, 1),
    ]
