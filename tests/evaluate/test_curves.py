import numpy as np
import pytest

from trivet.evaluate.curves import ClassRanking, best_threshold, pr_curves


def ranking(scores, right, positives, counts=None):
    counts = np.ones(len(scores), bool) if counts is None else np.array(counts, bool)
    return ClassRanking(np.array(scores, float), np.array(right, bool), counts, positives)


def test_the_best_threshold_of_a_known_ranking():
    best = best_threshold("cell", ranking([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0], 4))
    assert (best.name, best.score) == ("cell", 0.6)
    assert (best.f1, best.precision, best.recall) == (pytest.approx(0.75), 0.75, 0.75)


def test_equal_scores_are_kept_together():
    best = best_threshold("cell", ranking([0.5, 0.5, 0.5], [1, 0, 0], 1))
    assert (best.score, best.f1, best.precision) == (0.5, 0.5, pytest.approx(1 / 3))


def test_of_equal_f1_the_highest_score_is_taken():
    assert best_threshold("cell", ranking([0.9, 0.8, 0.7, 0.6], [1, 0, 0, 1], 2)).score == 0.9


def test_ignored_predictions_do_not_count():
    best = best_threshold("cell", ranking([0.9, 0.8], [0, 1], 1, counts=[0, 1]))
    assert (best.score, best.f1) == (0.8, 1.0)


def test_without_truth_there_is_no_threshold():
    best = best_threshold("none", ranking([0.9], [0], 0))
    assert np.isnan([best.score, best.f1, best.precision, best.recall]).all()


@pytest.mark.parametrize("scores", [[], [0.9]])
def test_with_nothing_right_f1_is_0(scores):
    best = best_threshold("cell", ranking(scores, [0] * len(scores), 3))
    assert np.isnan(best.score)
    assert (best.f1, best.recall) == (0, 0)


def test_curves_name_the_score_that_reaches_a_recall():
    curves = pr_curves([ranking([0.9, 0.8, 0.7], [1, 0, 1], 4), ranking([0.9], [0], 0)])
    assert curves.recall[[0, 50, 100]].tolist() == [0, 0.5, 1]
    assert curves.precision[0, [0, 25, 26, 50, 51]].tolist() == [1, 1, 2 / 3, 2 / 3, 0]
    assert curves.thresholds[0, [0, 25, 26, 50, 51]].tolist() == [0.9, 0.9, 0.7, 0.7, 0]
    assert np.isnan(curves.precision[1]).all()
    assert np.isnan(curves.thresholds[1]).all()
