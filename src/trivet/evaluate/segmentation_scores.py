"""What scoring a segmenter gives, as plain data, to JSON and back; a figure that does not exist is NaN."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from trivet.evaluate.plain import from_plain, to_plain
from trivet.evaluate.scores import Interval


@dataclass(frozen=True)
class ClassIou:
    """The figures of one class; all are shares in 0-1.

    Args:
        name: The class's name.
        iou: Pixels rightly given the class / pixels that have it, were given it, or both; NaN for a class that
            is neither in the truth nor predicted.
        accuracy: Share of its pixels that are right (recall); NaN without truth.
        precision: Share of the pixels given the class that are right; NaN where it is never predicted.
        boundary_f1: Mean over the images where the class has a boundary; NaN where it has none.
        share: Of all scored pixels, how many have the class.
        predicted_share: Of all scored pixels, how many were given the class.
        images: How many images hold the class.
    """

    name: str
    iou: float
    accuracy: float
    precision: float
    boundary_f1: float
    share: float
    predicted_share: float
    images: int


@dataclass(frozen=True)
class Confused:
    """Pixels of one class that were given another.

    Args:
        truth: The label they have.
        predicted: The label they were given.
        pixels: How many.
    """

    truth: int
    predicted: int
    pixels: int


@dataclass(frozen=True)
class ImageMask:
    """How well one image is segmented.

    Args:
        image_id: The image's id in its data set.
        iou: Mean IoU of the classes that are in the image's truth or prediction, 0-1.
        pixel_accuracy: Share of its scored pixels that are right, 0-1.
        confused: Its most frequent mistake; `None` for a perfect image.
        pixels: How many of its pixels are scored.
    """

    image_id: int
    iou: float
    pixel_accuracy: float
    confused: Confused | None
    pixels: int


@dataclass(frozen=True)
class SegmentationScores:
    """All that is known about a segmenter's quality on one split.

    Args:
        miou: Mean IoU over the classes in truth or prediction, from one confusion matrix of the whole split.
        pixel_accuracy: Share of all scored pixels that are right.
        boundary_f1: Mean over images of the mean F1 of their classes' boundaries (Csurka et al. 2013).
        boundary_tolerance: How far a boundary may be off, as a share of the image's diagonal.
        per_class: One entry a class, in label order.
        interval95: Bootstrap intervals over images of "miou", "pixel_accuracy" and "boundary_f1"; empty where
            not asked for.
        confusion: Pixels: rows are truth, columns predictions.
        worst: The images with the lowest IoU that have mistakes, worst first.
        typical: The images whose IoU is nearest to the median image's.
        images: How many images were scored.
        pixels: How many pixels were scored.
        void: How many pixels were left out because their truth is 255.
    """

    miou: float
    pixel_accuracy: float
    boundary_f1: float
    boundary_tolerance: float
    per_class: tuple[ClassIou, ...]
    interval95: dict[str, Interval]
    confusion: Int64[np.ndarray, "classes classes"]
    worst: tuple[ImageMask, ...]
    typical: tuple[ImageMask, ...]
    images: int
    pixels: int
    void: int

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that are neither in the truth nor predicted, which `miou` therefore leaves out."""
        return tuple(row.name for row in self.per_class if math.isnan(row.iou))

    def confused(self, most: int) -> tuple[Confused, ...]:
        """Return the most frequent mistakes, most frequent first, at most this many."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [divmod(int(cell), len(wrong)) for cell in order]
        return tuple(
            Confused(row, column, int(wrong[row, column])) for row, column in pairs if wrong[row, column]
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers, `null` for NaN: the form of `score --json` and `scores.json`."""
        return to_plain("segmentation", self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SegmentationScores":
        """Read what `to_json` wrote.

        Raises:
            UsageError: If it is another task's, or a field is missing or of another kind.
        """
        return from_plain("segmentation", cls, data)
