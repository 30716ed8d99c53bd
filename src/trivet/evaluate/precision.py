"""Average precision and recall as COCO defines them, from predictions that are known to be right or wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trivet.evaluate.matching import Matches
from trivet.evaluate.ranking import RankedBoxes

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Figures:
    """AP and recall of every class; NaN for a class and size range without objects.

    Args:
        ap: Average precision, in 0-1.
        recall: Share of the objects found by the best n predictions of each image, for each n asked for.
    """

    ap: Float64[np.ndarray, "classes sizes thresholds"]
    recall: Float64[np.ndarray, "classes sizes thresholds limits"]


def average_precision(
    found: RankedBoxes, objects: RankedBoxes, matches: Matches, *, classes: int, limits: Sequence[int] = ()
) -> Figures:
    """Return AP and recall of each class, size range and IoU threshold.

    Args:
        found: The predictions.
        objects: The truth.
        matches: What `match` made of both.
        classes: How many classes there are.
        limits: The n for which recall is wanted.
    """
    _, sizes, thresholds = matches.right.shape
    ap = np.full((classes, sizes, thresholds), np.nan)
    recall = np.full((classes, sizes, thresholds, len(limits)), np.nan)
    for label in range(classes):
        rows = found.of_label(label)
        positives = matches.counted[objects.of_label(label)].sum(axis=0)
        order = score_order(found.scores[rows])
        right, ignored = matches.right[rows][order], matches.ignored[rows][order]
        for size in np.flatnonzero(positives):
            for threshold in range(thresholds):
                precision, _ = precision_at_recall(
                    right[:, size, threshold], ~ignored[:, size, threshold], int(positives[size])
                )
                ap[label, size, threshold] = precision.mean()
            for place, limit in enumerate(limits):
                best = found.rank[rows][order] < limit
                recall[label, size, :, place] = right[best, size].sum(axis=0) / positives[size]
    return Figures(ap, recall)


def score_order(scores: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the positions of the scores from the highest to the lowest, equal ones as they stand."""
    return np.argsort(-scores, kind="stable")


def precision_at_recall(
    right: Bool[np.ndarray, " n"], counts: Bool[np.ndarray, " n"], positives: int
) -> tuple[Float64[np.ndarray, " 101"], Int64[np.ndarray, " 101"]]:
    """Return the best precision at each recall level or above it, and which prediction reaches the level.

    Precision falls at every wrong prediction and recall rises only at a right one, so the right ones are all
    that has to be looked at.

    Args:
        right: Whether each prediction is right, best score first.
        counts: Whether it counts at all.
        positives: How many objects there are, at least 1.

    Returns:
        Precision, 0 where the recall is not reached; the prediction's position, `n` where it is not.
    """
    hits = np.flatnonzero(right)
    number = np.arange(1, len(hits) + 1)
    precision = number / np.cumsum(counts)[hits]
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    reached = np.searchsorted(number / positives, RECALL_LEVELS, side="left")
    return envelope[reached], np.append(hits, len(right))[reached]


def mean(values: Float64[np.ndarray, "..."]) -> float:
    """Return the mean of the figures that exist, NaN when none does."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
