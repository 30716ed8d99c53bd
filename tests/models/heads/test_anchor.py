import math

import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.models.blocks import Style
from trivet.models.heads.anchor import AnchorHead
from trivet.structures import FeatureSpec

FEATURES = tuple(FeatureSpec(64, stride) for stride in (8, 16, 32))


@pytest.mark.parametrize("prior", [0.01, 0.2])
@pytest.mark.parametrize("separable", [True, False])
def test_classes_start_at_the_prior(prior, separable):
    head = AnchorHead(FEATURES, classes=4, prior=prior, style=Style(separable=separable)).eval()
    with torch.no_grad():
        output = head([torch.zeros(1, 64, 4, 4)] * 3)
    for logits in output.class_logits:
        torch.testing.assert_close(logits.sigmoid(), torch.full_like(logits, prior))
    assert not any(deltas.any() for deltas in output.box_deltas)


def test_prior_of_the_published_models():
    head = AnchorHead(FEATURES, classes=4)
    assert float(head.class_tower.predict.pointwise.bias.detach()[0]) == pytest.approx(-4.59512, abs=1e-5)


def test_publishes_its_anchors():
    head = AnchorHead(
        FEATURES, classes=1, anchor_octaves=2, anchor_ratios=((1.0, 1.0), (3.0, 1.0)), anchor_scale=2.5
    )
    assert head.anchor_spec == AnchorSpec(3, 5, octaves=2, ratios=((1, 1), (3, 1)), scale=2.5)
    assert head.box_tower.predict.pointwise.out_channels == 4 * 4


def test_levels_share_convolutions_but_not_norms():
    tower = AnchorHead(FEATURES, classes=1, tower_layers=2).class_tower
    assert len(tower.convs) == 2
    assert [len(norms) for norms in tower.norms] == [3, 3]


@pytest.mark.parametrize(("separable", "spread"), [(True, 1 / math.sqrt(64)), (False, 0.01)])
def test_weights_start_with_effdets_spread(separable, spread):
    tower = AnchorHead(FEATURES, classes=20, style=Style(separable=separable)).class_tower
    last = tower.predict.convolutions[-1]
    assert float(last.weight.detach().std()) == pytest.approx(spread, rel=0.03)


def test_works_without_a_tower():
    output = AnchorHead(FEATURES, classes=1, tower_layers=0)([torch.zeros(1, 64, 2, 2)] * 3)
    assert output.class_logits[0].shape == (1, 9, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "classes >= 1, .* got 0, 3 and 0.01"),
        ({"classes": 1, "tower_layers": -1}, "got 1, -1 and 0.01"),
        ({"classes": 1, "prior": 1.0}, r"prior in \(0, 1\), got 1, 3 and 1.0"),
        ({"classes": 1, "anchor_scale": -1.0}, "scale=-1.0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        AnchorHead(FEATURES, **arguments)


def test_refuses_levels_of_different_channels():
    with pytest.raises(UsageError, match="levels of equal channels"):
        AnchorHead((FeatureSpec(8, 8), FeatureSpec(16, 16)), classes=1)


def test_group_norm_and_full_convolutions_get_gradients_too():
    head = AnchorHead(FEATURES, classes=2, style=Style(norm="gn", separable=False))
    output = head([torch.randn(2, 64, side, side) for side in (8, 4, 2)])
    sum(x.square().sum() for x in (*output.class_logits, *output.box_deltas)).backward()
    assert not [key for key, parameter in head.named_parameters() if parameter.grad is None]
