import numpy as np
import pytest

from trivet.evaluate.precision import mean, precision_at_recall, score_order


def curve(right, positives, counts=None):
    right = np.array(right, bool)
    return precision_at_recall(right, np.ones_like(right) if counts is None else np.array(counts), positives)


def test_precision_of_a_known_curve():
    precision, place = curve([True, False, True], 4)
    # Recall .25 with precision 1, recall .5 with precision 2/3, more is not reached.
    np.testing.assert_allclose(precision, [1.0] * 26 + [2 / 3] * 25 + [0.0] * 50)
    assert place.tolist() == [0] * 26 + [2] * 25 + [3] * 50


def test_precision_is_the_best_at_that_recall_or_above():
    precision, place = curve([False, True, True, True], 3)
    assert set(precision.tolist()) == {0.75}
    assert place[[0, 50, 100]].tolist() == [1, 2, 3]


def test_what_does_not_count_is_skipped():
    precision, _ = curve([False, True], 1, counts=[False, True])
    assert precision.mean() == 1


@pytest.mark.parametrize("right", [[], [False, False]])
def test_nothing_right_is_precision_0(right):
    precision, place = curve(right, 2)
    assert not precision.any()
    assert set(place.tolist()) == {len(right)}


def test_equal_scores_keep_their_order():
    assert score_order(np.array([0.5, 0.75, 0.5, 1.0])).tolist() == [3, 1, 0, 2]


def test_the_mean_is_over_what_exists():
    assert mean(np.array([0.5, np.nan, 1.0])) == 0.75
    assert np.isnan(mean(np.array([np.nan])))
    assert np.isnan(mean(np.array([])))
