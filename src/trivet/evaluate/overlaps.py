"""Which predictions lie on which objects: the few pairs that overlap, found without a loop over images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Pairs:
    """Overlapping predictions and objects, ordered by prediction, then IoU, then object, all ascending.

    Args:
        prediction: Row of the prediction.
        truth: Row of the object.
        iou: Their IoU; for a crowd region the share of the prediction that lies inside it.
    """

    prediction: Int64[np.ndarray, " p"]
    truth: Int64[np.ndarray, " p"]
    iou: Float64[np.ndarray, " p"]

    def __len__(self) -> int:
        return len(self.iou)

    def where(self, keep: Bool[np.ndarray, " p"]) -> "Pairs":
        """Return the pairs for which `keep` holds."""
        return Pairs(self.prediction[keep], self.truth[keep], self.iou[keep])


def areas(boxes_xyxy: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, " n"]:
    """Return width x height of each box, in square pixels."""
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def paired_iou(
    first_xyxy: Float64[np.ndarray, "p 4"],
    second_xyxy: Float64[np.ndarray, "p 4"],
    crowd: Bool[np.ndarray, " p"],
) -> Float64[np.ndarray, " p"]:
    """Return the IoU of box i of the first and box i of the second, divided as COCO does where second is a crowd.

    Two boxes without area have IoU 0.
    """
    left_top = np.maximum(first_xyxy[:, :2], second_xyxy[:, :2])
    right_bottom = np.minimum(first_xyxy[:, 2:], second_xyxy[:, 2:])
    common_wh = np.maximum(right_bottom - left_top, 0)
    common = common_wh[:, 0] * common_wh[:, 1]
    whole = areas(first_xyxy)
    whole = np.where(crowd, whole, whole + areas(second_xyxy) - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def overlapping_pairs(
    boxes_xyxy: Float64[np.ndarray, "k 4"],
    groups: Int64[np.ndarray, " k"],
    truth_boxes_xyxy: Float64[np.ndarray, "m 4"],
    truth_groups: Int64[np.ndarray, " m"],
    *,
    crowd: Bool[np.ndarray, " m"],
    least: float,
) -> Pairs:
    """Find the pairs of one group (an image, or an image and class) whose IoU is at least `least`.

    Memory grows with the pairs that are found, not with those that are tried.
    """
    order = np.argsort(truth_groups, kind="stable")
    starts = np.searchsorted(truth_groups[order], groups, side="left")
    counts = np.searchsorted(truth_groups[order], groups, side="right") - starts
    found = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for rows in _chunks(counts):
        prediction = np.repeat(np.arange(rows.start, rows.stop), counts[rows])
        within = np.arange(len(prediction)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
        truth = order[starts[prediction] + within]
        iou = paired_iou(boxes_xyxy[prediction], truth_boxes_xyxy[truth], crowd[truth])
        found.append(Pairs(prediction, truth, iou).where(iou >= least))
    joined = Pairs(*(np.concatenate(column) for column in zip(*map(_columns, found), strict=True)))
    by_iou = np.lexsort((joined.truth, joined.iou, joined.prediction))
    return Pairs(joined.prediction[by_iou], joined.truth[by_iou], joined.iou[by_iou])


def _columns(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return pairs.prediction, pairs.truth, pairs.iou


def _chunks(counts: np.ndarray) -> Iterator[slice]:
    """Cut the rows so that each part has about `_PAIRS_AT_ONCE` pairs, and at least one row."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
