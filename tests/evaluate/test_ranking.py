from dataclasses import replace

import numpy as np
import pytest

from tests.evaluate.coco_tables import predictions_of, truth_of
from trivet.errors import UsageError
from trivet.evaluate.ranking import rank_predictions, rank_truth
from trivet.structures import LabelMap

LABELS = LabelMap.from_names(["cat", "dog"])
TRUTH = truth_of({8: [(1, 0, 0, 10, 10), (0, 0, 0, 20, 5)], 2: [(1, 1, 1, 3, 3)]}, crowd={2})
BOX = (0, 0, 10, 10)


def test_truth_is_ordered_by_label_then_image_id():
    ranked = rank_truth(TRUTH, LABELS)
    assert ranked.labels.tolist() == [0, 1, 1]
    assert ranked.image.tolist() == [1, 0, 1]
    assert ranked.areas.tolist() == [100, 4, 100]
    assert ranked.crowd.tolist() == [False, True, False]
    assert ranked.of_label(1) == slice(1, 3)


def test_predictions_are_ordered_by_label_image_and_score_and_equal_scores_keep_their_order():
    given = predictions_of(
        [
            (8, 0, 0.5, *BOX),
            (2, 0, 0.25, *BOX),
            (8, 0, 0.75, *BOX),
            (8, 0, 0.5, 0, 0, 5, 5),
            (2, 1, 1.0, *BOX),
        ]
    )
    ranked = rank_predictions(given, TRUTH, LABELS, most=100)
    assert ranked.labels.tolist() == [0, 0, 0, 0, 1]
    assert ranked.image.tolist() == [0, 1, 1, 1, 0]
    assert ranked.scores.tolist() == [0.25, 0.75, 0.5, 0.5, 1.0]
    assert ranked.areas.tolist() == [100, 100, 100, 25, 100]
    assert ranked.rank.tolist() == [0, 0, 1, 2, 0]


def test_the_best_of_each_image_and_class_are_kept():
    given = predictions_of([(8, label, score / 10, *BOX) for label in (0, 1) for score in range(5)])
    ranked = rank_predictions(given, TRUTH, LABELS, most=2)
    np.testing.assert_allclose(ranked.scores, [0.4, 0.3, 0.4, 0.3])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((3, 0, 0.5, *BOX), "prediction 1 is for image 3, which the truth does not have"),
        ((9, 0, 0.5, *BOX), "prediction 1 is for image 9, which the truth does not have"),
        ((8, 2, 0.5, *BOX), "prediction 1 has label 2, wanted 0 to 1"),
        ((8, -1, 0.5, *BOX), "prediction 1 has label -1, wanted 0 to 1"),
        ((8, 0, np.nan, *BOX), r"prediction 1 is not finite: box \[0.0, 0.0, 10.0, 10.0\], nan"),
        ((8, 0, 0.5, 0, 0, np.inf, 1), r"prediction 1 is not finite: box \[0.0, 0.0, inf, 1.0\], 0.5"),
    ],
)
def test_a_bad_prediction_is_named(row, message):
    with pytest.raises(UsageError, match=message):
        rank_predictions(predictions_of([(8, 0, 0.5, *BOX), row]), TRUTH, LABELS, most=100)


def test_bad_truth_is_named():
    with pytest.raises(UsageError, match="truth row 0 has label 1, wanted 0 to 0"):
        rank_truth(TRUTH, LabelMap.from_names(["cat"]))
    with pytest.raises(UsageError, match="truth row 1 is not finite"):
        rank_truth(replace(TRUTH, areas=np.array([1, np.nan, 1], np.float32)), LABELS)


def test_an_image_that_occurs_twice_is_refused():
    with pytest.raises(UsageError, match="image id 8 occurs 2 times in the truth, wanted once each"):
        rank_truth(TRUTH.take([0, 1, 0]), LABELS)


def test_no_predictions_at_all_are_refused():
    with pytest.raises(UsageError, match="at least one prediction an image, got most=0"):
        rank_predictions(predictions_of([]), TRUTH, LABELS, most=0)
