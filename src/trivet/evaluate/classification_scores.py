"""What scoring a classifier gives, as plain data, to JSON and back; a figure that does not exist is NaN."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from trivet.evaluate.calibration import ReliabilityBin
from trivet.evaluate.plain import from_plain, to_plain
from trivet.evaluate.scores import Interval


@dataclass(frozen=True)
class ClassAccuracy:
    """The figures of one class; all are shares in 0-1.

    Args:
        name: The class's name.
        accuracy: Share of its images that are right (recall); NaN without images.
        precision: Share of the images given the class that have it; NaN where it is never predicted.
        images: How many images have the class.
        predictions: How many images were given the class.
    """

    name: str
    accuracy: float
    precision: float
    images: int
    predictions: int


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were given another.

    Args:
        truth: The label they have.
        predicted: The label they were given.
        images: How many.
        share: Of the images that have the first label, 0-1.
    """

    truth: int
    predicted: int
    images: int
    share: float


@dataclass(frozen=True)
class ImageClass:
    """How one image was classified.

    Args:
        image_id: The image's id in its data set.
        truth: The label it has.
        predicted: The likeliest label.
        score: The predicted label's probability, 0-1.
        truth_score: The true label's probability, 0-1.
    """

    image_id: int
    truth: int
    predicted: int
    score: float
    truth_score: float


@dataclass(frozen=True)
class ClassificationScores:
    """All that is known about a classifier's quality on one split.

    Args:
        top1: Share of the images whose likeliest label is right.
        top5: Share of the images whose label is among the five likeliest; NaN with five classes or fewer, of
            which that says nothing.
        balanced_accuracy: Mean over the classes with images of their accuracy.
        per_class: One entry a class, in label order.
        interval95: Bootstrap intervals over images of "top1", "top5" and "balanced_accuracy", of those that
            exist; empty where not asked for.
        confusion: Images: rows are truth, columns predictions.
        confused: The most frequent mistakes, most frequent first.
        ece: Expected calibration error over `reliability`, 0-1.
        confidence: Mean probability of the likeliest label, which `top1` equals for a well calibrated model.
        reliability: The reliability curve, least confidence first; bins without images are left out.
        worst: The most confident mistakes, most confident first.
        typical: The images whose true label's probability is nearest to the median image's.
        images: How many images were scored.
    """

    top1: float
    top5: float
    balanced_accuracy: float
    per_class: tuple[ClassAccuracy, ...]
    interval95: dict[str, Interval]
    confusion: Int64[np.ndarray, "classes classes"]
    confused: tuple[ConfusedPair, ...]
    ece: float
    confidence: float
    reliability: tuple[ReliabilityBin, ...]
    worst: tuple[ImageClass, ...]
    typical: tuple[ImageClass, ...]
    images: int

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers, `null` for NaN: the form of `score --json` and `scores.json`."""
        return to_plain("classification", self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ClassificationScores":
        """Read what `to_json` wrote.

        Raises:
            UsageError: If it is another task's, or a field is missing or of another kind.
        """
        return from_plain("classification", cls, data)
