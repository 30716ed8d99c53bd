from xml.etree import ElementTree

import numpy as np
import pytest

from trivet.evaluate.scores import ErrorShare, PrCurves
from trivet.report.charts import (
    confusion_chart,
    count_chart,
    error_chart,
    most_confused,
    pr_chart,
    size_chart,
)


def words(svg: str) -> list[str]:
    return [
        element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


def told(svg: str) -> str:
    return next(e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("desc"))


def names_of(classes: int) -> list[str]:
    return [f"kind {i}" for i in range(classes)]


@pytest.mark.parametrize("classes", [1, 3, 7, 8, 14, 15, 80])
def test_charts_of_scores_work_for_any_number_of_classes(classes, make_scores):
    scores, names = make_scores(classes), names_of(classes)
    for svg in (pr_chart(scores.curves, names), confusion_chart(scores.confusion, names)):
        assert len(svg) < 250_000
        assert names[0] in words(svg) or classes > 7
    assert "background" in words(confusion_chart(scores.confusion, names))


def test_classes_without_truth_have_no_curve():
    precision = np.full((2, 101), np.nan)
    precision[1] = 0.5
    svg = pr_chart(PrCurves(np.linspace(0, 1, 101), precision, precision), ["none", "some"])
    assert "none" not in words(svg)
    assert told(svg) == "Area under the curve of each class: some 0.50."


def test_without_any_truth_there_is_an_empty_chart():
    nothing = np.full((1, 101), np.nan)
    assert told(pr_chart(PrCurves(np.linspace(0, 1, 101), nothing, nothing), ["a"])).endswith("none.")


def test_many_classes_name_the_weakest():
    precision = np.repeat(np.linspace(0.1, 0.9, 30)[::-1, None], 101, axis=1)
    svg = pr_chart(PrCurves(np.linspace(0, 1, 101), precision, precision), names_of(30))
    assert [word for word in words(svg) if word.startswith("kind")] == [
        f"kind {i}" for i in (29, 28, 27, 26, 25)
    ]


def test_the_confusion_matrix_shows_its_numbers():
    svg = confusion_chart(np.array([[90, 4, 6], [3, 70, 0], [8, 0, 0]]), ["cat", "dog"])
    assert {"90", "4", "6", "3", "70", "8", "cat", "dog", "background"} <= set(words(svg))
    assert told(svg) == "160 right, 6 missed, 8 false predictions."


def test_a_confusion_matrix_of_zeros_can_be_drawn():
    assert told(confusion_chart(np.zeros((2, 2), np.int64), ["cat"])).startswith("0 right")


def test_adding_up_the_less_confused_keeps_every_count():
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 9, (41, 41))
    confusion[5, 6] = 1000
    merged, labels = most_confused(confusion, names_of(40))
    assert merged.sum() == confusion.sum()
    assert merged[:, -1].sum() == confusion[:, -1].sum()
    assert labels[-2:] == ["others", "background"]
    assert merged[labels.index("kind 5"), labels.index("kind 6")] == 1000


def test_errors_are_shown_with_what_they_cost():
    svg = error_chart([ErrorShare("missed", 4, 0.0521), ErrorShare("both", 0, float("nan"))])
    assert {"missed", "0.052", "both", "nan"} <= set(words(svg))


def test_counts_of_all_splits_are_added_and_sorted():
    svg = count_chart({"train": [1, 2000], "val": [4, 500]}, ["rare", "frequent"])
    assert words(svg)[-2:] == ["2,500", "5"]


def test_many_counts_end_with_the_rest_together():
    svg = count_chart({"train": [10] * 20 + [1] * 60}, names_of(80))
    assert {"57 more", "57 together"} <= set(words(svg))


def test_counts_of_no_split_are_zero():
    assert told(count_chart({}, ["a"])) == "0 objects in 1 classes."


@pytest.mark.parametrize("sides", [[], [np.nan], [0.0, 0.5], [32.0], [1.0, 5000.0]])
def test_box_sizes_of_any_kind_can_be_drawn(sides):
    assert size_chart(np.array(sides, dtype=np.float32)).startswith("<svg")


def test_box_sizes_tell_the_median():
    assert told(size_chart(np.array([10.0, 20, 40]))) == "Half of 3 boxes are under 20 px."


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$x$", "漢字", "a\x00b", "x" * 500])
def test_hostile_names_stay_text(name, make_scores):
    scores = make_scores(1)
    for svg in (
        pr_chart(scores.curves, [name]),
        confusion_chart(scores.confusion, [name]),
        count_chart({"train": [3]}, [name]),
    ):
        ElementTree.fromstring(svg)
        assert "<script" not in svg
