import torch

from trivet.models.build import build_model
from trivet.models.necks.none import NoNeck
from trivet.structures import FeatureSpec


def test_passes_maps_and_features_through():
    features = (FeatureSpec(4, 8), FeatureSpec(6, 16))
    neck, maps = NoNeck(features), [torch.zeros(1, 4, 4, 4), torch.ones(1, 6, 2, 2)]
    assert neck.features == features
    assert all(a is b for a, b in zip(neck(maps), maps, strict=True))
    assert not list(neck.parameters())


def test_levels_then_go_to_the_backbone_alone():
    model = build_model(backbone="test_resnet", neck="none", classes=1, levels=(5, 5))
    assert model.neck.features == model.backbone.features
    assert [feature.stride for feature in model.neck.features] == [32]
