import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from tests.models.tiny import OPTIONS, tiny_model
from trivet.errors import UsageError
from trivet.models.backbone import Backbone
from trivet.models.build import build_model, load_model
from trivet.models.heads import HEADS
from trivet.models.heads.anchor import AnchorHead
from trivet.models.necks import NECKS
from trivet.models.necks.fpn import FPN
from trivet.models.weights import save_weights
from trivet.structures import FeatureSpec, LabelMap

PYRAMIDS = [name for name in NECKS if name not in ("none", "deconvnet")]
DENSE = [name for name, head in HEADS.items() if head.task != "classification" and name != "large_fov"]


class LastMapOnly(nn.Module):
    """A neck from outside the package."""

    def __init__(self, features, *, enlarge: bool = False):
        super().__init__()
        self.features = (FeatureSpec(features[-1].channels, features[-1].stride),)
        self.enlarge = enlarge

    def forward(self, maps):
        return maps[-1:]


@pytest.mark.parametrize("neck", PYRAMIDS)
@pytest.mark.parametrize("head", DENSE)
@pytest.mark.parametrize("size_hw", [(64, 64), (65, 97)], ids=str)
def test_any_neck_with_any_head_trains_at_any_size(neck, head, size_hw):
    model = build_model(backbone="test_resnet", neck=neck, head=head, classes=3, channels=8).train()
    sum(x.square().sum() for x in tree_leaves(model(torch.randn(2, 3, *size_hw)))).backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("neck", PYRAMIDS)
def test_a_spec_makes_the_same_model(neck):
    model = build_model(backbone="test_resnet", neck=neck, classes=3, channels=8, norm="gn", anchor_scale=2.0)
    again = build_model(type(model.spec).from_json(model.spec.to_json()))
    assert again.spec == model.spec
    assert str(again) == str(model)
    assert again.fill_rgb == model.fill_rgb
    again.load_state_dict(model.state_dict())


def test_a_published_name_and_its_spec():
    model = build_model("tf_efficientdet_d0_ap", classes=4)
    assert (model.spec.name, model.spec.classes, model.spec.size_hw) == (
        "tf_efficientdet_d0_ap",
        4,
        (512, 512),
    )
    assert build_model(model.spec).spec == model.spec


def test_published_models_have_cocos_classes_by_default():
    assert build_model("efficientdet_lite0").head.classes == 90


def test_options_reach_the_part_that_knows_them():
    model = build_model(
        "efficientdet_lite0",
        classes=1,
        channels=16,
        layers=1,
        tower_layers=2,
        drop_path=0.1,
        prior=0.1,
        norm="gn",
    )
    assert model.neck.features[0].channels == 16
    assert len(model.neck.layers) == 1
    assert len(model.head.class_tower.convs) == 2
    assert model.head.prior == 0.1
    assert {type(m) for part in (model.neck, model.head) for m in part.modules()} & {
        nn.GroupNorm,
        nn.BatchNorm2d,
    } == {nn.GroupNorm}


def test_a_part_named_in_an_option_wins():
    model = tiny_model(head_activation="mish", activation="relu", neck_norm="gn")
    assert isinstance(model.head.class_tower.activation, nn.Mish)
    assert isinstance(model.neck.layers[0].nodes[0].activation, nn.ReLU)
    assert isinstance(model.neck.layers[0].nodes[0].conv.norm, nn.GroupNorm)
    assert isinstance(model.head.class_tower.norms[0][0], nn.BatchNorm2d)


def test_objects_stand_for_names():
    backbone = Backbone("test_resnet", levels=(4, 5))
    neck = FPN(backbone.features, channels=8, levels=(4, 6))
    head = AnchorHead(neck.features, classes=2)
    model = build_model(backbone=backbone, neck=neck, head=head, classes=2)
    assert (model.backbone, model.neck, model.head) == (backbone, neck, head)
    assert model.spec.neck == "trivet.models.necks.fpn:FPN"
    with pytest.raises(UsageError, match=r"unknown neck 'trivet\.models\.necks\.fpn:FPN'"):
        build_model(model.spec)


def test_a_function_makes_a_part_and_takes_its_options():
    model = build_model(backbone="test_resnet", neck=LastMapOnly, classes=1, enlarge=True, tower_layers=1)
    assert model.neck.enlarge
    assert model(torch.zeros(1, 3, 64, 64)).class_logits[0].shape == (1, 9, 2, 2)
    assert build_model(model.spec, neck=LastMapOnly).neck.enlarge


def test_a_replaced_part_takes_its_options_with_it():
    model = build_model("tf_efficientdet_d0", neck="fpn", backbone="test_resnet", classes=2)
    assert isinstance(model.neck, FPN)
    assert model.spec.mean == model.backbone.mean == (0.5, 0.5, 0.5)
    assert "fusion" not in model.spec.options
    assert "drop_path" not in model.spec.options
    assert model.spec.options["channels"] == 64


def test_the_models_own_options():
    model = tiny_model(size_hw=(96, 128), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), fill_rgb=(1, 2, 3))
    assert (model.spec.size_hw, model.fill_rgb) == ((96, 128), (1, 2, 3))
    torch.testing.assert_close(model.mean, torch.tensor([0.1, 0.2, 0.3]))


def test_pretrained_from_a_file(tmp_path):
    first = tiny_model()
    save_weights(first, tmp_path / "m.safetensors")
    second = tiny_model(pretrained=tmp_path / "m.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_load_model_brings_back_everything(tmp_path):
    model, labels = (
        tiny_model(),
        LabelMap(("a", "b"), (1, 5)),
    )
    save_weights(model, tmp_path / "m.safetensors", labels=labels)
    again, written = load_model(tmp_path / "m.safetensors")
    assert (again.spec, written) == (model.spec, labels)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_load_model_needs_one_of_our_files(tmp_path):
    torch.save(tiny_model().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"w\.pth: the file does not say which model"):
        load_model(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a published name, or a backbone and the number of classes; got name=None"),
        ({"backbone": "resnet18"}, "classes=None"),
        (
            {"name": "efficientdet_D0", "classes": 2},
            "unknown model 'efficientdet_D0'; did you mean 'efficientdet_d0'",
        ),
        (
            {"backbone": "resnet18", "neck": "bifnp", "classes": 2},
            "unknown neck 'bifnp'; did you mean 'bifpn'",
        ),
        (
            {"backbone": "resnet18", "head": "ancor", "classes": 2},
            "unknown head 'ancor'; did you mean 'anchor'",
        ),
        (
            {"backbone": "resnet18", "chanels": 8, "classes": 2},
            "unknown model option 'chanels'; did you mean 'channels'",
        ),
        ({"backbone": "resnet18", "neck": "fpn", "layers": 2, "classes": 2}, "unknown model option 'layers'"),
        (
            {"backbone": nn.Identity(), "pretrained": True, "classes": 2},
            "pretrained=True needs a backbone given by its timm name",
        ),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        build_model(**arguments)


def test_a_neck_says_which_level_a_backbone_lacks():
    with pytest.raises(
        UsageError, match=r"starts at level 3 \(stride 8\) but the backbone gives levels \[4\]"
    ):
        build_model(backbone="test_vit", classes=1)


def test_options_are_never_changed():
    options = dict(OPTIONS)
    build_model(backbone="test_resnet", classes=1, **options)
    assert options == OPTIONS
