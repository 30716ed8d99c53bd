"""Scores -> the data of the sections that show them, one function a task."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from trivet.evaluate.classification_scores import ClassificationScores
from trivet.evaluate.scores import DetectionScores
from trivet.evaluate.segmentation_scores import SegmentationScores
from trivet.report import charts, task_charts
from trivet.report.contents import Scores
from trivet.report.palette import class_colour
from trivet.report.sentences import absent_words, advice, calibration_words, found_share

MOST_PAIRS = 12


def score_sections(scores: Scores, names: Sequence[str]) -> dict[str, Any]:
    """Return the sections "score", "mistakes", "classes" and "calibration", those that the task has."""
    match scores:
        case SegmentationScores():
            return _segmentation(scores, names)
        case ClassificationScores():
            return _classification(scores, names)
        case _:
            return _detection(scores, names)


def swatches(names: Sequence[str]) -> list[str]:
    """Return each class's colour in pictures."""
    return [class_colour(label) for label in range(len(names))]


def _detection(scores: DetectionScores, names: Sequence[str]) -> dict[str, Any]:
    rows = [(error, *advice(error)) for error in scores.errors]
    return {
        "score": {"scores": scores, "found": found_share(scores)},
        "mistakes": rows and {"rows": rows, "chart": Markup(charts.error_chart(scores.errors))},
        "classes": {
            "rows": list(zip(scores.per_class, scores.best_threshold, swatches(names), strict=True)),
            "at": scores.confusion_at,
            "charts": [
                Markup(charts.pr_chart(scores.curves, names)),
                Markup(charts.confusion_chart(scores.confusion, names)),
            ],
        },
    }


def _segmentation(scores: SegmentationScores, names: Sequence[str]) -> dict[str, Any]:
    pairs = [
        (
            names[pair.truth],
            names[pair.predicted],
            pair.pixels / scores.pixels,
            pair.pixels / _row(scores, pair.truth),
        )
        for pair in scores.confused(MOST_PAIRS)
    ]
    return {
        "score": {"scores": scores, "absent": absent_words(scores)},
        "classes": {
            "rows": list(zip(scores.per_class, swatches(names), strict=True)),
            "pairs": pairs,
            "charts": [
                Markup(charts.confusion_chart(scores.confusion, names, percent=True)),
                Markup(task_charts.frequency_chart(scores.per_class)),
            ],
        },
    }


def _classification(scores: ClassificationScores, names: Sequence[str]) -> dict[str, Any]:
    pairs = [
        (names[pair.truth], names[pair.predicted], pair.images, pair.share)
        for pair in scores.confused[:MOST_PAIRS]
    ]
    return {
        "score": {"scores": scores},
        "classes": {
            "rows": list(zip(scores.per_class, swatches(names), strict=True)),
            "pairs": pairs,
            "charts": [Markup(charts.confusion_chart(scores.confusion, names))],
        },
        "calibration": scores.reliability
        and {
            "scores": scores,
            "words": calibration_words(scores),
            "chart": Markup(task_charts.reliability_chart(scores.reliability)),
        },
    }


def _row(scores: SegmentationScores, label: int) -> int:
    return int(scores.confusion[label].sum())
