import pytest
import timm

from tests.models.oracle import effdet_net
from trivet.errors import UsageError
from trivet.models.backbones import BACKBONES
from trivet.models.blocks import ACTIVATIONS
from trivet.models.build import build_model
from trivet.models.count import count_model
from trivet.models.heads import HEADS
from trivet.models.necks import NECKS
from trivet.models.zoo import ZOO, zoo_entry, zoo_names

DETECTORS = {name: ZOO[name] for name in zoo_names("detection")}
DISTINCT = sorted({id(entry): name for name, entry in reversed(DETECTORS.items())}.values())
EFFDETS = [name for name in DISTINCT if ZOO[name].head == "anchor"]
QUICK = {"tf_efficientdet_d0", "tf_efficientdet_lite0", "yolov4"}


@pytest.mark.parametrize("name", ZOO)
def test_entries_name_known_parts(name):
    entry = ZOO[name]
    assert entry.backbone in BACKBONES or timm.is_model(entry.backbone)
    assert entry.neck in NECKS
    assert entry.head in HEADS
    assert entry.options.get("activation", "silu") in ACTIVATIONS
    assert entry.source


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in DISTINCT]
)
def test_size_is_as_stated(name):
    entry = ZOO[name]
    model = build_model(name)
    count = count_model(model, (entry.size, entry.size))
    assert count.parameters == entry.parameters
    assert count.macs / 1e9 == pytest.approx(entry.gmacs, rel=0.001)
    assert model.spec.size_hw == (entry.size, entry.size)
    if entry.published_flops:
        assert count.macs / 1e9 == pytest.approx(entry.published_flops, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", EFFDETS)
def test_parameters_are_effdets(name):
    net = effdet_net(name, (256, 256))
    assert sum(parameter.numel() for parameter in net.parameters()) == ZOO[name].parameters


def test_spellings():
    assert ZOO["efficientdet_d7"] is ZOO["tf_efficientdet_d7"]
    assert ZOO["efficientdet_lite0"] is ZOO["tf_efficientdet_lite0"]
    assert ZOO["efficientdet_d0"] is not ZOO["tf_efficientdet_d0"]
    assert {
        "tf_efficientdet_d5_ap",
        "efficientdet_d0_ap",
        "efficientdet_lite3x",
        "efficientdet_lite4",
    } <= ZOO.keys()


def test_advprop_differs_in_pictures_alone():
    plain, advprop = build_model("tf_efficientdet_d0"), build_model("tf_efficientdet_d0_ap")
    assert [tuple(p.shape) for p in plain.parameters()] == [tuple(p.shape) for p in advprop.parameters()]
    assert (advprop.spec.mean, advprop.spec.std, advprop.fill_rgb) == ((0.5,) * 3, (0.5,) * 3, (0, 0, 0))
    assert plain.fill_rgb == (124, 116, 104)


@pytest.mark.parametrize(
    ("name", "scale", "levels"),
    [
        ("tf_efficientdet_d7", 5.0, (3, 7)),
        ("tf_efficientdet_d7x", 4.0, (3, 8)),
        ("efficientdet_lite0", 3.0, (3, 7)),
    ],
)
def test_anchors(name, scale, levels):
    options = zoo_entry(name).options
    assert options.get("anchor_scale", 4.0) == scale
    assert options.get("levels", (3, 7)) == levels


def test_unknown_name():
    with pytest.raises(UsageError, match="unknown model 'efficientdet_do'; did you mean 'efficientdet_d"):
        zoo_entry("efficientdet_do")


def test_names_by_task():
    assert zoo_names() == list(ZOO)
    assert "efficientdet_d0" in zoo_names("detection")
    assert not set(zoo_names("segmentation")) & set(zoo_names("detection"))
