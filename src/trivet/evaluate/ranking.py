"""The boxes of truth and predictions in the order in which they are scored, after a check of every row."""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trivet.errors import UsageError
from trivet.evaluate.overlaps import areas
from trivet.structures import LabelMap, PredictionTable, TruthTable


@dataclass(frozen=True)
class RankedBoxes:
    """Boxes of many images as columns, ordered by label, then image, then falling score.

    Args:
        image: Position of the box's image among the image ids, ascending.
        labels: From 0.
        boxes_xyxy: In pixels of the original image.
        areas: In square pixels.
        crowd: Whether it is a crowd region; never for a prediction.
        scores: In 0-1; 1 for truth.
        rank: Position in its image and class, from 0.
    """

    image: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    boxes_xyxy: Float64[np.ndarray, "n 4"]
    areas: Float64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    scores: Float64[np.ndarray, " n"]
    rank: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def of_label(self, label: int) -> slice:
        """Return the rows of one class."""
        start, stop = np.searchsorted(self.labels, [label, label + 1])
        return slice(int(start), int(stop))

    def where(self, keep: Bool[np.ndarray, " n"]) -> "RankedBoxes":
        """Return the boxes for which `keep` holds, ranks unchanged."""
        return RankedBoxes(**{column.name: getattr(self, column.name)[keep] for column in fields(self)})


def rank_truth(truth: TruthTable, labels: LabelMap) -> RankedBoxes:
    """Return the objects in scoring order.

    Raises:
        UsageError: If an image id occurs twice, a label is none of `labels`, or a number is not finite.
    """
    ids, times = np.unique(truth.image_ids, return_counts=True)
    if (times > 1).any():
        raise UsageError(
            f"image id {int(ids[times.argmax()])} occurs {int(times.max())} times in the truth, wanted once each"
        )
    _check_rows("truth row", truth.labels, truth.boxes_xyxy, truth.areas, len(labels))
    order = np.argsort(np.argsort(truth.image_ids, kind="stable"), kind="stable")
    image = order[truth.image_index()]
    ranked = _ranked(image, truth.labels, truth.boxes_xyxy, np.ones(len(truth.labels)))
    by_label = np.lexsort((image, truth.labels))
    return replace(
        ranked, areas=truth.areas[by_label].astype(np.float64), crowd=truth.crowd[by_label].astype(bool)
    )


def rank_predictions(
    predictions: PredictionTable, truth: TruthTable, labels: LabelMap, *, most: int
) -> RankedBoxes:
    """Return the best `most` predictions of every image and class in scoring order.

    Raises:
        UsageError: If an image is not in `truth`, a label is none of `labels`, or a number is not finite.
    """
    if most < 1:
        raise UsageError(f"scoring needs at least one prediction an image, got most={most}")
    _check_rows("prediction", predictions.labels, predictions.boxes_xyxy, predictions.scores, len(labels))
    ids = np.sort(truth.image_ids)
    image = np.searchsorted(ids, predictions.image_ids)
    strange = image == len(ids)
    strange[~strange] = ids[image[~strange]] != predictions.image_ids[~strange]
    if strange.any():
        row = int(strange.argmax())
        raise UsageError(
            f"prediction {row} is for image {int(predictions.image_ids[row])}, which the truth does not have",
            "score predictions with the truth of the same split",
        )
    ranked = _ranked(image, predictions.labels, predictions.boxes_xyxy, predictions.scores)
    return ranked.where(ranked.rank < most)


def _ranked(image: np.ndarray, labels: np.ndarray, boxes_xyxy: np.ndarray, scores: np.ndarray) -> RankedBoxes:
    order = np.lexsort((-scores, image, labels))
    image, labels = image[order].astype(np.int64), labels[order].astype(np.int64)
    place = np.arange(len(order))
    first = (np.diff(labels, prepend=-1) != 0) | (np.diff(image, prepend=-1) != 0)
    rank = place - np.maximum.accumulate(np.where(first, place, 0))
    boxes = boxes_xyxy[order].astype(np.float64)
    crowd = np.zeros(len(order), bool)
    return RankedBoxes(image, labels, boxes, areas(boxes), crowd, scores[order].astype(np.float64), rank)


def _check_rows(
    kind: str, labels: np.ndarray, boxes_xyxy: np.ndarray, numbers: np.ndarray, classes: int
) -> None:
    unknown = (labels < 0) | (labels >= classes)
    if unknown.any():
        row = int(unknown.argmax())
        raise UsageError(
            f"{kind} {row} has label {int(labels[row])}, wanted 0 to {classes - 1}",
            "labels count from 0 and there is no background class",
        )
    broken = ~(np.isfinite(boxes_xyxy).all(axis=1) & np.isfinite(numbers))
    if broken.any():
        row = int(broken.argmax())
        raise UsageError(
            f"{kind} {row} is not finite: box {boxes_xyxy[row].tolist()}, {float(numbers[row])}",
            "leave such boxes out before scoring",
        )
