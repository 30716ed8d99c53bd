import numpy as np
import pytest

from tests.evaluate.coco_tables import predictions_of, random_tables, truth_of
from trivet.evaluate import precision
from trivet.evaluate.detection import quick_scores
from trivet.evaluate.matching import match
from trivet.evaluate.mistakes import ERRORS, error_budget, find_mistakes, image_pairs
from trivet.evaluate.ranking import rank_predictions, rank_truth
from trivet.structures import LabelMap, PredictionTable, TruthTable

LABELS = LabelMap.from_names(["a", "b"])
BOX = (0, 0, 10, 10)
POOR = (0, 0, 10, 4)
AWAY = (50, 50, 60, 60)


def budget(truth, predictions, labels=LABELS):
    objects = rank_truth(truth, labels)
    found = rank_predictions(predictions, truth, labels, most=100)
    matches = match(found, objects)
    mistakes = find_mistakes(found, objects, matches, image_pairs(found, objects))
    return error_budget(found, objects, matches, mistakes, classes=len(labels))


def counts_and_costs(images, rows, *, crowd=frozenset()):
    shares = budget(truth_of(images, crowd=crowd), predictions_of(rows))
    costs = [share.ap_lost for share in shares]
    assert costs == sorted(costs, reverse=True)
    assert {share.name for share in shares} == set(ERRORS)
    return {share.name: (share.count, pytest.approx(share.ap_lost)) for share in shares if share.count}


def test_a_wrong_class_costs_what_the_right_one_would_gain():
    # Class a has AP 0 now; with the label put right all is found.
    mistakes = counts_and_costs({1: [(0, *BOX)]}, [(1, 1, 0.9, *BOX)])
    assert mistakes == {"wrong class": (1, 1.0)}


def test_a_poor_place_costs_what_a_good_one_would_gain():
    assert counts_and_costs({1: [(0, *BOX)]}, [(1, 0, 0.9, *POOR)]) == {"poor place": (1, 1.0)}


def test_both_is_put_right_by_removing_it():
    images = {1: [(0, *BOX)], 2: [(1, *BOX)]}
    mistakes = counts_and_costs(images, [(1, 1, 0.9, *POOR), (2, 1, 0.8, *BOX)])
    # AP: a 0, b 1/2. Without it b has 1; with the missed object gone a counts as 1.
    assert mistakes == {"both": (1, 0.25), "missed": (1, 0.5)}


def test_a_double_costs_the_precision_it_takes():
    images = {1: [(0, *BOX)], 2: [(0, *BOX)]}
    rows = [(1, 0, 0.9, *BOX), (1, 0, 0.8, 0, 0, 10, 9), (2, 0, 0.7, *BOX)]
    # Precision 1 up to recall .5 (51 of the 101 levels), then 2/3.
    assert counts_and_costs(images, rows) == {"double": (1, 50 / 101 / 3)}


def test_background_costs_the_precision_it_takes():
    rows = [(1, 0, 0.9, *AWAY), (1, 0, 0.8, *BOX), (2, 1, 0.7, *AWAY)]
    images = {1: [(0, *BOX)], 2: []}
    # b has no truth: its prediction is a mistake, but costs nothing.
    assert counts_and_costs(images, rows) == {"background": (2, 0.5)}


def test_a_missed_object_costs_its_recall():
    images = {1: [(0, *BOX), (0, *AWAY)]}
    assert counts_and_costs(images, [(1, 0, 0.9, *BOX)]) == {"missed": (1, 50 / 101)}


def test_nothing_found_is_all_missed():
    assert counts_and_costs({1: [(0, *BOX)], 2: [(1, *BOX)]}, []) == {"missed": (2, 1.0)}


def test_only_the_best_scored_of_several_mistakes_becomes_a_hit():
    rows = [(1, 0, 0.9, *POOR), (1, 0, 0.8, 0, 0, 4, 10), (1, 1, 0.7, *BOX)]
    mistakes = counts_and_costs({1: [(0, *BOX)]}, rows)
    # The wrong class is third in line for the object: removing it alone gains nothing.
    assert mistakes == {"poor place": (2, 1.0), "wrong class": (1, 0.0)}


def test_a_mistake_on_a_found_object_only_goes():
    rows = [(1, 0, 0.8, *BOX), (1, 0, 0.9, *POOR)]
    assert counts_and_costs({1: [(0, *BOX)]}, rows) == {"poor place": (1, 0.5)}


def test_crowd_regions_are_no_objects_and_absorb():
    images = {1: [(0, *BOX), (0, 40, 40, 90, 90)]}
    rows = [(1, 0, 0.9, *BOX), (1, 0, 0.8, *AWAY), (1, 1, 0.7, *AWAY)]
    # On the crowd region of class a a prediction of a is ignored, one of b is background.
    assert counts_and_costs(images, rows, crowd={1}) == {"background": (1, 0.0)}


def test_every_wrong_prediction_is_of_one_kind():
    truth, predictions, labels = random_tables(images=30, classes=3, crowd=0.1)
    objects = rank_truth(truth, labels)
    found = rank_predictions(predictions, truth, labels, most=100)
    matches = match(found, objects)
    mistakes = find_mistakes(found, objects, matches, image_pairs(found, objects))
    wrong = ~(matches.right | matches.ignored)[:, 0, 0]
    np.testing.assert_array_equal(mistakes.kind >= 0, wrong)
    assert set(mistakes.kind[wrong].tolist()) == set(range(len(ERRORS))) - {list(ERRORS).index("missed")}


def fractions(count, *, start):
    """Return `[count, 6]` numbers in 0-1 that are the same on every machine."""
    return np.mod(
        np.arange(start, start + count)[:, None] * 0.6180339887498949
        + np.arange(1, 7) ** 2 * 0.7548776662466927 * np.arange(start, start + count)[:, None],
        1,
    )


def golden_tables():
    """Make 40 images with 5 objects each of 3 classes, and 6 predictions each that stray from them."""
    truth, draws = fractions(200, start=1), fractions(240, start=1000)
    corner, size = truth[:, :2] * 400, 20 + truth[:, 2:4] * 150
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    labels = (truth[:, 4] * 3).astype(np.int64)
    table = TruthTable(
        np.arange(40),
        np.full((40, 2), 600, np.int32),
        np.arange(0, 201, 5),
        boxes,
        labels,
        np.zeros(200, bool),
        size.prod(axis=1).astype(np.float32),
    )
    image = np.repeat(np.arange(40), 6)
    row = image * 5 + (draws[:, 5] * 5).astype(np.int64)
    moved = boxes[row] + (draws[:, :4] - 0.5) * 0.9 * draws[:, 4:5] * np.tile(size[row], 2)
    moved = np.where(draws[:, 4:5] > 0.9, moved + 200, moved)
    predictions = PredictionTable(
        image,
        moved.astype(np.float32),
        np.mod(draws[:, 0] * 7 + draws[:, 4], 1).astype(np.float32),
        np.where(draws[:, 1] < 0.25, (labels[row] + 1) % 3, labels[row]),
    )
    return table, predictions, LabelMap.from_names(["a", "b", "c"])


TIDE = {
    "ap50": 38.038217950691376,
    "wrong class": (45, 22.585486333058725),
    "poor place": (24, 12.063488936731744),
    "both": (12, 2.0291881518722192),
    "double": (17, 0.7101122088356746),
    "background": (18, 3.407581274095655),
    "missed": (24, 5.416889550089472),
}
"""Count and AP50 lost, in percent, of a run of tidecv 1.0.1 on `golden_tables`."""


def test_figures_equal_tide(monkeypatch):
    # TIDE's recall levels are i / 100, COCO's are linspace(0, 1, 101): some differ in the last bit.
    monkeypatch.setattr(precision, "RECALL_LEVELS", np.arange(101) / 100)
    truth, predictions, labels = golden_tables()
    assert quick_scores(truth, predictions, labels).map50 * 100 == pytest.approx(TIDE["ap50"], abs=1e-9)
    for share in budget(truth, predictions, labels):
        count, lost = TIDE[share.name]
        assert share.count == count, share.name
        assert share.ap_lost * 100 == pytest.approx(lost, abs=1e-9), share.name
