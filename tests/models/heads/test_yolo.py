import pytest
import torch

from trivet.errors import UsageError
from trivet.models.heads.yolo import COCO_ANCHORS, YoloHead
from trivet.structures import FeatureSpec


def features(*levels):
    return tuple(FeatureSpec(8, 2**level) for level in levels)


def test_anchors_and_reach_are_those_of_the_cfg():
    """anchors = 12, 16, 19, 36, 40, 28, 36, 75, 76, 55, 72, 146, 142, 110, 192, 243, 459, 401; scale_x_y 1.2, 1.1, 1.05."""
    spec = YoloHead(features(3, 4, 5), classes=2).anchor_spec
    flat = [side for level in spec.shapes for shape in level for side in shape]
    assert flat == [12, 16, 19, 36, 40, 28, 36, 75, 76, 55, 72, 146, 142, 110, 192, 243, 459, 401]
    assert spec.reach == (1.2, 1.1, 1.05)


def test_other_levels_get_the_nearest_ones_doubled_or_halved():
    spec = YoloHead(features(2, 3, 4, 5, 6), classes=2).anchor_spec
    assert spec.min_level == 2
    assert spec.shapes[0] == ((6, 8), (9.5, 18), (20, 14))
    assert spec.shapes[4][2] == (918, 802)
    assert spec.reach == (1.2, 1.2, 1.1, 1.05, 1.05)


def test_given_anchors_are_shared_out_in_order():
    head = YoloHead(features(4, 5), classes=1, anchors=COCO_ANCHORS[:4], reach=(1.0, 1.0))
    assert head.anchor_spec.shapes == (((12, 16), (19, 36)), ((40, 28), (36, 75)))
    with torch.no_grad():
        output = head((torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)))
    assert [tuple(x.shape) for x in output.box_deltas] == [(1, 8, 4, 4), (1, 8, 2, 2)]


def test_objectness_starts_at_the_prior():
    head = YoloHead(features(3, 4, 5), classes=1, prior=0.1).eval()
    with torch.no_grad():
        output = head([torch.zeros(1, 8, 2, 2)] * 3)
    assert all(torch.allclose(sure.sigmoid(), torch.tensor(0.1), atol=1e-6) for sure in output.objectness)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes >= 1 and prior in"),
        ({"prior": 1.0}, r"got 1 and 1\.0"),
        (
            {"anchors": COCO_ANCHORS[:4]},
            "3 levels need as many anchors each, at least one, got 4 anchors in all",
        ),
        ({"anchors": ()}, "got 0 anchors in all"),
        ({"reach": (1.0,)}, "3 levels need as many values of reach"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        YoloHead(features(3, 4, 5), **{"classes": 1, **options})
