"""What scoring a detector gives: figures, intervals, curves and mistakes as plain data, to JSON and back.

A figure that does not exist (the AP of a class without truth) is NaN here and `null` in JSON. All APs and ARs
are shares in 0-1, as COCO defines them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from trivet.evaluate.plain import from_plain, to_plain


class Interval(NamedTuple):
    """A range of plausible values of one figure; `[low, high]` in JSON."""

    low: float
    high: float


@dataclass(frozen=True)
class ClassScore:
    """The figures of one class.

    Args:
        name: The class's name.
        ap: Mean over the IoU thresholds .5, .55 ... .95; NaN without truth, as the next three.
        ap50: At IoU .5.
        ap75: At IoU .75.
        ar100: Recall of the best 100 predictions an image, mean over the IoU thresholds.
        truths: How many objects the class has, crowd regions left out.
        predictions: How many predictions were scored.
    """

    name: str
    ap: float
    ap50: float
    ap75: float
    ar100: float
    truths: int
    predictions: int


@dataclass(frozen=True)
class ErrorShare:
    """One kind of mistake: how often, and what it alone costs.

    Args:
        name: A key of `trivet.evaluate.mistakes.ERRORS`.
        count: Predictions (objects, for "missed") with this fault.
        ap_lost: The AP50 that would be gained were only these faults put right.
    """

    name: str
    count: int
    ap_lost: float


@dataclass(frozen=True)
class ImageMistakes:
    """What went wrong in one image at `DetectionScores.confusion_at`.

    Args:
        image_id: The image's id in its data set.
        found: Objects found: right class, IoU at least .5.
        missed: Objects not found.
        false: Predictions where no object is, or a second time on one that was found.
        wrong_class: Predictions on an object of another class.
        poor_place: Predictions of the right class whose IoU is from .1 to .5.
        score: found / (found + all mistakes), in 0-1; 1 for an image with neither.
    """

    image_id: int
    found: int
    missed: int
    false: int
    wrong_class: int
    poor_place: int
    score: float


@dataclass(frozen=True)
class PrCurves:
    """Precision against recall at IoU .5, for each class; NaN rows for classes without truth.

    Args:
        recall: The 101 recall levels 0, .01 ... 1.
        precision: The best precision at that recall or a higher one; 0 where the recall is not reached.
        thresholds: The score of the prediction that reaches that recall; 0 where it is not reached.
    """

    recall: Float64[np.ndarray, " 101"]
    precision: Float64[np.ndarray, "classes 101"]
    thresholds: Float64[np.ndarray, "classes 101"]


@dataclass(frozen=True)
class BestThreshold:
    """The score from which on predictions of one class are worth showing: where F1 at IoU .5 is highest.

    Args:
        name: The class's name.
        score: The threshold: predictions with at least this score are kept; NaN without truth.
        f1: The harmonic mean of precision and recall there.
        precision: Share of the kept predictions that are right.
        recall: Share of the objects that are found.
    """

    name: str
    score: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Operation:
    """The setting at which single predictions are called right or wrong: least score and least IoU."""

    score: float
    iou: float


@dataclass(frozen=True)
class DetectionScores:
    """All that is known about a detector's quality on one split.

    Args:
        map: COCO AP: mean over classes with truth and IoU .5 to .95.
        map50: The same at IoU .5 alone.
        map75: The same at IoU .75 alone.
        by_size: AP of "small", "medium" and "large" objects.
        ar: Recall with the best "1", "10" and "100" predictions a class and image, mean over the IoU thresholds.
        ar_by_size: Recall of "small", "medium" and "large" objects.
        per_class: One entry a class, in label order.
        interval95: Bootstrap intervals over images of "map" and "map50"; empty where not asked for.
        curves: Precision and recall.
        confusion: Rows are truth, columns predictions, the last of each is background (missed, false).
        confusion_at: The setting of `confusion`, `worst` and `typical`.
        errors: The error budget, costliest first; empty where not asked for.
        worst: The images with the lowest scores, worst first.
        typical: The images whose scores are nearest to the median image's.
        best_threshold: One entry a class, in label order.
        images: How many images were scored.
        boxes: How many objects they have, crowd regions left out.
    """

    map: float
    map50: float
    map75: float
    by_size: dict[str, float]
    ar: dict[str, float]
    ar_by_size: dict[str, float]
    per_class: tuple[ClassScore, ...]
    interval95: dict[str, Interval]
    curves: PrCurves
    confusion: Int64[np.ndarray, "rows columns"]
    confusion_at: Operation
    errors: tuple[ErrorShare, ...]
    worst: tuple[ImageMistakes, ...]
    typical: tuple[ImageMistakes, ...]
    best_threshold: tuple[BestThreshold, ...]
    images: int
    boxes: int

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers, `null` for NaN: the form of `score --json` and `scores.json`."""
        return to_plain("detection", self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DetectionScores":
        """Read what `to_json` wrote.

        Raises:
            UsageError: If it is another task's, or a field is missing or of another kind.
        """
        return from_plain("detection", cls, data)


@dataclass(frozen=True)
class QuickScores:
    """The two figures that validation during training needs; see `DetectionScores`."""

    map: float
    map50: float
