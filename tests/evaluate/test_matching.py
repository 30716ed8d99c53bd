import numpy as np
import pytest

from tests.evaluate.coco_tables import coco_eval, predictions_of, random_tables, truth_of
from trivet.evaluate.matching import EVERY_SIZE, SIZES, match
from trivet.evaluate.ranking import rank_predictions, rank_truth
from trivet.structures import LabelMap

ONE = LabelMap.from_names(["cell"])
HALF = np.array([0.5])


def matched(objects, rows, *, crowd=frozenset(), thresholds=HALF, sizes=EVERY_SIZE):
    truth = truth_of({1: [(0, *box) for box in objects]}, crowd=crowd)
    predictions = predictions_of([(1, 0, 1 - place / 100, *box) for place, box in enumerate(rows)])
    found = rank_predictions(predictions, truth, ONE, most=100)
    return match(found, rank_truth(truth, ONE), thresholds=thresholds, sizes=sizes)


def test_the_best_scored_prediction_takes_the_object():
    matches = matched([(0, 0, 10, 10)], [(0, 0, 10, 8), (0, 0, 10, 10)])
    assert matches.right[:, 0, 0].tolist() == [True, False]
    assert matches.ignored[:, 0, 0].tolist() == [False, False]
    assert matches.truth.tolist() == [0, -1]


def test_a_prediction_takes_the_free_object_with_the_highest_iou():
    matches = matched([(0, 0, 10, 10), (0, 0, 10, 8)], [(0, 0, 10, 9), (0, 0, 10, 10)])
    assert matches.truth.tolist() == [0, 1]


def test_of_objects_with_equal_iou_the_last_is_taken():
    matches = matched([(0, 0, 10, 10), (0, 0, 10, 10)], [(0, 0, 10, 10)])
    assert matches.truth.tolist() == [1]


def test_a_crowd_region_absorbs_any_number_of_predictions():
    matches = matched([(0, 0, 90, 90)], [(0, 0, 10, 10), (20, 20, 30, 30)], crowd={0})
    assert matches.ignored[:, 0, 0].tolist() == [True, True]
    assert not matches.right.any()


def test_an_object_goes_before_a_crowd_region():
    matches = matched([(0, 0, 10, 10), (0, 0, 90, 90)], [(0, 0, 10, 12)], crowd={1})
    assert matches.right[:, 0, 0].tolist() == [True]
    assert matches.truth.tolist() == [0]


def test_an_iou_equal_to_the_threshold_is_enough():
    matches = matched([(0, 0, 10, 10)], [(0, 0, 10, 5)], thresholds=np.array([0.5, 0.51]))
    assert matches.right[0, 0].tolist() == [True, False]


def test_other_sizes_are_ignored():
    matches = matched([(0, 0, 10, 10)], [(0, 0, 10, 10), (50, 50, 95, 95)], sizes=SIZES)
    assert matches.counted.tolist() == [[True, False, False]]
    assert matches.right[:, :, 0].tolist() == [[True, False, False], [False, False, False]]
    # The second is medium: a mistake among medium objects only.
    assert matches.ignored[:, :, 0].tolist() == [[False, True, True], [True, False, True]]


@pytest.mark.parametrize("seed", range(3))
def test_every_flag_equals_pycocotools(seed):
    truth, predictions, labels = random_tables(images=15, classes=2, seed=seed, ties=True, crowd=0.2)
    found = rank_predictions(predictions, truth, labels, most=100)
    matches = match(found, rank_truth(truth, labels), sizes={**EVERY_SIZE, **SIZES})
    evaluated = iter(coco_eval(truth, predictions, 2).evalImgs)
    for label in range(2):
        for size in range(4):
            for image in range(15):
                entry = next(evaluated)
                rows = (found.labels == label) & (found.image == image)
                if entry is None:
                    assert not rows.any()
                    continue
                ignored = entry["dtIgnore"].T.astype(bool)
                np.testing.assert_array_equal(matches.ignored[rows, size], ignored)
                np.testing.assert_array_equal(
                    matches.right[rows, size], (entry["dtMatches"].T > 0) & ~ignored
                )
