"""Precision against recall for each class, and the score threshold that serves best, at IoU .5."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from trivet.evaluate.matching import Matches
from trivet.evaluate.precision import RECALL_LEVELS, precision_at_recall, score_order
from trivet.evaluate.ranking import RankedBoxes
from trivet.evaluate.scores import BestThreshold, PrCurves


@dataclass(frozen=True)
class ClassRanking:
    """The predictions of one class (or of all together), best score first, and the number of its objects."""

    scores: Float64[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]
    counts: Bool[np.ndarray, " n"]
    positives: int


def class_rankings(
    found: RankedBoxes, objects: RankedBoxes, matches: Matches, *, classes: int
) -> tuple[ClassRanking, ...]:
    """Return each class's predictions at the first size range and IoU threshold of `matches`."""
    return tuple(
        _ranking(
            found, matches, found.of_label(label), int(matches.counted[objects.of_label(label), 0].sum())
        )
        for label in range(classes)
    )


def pooled_ranking(found: RankedBoxes, matches: Matches) -> ClassRanking:
    """Return the predictions of all classes as if they were of one."""
    return _ranking(found, matches, slice(None), int(matches.counted[:, 0].sum()))


def pr_curves(rankings: Sequence[ClassRanking]) -> PrCurves:
    """Return precision and score threshold at each of COCO's 101 recall levels."""
    precision = np.full((len(rankings), len(RECALL_LEVELS)), np.nan)
    thresholds = precision.copy()
    for label, ranking in enumerate(rankings):
        if ranking.positives:
            precision[label], place = precision_at_recall(ranking.right, ranking.counts, ranking.positives)
            thresholds[label] = np.append(ranking.scores, 0.0)[place]
    return PrCurves(RECALL_LEVELS.copy(), precision, thresholds)


def best_threshold(name: str, ranking: ClassRanking) -> BestThreshold:
    """Return the score threshold with the highest F1; of equal ones the highest.

    A threshold keeps all predictions of equal score or none of them.
    """
    nan = float("nan")
    if not ranking.positives:
        return BestThreshold(name, nan, nan, nan, nan)
    right, counted = np.cumsum(ranking.right), np.cumsum(ranking.counts)
    last_of_score = np.diff(ranking.scores, append=-np.inf) < 0
    f1 = np.where(last_of_score, 2 * right / (counted + ranking.positives), 0.0)
    if not f1.any():
        return BestThreshold(name, nan, 0.0, nan, 0.0)
    best = int(f1.argmax())
    return BestThreshold(
        name,
        float(ranking.scores[best]),
        float(f1[best]),
        float(right[best] / counted[best]),
        float(right[best] / ranking.positives),
    )


def _ranking(found: RankedBoxes, matches: Matches, rows: slice, positives: int) -> ClassRanking:
    order = score_order(found.scores[rows])
    right, ignored = matches.right[rows, 0, 0][order], matches.ignored[rows, 0, 0][order]
    return ClassRanking(found.scores[rows][order], right, ~ignored, positives)
