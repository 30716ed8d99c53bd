from dataclasses import replace

import numpy as np
import pytest

from trivet.doctor.finding import Finding
from trivet.evaluate.mistakes import ERRORS
from trivet.evaluate.scores import ErrorShare, ImageMistakes
from trivet.report.sentences import ADVICE, advice, audited, class_words, found_share, image_words, learnt


def test_every_kind_of_mistake_has_advice():
    assert set(ADVICE) == set(ERRORS)
    assert advice(ErrorShare("double", 1, 0.1)) == (ERRORS["double"], ADVICE["double"])


def test_learnt_names_best_and_worst(make_scores):
    scores = replace(
        make_scores(3), confusion=np.array([[8, 0, 0, 2], [0, 5, 1, 0], [0, 0, 4, 0], [9, 0, 0, 0]]), boxes=20
    )
    assert found_share(scores) == pytest.approx(17 / 20)
    assert learnt(scores, ["RBC", "WBC", "Platelets"]) == (
        "On 72 images the detector finds 85% of 20 objects; it knows RBC (AP50 0.97) best and Platelets (AP50 0.55) least."
    )


def test_learnt_is_honest_about_a_bad_detector(make_scores):
    scores = make_scores(2)
    bad = tuple(replace(score, ap50=0.02) for score in scores.per_class)
    assert learnt(replace(scores, per_class=bad, map50=0.02), ["a", "b"]).endswith(
        "it has learnt next to nothing yet (mAP50 0.02)."
    )


def test_learnt_of_one_class(make_scores):
    assert learnt(make_scores(1), ["x"]).endswith("(AP50 0.97) is the one class with truth.")


def test_learnt_without_scores_or_truth(make_scores):
    assert learnt(None, ["a", "b"]) == "A detector of a and b was trained; it has not been scored."
    scores = make_scores(1)
    empty = replace(
        scores,
        per_class=(replace(scores.per_class[0], ap50=float("nan")),),
        confusion=np.zeros((2, 2), np.int64),
    )
    assert "hold no objects" in learnt(empty, ["a"])
    assert found_share(empty) == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "a"),
        (["a", "b", "c"], "a, b and c"),
        (["a"] * 80, "80 classes"),
        (["a\n"], "a\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_class_words(names, words):
    assert class_words(names) == words


@pytest.mark.parametrize(
    ("severities", "problems", "sentence"),
    [
        ((), 0, "No fault was found."),
        (("error",), 0, "1 error."),
        (("error", "error", "note"), 0, "2 errors and 1 note."),
        (("error", "warning", "note"), 1, "1 error, 1 warning, 1 note; 1 fault was met while reading."),
        ((), 1200, "1,200 faults were met while reading."),
    ],
)
def test_audited(severities, problems, sentence):
    assert audited([Finding("f", severity, "t") for severity in severities], problems) == sentence


@pytest.mark.parametrize(
    ("mistakes", "words"),
    [
        (ImageMistakes(7, 3, 4, 2, 1, 0, 0.3), "3 of 7 found, 4 missed, 2 false, 1 of a wrong class"),
        (ImageMistakes(7, 3, 0, 0, 0, 2, 0.6), "3 of 3 found, 2 badly placed"),
        (ImageMistakes(7, 0, 0, 0, 0, 0, 1.0), "0 of 0 found"),
    ],
)
def test_image_words(mistakes, words):
    assert image_words(mistakes) == words
