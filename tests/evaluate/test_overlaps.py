import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from trivet.evaluate import overlaps
from trivet.evaluate.overlaps import areas, overlapping_pairs, paired_iou


def random_boxes(draws, count):
    corner = draws.integers(0, 20, (count, 2)).astype(float)
    return np.concatenate([corner, corner + draws.integers(0, 12, (count, 2))], axis=1)


def xywh(boxes):
    return np.ascontiguousarray(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1))


def test_areas_are_width_times_height():
    assert areas(np.array([[1.0, 2, 4, 4], [5, 5, 5, 9]])).tolist() == [6, 0]


@pytest.mark.parametrize(
    ("first", "second", "crowd", "iou"),
    [
        ((0, 0, 2, 2), (1, 0, 3, 2), False, 1 / 3),
        ((0, 0, 2, 2), (1, 0, 3, 2), True, 1 / 2),
        ((0, 0, 2, 2), (2, 0, 3, 2), False, 0),
        ((0, 0, 2, 2), (0, 0, 2, 2), False, 1),
        ((1, 1, 1, 1), (1, 1, 1, 1), False, 0),
        ((0, 0, 0, 2), (0, 0, 2, 2), True, 0),
    ],
)
def test_iou_of_known_boxes(first, second, crowd, iou):
    boxes = (np.array([box], float) for box in (first, second))
    assert paired_iou(*boxes, np.array([crowd])).tolist() == [iou]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), count=st.integers(0, 30), truths=st.integers(0, 30), least=st.floats(0.05, 1)
)
def test_pairs_are_pycocotools_iou_of_each_group(seed, count, truths, least):
    draws = np.random.default_rng(seed)
    boxes, truth = random_boxes(draws, count), random_boxes(draws, truths)
    groups, truth_groups = draws.integers(0, 3, count), draws.integers(0, 3, truths)
    crowd = draws.random(truths) < 0.3
    pairs = overlapping_pairs(boxes, groups, truth, truth_groups, crowd=crowd, least=least)
    wanted = {}
    if count and truths:
        iou = mask.iou(xywh(boxes), xywh(truth), crowd.astype(np.uint8).tolist())
        rows, columns = np.nonzero((np.nan_to_num(iou) >= least) & (groups[:, None] == truth_groups))
        wanted = {(i, j): iou[i, j] for i, j in zip(rows.tolist(), columns.tolist(), strict=True)}
    found = list(zip(pairs.prediction.tolist(), pairs.truth.tolist(), strict=True))
    assert set(found) == set(wanted)
    np.testing.assert_allclose(pairs.iou, [wanted[pair] for pair in found], rtol=1e-12)
    keys = list(zip(pairs.prediction, pairs.iou, pairs.truth, strict=True))
    assert keys == sorted(keys)


def test_pairs_are_the_same_in_many_parts(monkeypatch):
    draws = np.random.default_rng(0)
    boxes, truth = random_boxes(draws, 50), random_boxes(draws, 40)
    groups, truth_groups = draws.integers(0, 4, 50), draws.integers(0, 3, 40)
    crowd = np.zeros(40, bool)

    def pairs():
        return overlapping_pairs(boxes, groups, truth, truth_groups, crowd=crowd, least=0.2)

    whole = pairs()
    monkeypatch.setattr(overlaps, "_PAIRS_AT_ONCE", 5)
    parts = pairs()
    assert len(whole) > 10
    for column in ("prediction", "truth", "iou"):
        np.testing.assert_array_equal(getattr(parts, column), getattr(whole, column))
