"""The error budget of a detector: which kinds of mistakes it makes and how much AP50 each kind costs.

After TIDE (Bolya et al. 2020, arXiv 2008.08115, section 2): every wrong prediction is of one kind, and a kind
costs what AP50 would gain were all its mistakes, and no others, put right. The costs do not sum to 1 - AP50.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trivet.evaluate.matching import Matches
from trivet.evaluate.overlaps import Pairs, overlapping_pairs
from trivet.evaluate.precision import mean, precision_at_recall, score_order
from trivet.evaluate.ranking import RankedBoxes
from trivet.evaluate.scores import ErrorShare

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
ERRORS: dict[str, str] = {
    "wrong class": "well placed on an object of another class",
    "poor place": f"right class, but IoU only {BACKGROUND_IOU} to {FOREGROUND_IOU}",
    "both": "poorly placed and of the wrong class",
    "double": "a second prediction of an object that is already found",
    "background": "no object is there",
    "missed": "an object without any prediction that one of the other corrections would turn into a hit",
}
"""Every kind of mistake, and what it is. Putting right means: the best scored wrong class or poor place on an
object that is not found becomes a hit; all other wrong predictions of the kind go; missed objects go."""
_KINDS = tuple(ERRORS)


@dataclass(frozen=True)
class Mistakes:
    """What is wrong with each prediction and each object, at IoU .5.

    Args:
        kind: Of each prediction, the position in `ERRORS`; -1 where it is right or ignored.
        repairs: Of each prediction, the row of the object that it would find when put right; -1 for none.
        missed: Of each object, whether no prediction finds it or would find it when put right.
    """

    kind: Int64[np.ndarray, " k"]
    repairs: Int64[np.ndarray, " k"]
    missed: Bool[np.ndarray, " m"]


def image_pairs(found: RankedBoxes, objects: RankedBoxes, *, least: float = BACKGROUND_IOU) -> Pairs:
    """Find the predictions and objects (no crowd regions) of one image and any class with at least this IoU."""
    pairs = overlapping_pairs(
        found.boxes_xyxy,
        found.image,
        objects.boxes_xyxy,
        objects.image,
        crowd=objects.crowd,
        least=least,
    )
    return pairs.where(~objects.crowd[pairs.truth])


def find_mistakes(found: RankedBoxes, objects: RankedBoxes, matches: Matches, pairs: Pairs) -> Mistakes:
    """Give every wrong prediction its kind (section 2.2), by the first size range and threshold of `matches`."""
    wrong = ~(matches.right | matches.ignored)[:, 0, 0]
    same = objects.labels[pairs.truth] == found.labels[pairs.prediction]
    same_iou, same_truth = _nearest(pairs.where(same), len(found))
    other_iou, other_truth = _nearest(pairs.where(~same), len(found))
    tests = {
        "poor place": (same_iou >= BACKGROUND_IOU) & (same_iou < FOREGROUND_IOU),
        "wrong class": other_iou >= FOREGROUND_IOU,
        "double": same_iou >= FOREGROUND_IOU,
        "background": np.maximum(same_iou, other_iou) <= BACKGROUND_IOU,
    }
    kinds = [_KINDS.index(name) for name in tests]
    kind = np.where(wrong, np.select(list(tests.values()), kinds, _KINDS.index("both")), -1)
    nearest = np.select(
        [kind == _KINDS.index("poor place"), kind == _KINDS.index("wrong class")],
        [same_truth, other_truth],
        -1,
    )
    is_found = np.zeros(len(objects), bool)
    is_found[matches.truth[matches.right[:, 0, 0]]] = True
    claims = nearest >= 0
    claims[claims] = ~is_found[nearest[claims]]
    claimed = is_found.copy()
    claimed[nearest[claims]] = True
    missed = ~claimed & matches.counted[:, 0]
    return Mistakes(kind, _best_claims(nearest, claims, found.scores), missed)


def error_budget(
    found: RankedBoxes, objects: RankedBoxes, matches: Matches, mistakes: Mistakes, *, classes: int
) -> tuple[ErrorShare, ...]:
    """Return the kinds of mistakes, costliest first (section 2.3)."""
    right, counts = matches.right[:, 0, 0], ~matches.ignored[:, 0, 0]
    positives = np.bincount(objects.labels[matches.counted[:, 0]], minlength=classes)
    missed = np.bincount(objects.labels[mistakes.missed], minlength=classes)
    place = np.empty(len(found), np.int64)
    place[score_order(found.scores)] = np.arange(len(found))
    # Row -1 is what a prediction that repairs nothing points to.
    truth_labels = np.append(objects.labels, -1)[mistakes.repairs]

    def ap50_without(number: int) -> np.ndarray:
        repaired = (mistakes.kind == number) & (mistakes.repairs >= 0)
        keep = counts & ((mistakes.kind != number) | repaired)
        labels = np.where(repaired, truth_labels, found.labels)
        return _ap50(labels[keep], place[keep], (right | repaired)[keep], positives)

    ap50 = {name: ap50_without(number) for number, name in enumerate(ERRORS)}
    ap50["missed"] = _ap50(found.labels[counts], place[counts], right[counts], positives - missed)
    # A class of which every object was missed has nothing left to find.
    ap50["missed"][(positives > 0) & (positives == missed)] = 1.0
    now = mean(_ap50(found.labels[counts], place[counts], right[counts], positives))
    count = np.bincount(mistakes.kind[mistakes.kind >= 0], minlength=len(ERRORS))
    count[_KINDS.index("missed")] = missed.sum()
    shares = [
        ErrorShare(name, int(count[number]), max(mean(ap50[name]) - now, 0.0))
        for number, name in enumerate(ERRORS)
    ]
    return tuple(sorted(shares, key=lambda share: -share.ap_lost))


def _nearest(pairs: Pairs, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each prediction's highest IoU and the object it has that with; 0 and -1 where there is none."""
    iou, truth = np.zeros(count), np.full(count, -1, np.int64)
    # Pairs come in the order of their IoU, and the last of several assignments stays.
    iou[pairs.prediction], truth[pairs.prediction] = pairs.iou, pairs.truth
    return iou, truth


def _best_claims(nearest: np.ndarray, claims: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Let the best scored of the predictions that claim an object have it."""
    rows = np.flatnonzero(claims)
    rows = rows[np.lexsort((-scores[rows], nearest[rows]))]
    best = rows[np.diff(nearest[rows], prepend=-1) != 0]
    repairs = np.full(len(nearest), -1, np.int64)
    repairs[best] = nearest[best]
    return repairs


def _ap50(
    labels: Int64[np.ndarray, " n"],
    place: Int64[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    positives: Int64[np.ndarray, " classes"],
) -> Float64[np.ndarray, " classes"]:
    """Return each class's AP; `place` is where a prediction stands among all, best score first."""
    order = np.argsort(labels * (place.max(initial=0) + 1) + place)
    ends = np.searchsorted(labels[order], np.arange(len(positives) + 1))
    ap = np.full(len(positives), np.nan)
    for label in np.flatnonzero(positives):
        of_label = right[order[ends[label] : ends[label + 1]]]
        precision, _ = precision_at_recall(of_label, np.ones(len(of_label), bool), int(positives[label]))
        ap[label] = precision.mean()
    return ap
