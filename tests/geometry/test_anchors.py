import json

import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, anchors_xyxy, level_sizes_hw

D0 = AnchorSpec(3, 7)


def test_published_values_of_d0():
    boxes = anchors_xyxy(D0, (512, 512))
    yxyx = boxes[:, [1, 0, 3, 2]]
    assert boxes.shape == (49104, 4)
    torch.testing.assert_close(
        yxyx[:4],
        torch.tensor(
            [
                [-12, -12, 20, 20],
                [-7.2, -18.4, 15.2, 26.4],
                [-18.4, -7.2, 26.4, 15.2],
                [-16.1587, -16.1587, 24.1587, 24.1587],
            ]
        ),
        atol=1e-4,
        rtol=0,
    )
    torch.testing.assert_close(
        yxyx[-1], torch.tensor([-120.9245, 163.5377, 1016.9246, 732.4623]), atol=1e-4, rtol=0
    )
    assert float(boxes.double().sum()) == pytest.approx(50282496.0016, abs=0.1)


@pytest.mark.parametrize(
    ("size", "max_level", "count"),
    [(640, 7, 76725), (768, 7, 110484), (1280, 7, 306900), (1536, 7, 441936), (1536, 8, 442260)],
)
def test_published_counts(size, max_level, count):
    assert len(anchors_xyxy(AnchorSpec(3, max_level), (size, size))) == count


@pytest.mark.parametrize(
    "size_hw", [(512, 512), (320, 320), (200, 264), (321, 517), (127, 1000), (8, 8), (1, 1)]
)
@pytest.mark.parametrize(("max_level", "scale"), [(7, 4.0), (8, 4.0), (7, 3.0), (7, 5.0)])
def test_equal_to_effdet_at_any_size(effdet_anchors, size_hw, max_level, scale):
    spec = AnchorSpec(3, max_level, scale=scale)
    theirs = effdet_anchors(3, max_level, 3, list(spec.ratios), scale, size_hw).boxes[:, [1, 0, 3, 2]]
    torch.testing.assert_close(anchors_xyxy(spec, size_hw), theirs, atol=1e-12, rtol=0)


def test_other_shapes_and_octaves_equal_effdet(effdet_anchors):
    ratios = ((1.0, 1.0), (3.0, 0.4))
    theirs = effdet_anchors(2, 5, 2, list(ratios), 2.5, (96, 160)).boxes[:, [1, 0, 3, 2]]
    torch.testing.assert_close(anchors_xyxy(AnchorSpec(2, 5, 2, ratios, 2.5), (96, 160)), theirs)


def test_sizes_are_halved_and_rounded_up():
    assert level_sizes_hw(D0, (321, 500)) == ((41, 63), (21, 32), (11, 16), (6, 8), (3, 4))


def test_feature_sizes_can_be_given():
    boxes = anchors_xyxy(AnchorSpec(3, 3), (100, 100), [(10, 5)])
    assert len(boxes) == 10 * 5 * 9
    torch.testing.assert_close((boxes[0, :2] + boxes[0, 2:]) / 2, torch.tensor([10.0, 5.0]))


def test_anchors_made_in_inference_mode_can_be_trained_on():
    with torch.inference_mode():
        anchors_xyxy(D0, (72, 88))
    scale = torch.ones(1, requires_grad=True)
    (anchors_xyxy(D0, (72, 88)) * scale).sum().backward()
    assert scale.grad is not None


def test_anchors_are_made_once():
    assert anchors_xyxy(D0, (64, 64)) is anchors_xyxy(AnchorSpec(), (64, 64))


def test_spec_survives_json():
    spec = AnchorSpec(2, 6, 2, ((1, 1), (2.0, 0.5)), 3.5)
    assert AnchorSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.per_cell == 4
    assert list(spec.levels) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_level": 5, "max_level": 4}, "min_level <= max_level, got 5 and 4"),
        ({"octaves": 0}, "at least one octave and one ratio, got octaves=0"),
        ({"ratios": ()}, "at least one octave and one ratio"),
        ({"scale": float("nan")}, "above 0, got scale=nan"),
        ({"ratios": ((1, -1),)}, "above 0"),
        ({"shape": 3}, "not the values of an anchor spec.*shape"),
        ({"scale": "big"}, "not the values of an anchor spec.*big"),
    ],
)
def test_wrong_specs_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        AnchorSpec.from_json(values)


@pytest.mark.parametrize(
    ("size_hw", "features"), [((0, 64), None), ((64, 64), [(8, 8)]), ((64, 64), [(0, 1)] * 5)]
)
def test_wrong_sizes_are_refused(size_hw, features):
    with pytest.raises(UsageError, match="anchors of levels 3 to 7 need 5 feature sizes"):
        anchors_xyxy(D0, size_hw, features)
