"""Predictions matched with objects by COCO's rules, for all images, IoU thresholds and size ranges at once.

COCO matches greedily: in each image and class the predictions choose in the order of their scores, each the
free object with the highest IoU. The n-th choices of *different* images and classes do not depend on each
other, so the n-th choices of all of them are made in one vectorised round.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trivet.evaluate.overlaps import Pairs, overlapping_pairs
from trivet.evaluate.ranking import RankedBoxes

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
EVERY_SIZE: dict[str, tuple[float, float]] = {"all": (0.0, 1e10)}
SIZES: dict[str, tuple[float, float]] = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's size ranges: least and greatest area in square pixels, both inclusive."""


@dataclass(frozen=True)
class Matches:
    """Which predictions are right at each size range and IoU threshold.

    A prediction that is neither right nor ignored is wrong.

    Args:
        right: It found an object of its class.
        ignored: It counts neither way: it is on a crowd region or on an object outside of the size range, or
            has itself a size outside of the range and found nothing.
        truth: Row of the object or crowd region it was matched with at the first size range and threshold;
            -1 for none.
        counted: Whether finding an object counts: not a crowd region, and inside of the size range.
    """

    right: Bool[np.ndarray, "k sizes thresholds"]
    ignored: Bool[np.ndarray, "k sizes thresholds"]
    truth: Int64[np.ndarray, " k"]
    counted: Bool[np.ndarray, "m sizes"]


def match(
    found: RankedBoxes,
    objects: RankedBoxes,
    *,
    thresholds: Float64[np.ndarray, " thresholds"] = IOU_THRESHOLDS,
    sizes: Mapping[str, tuple[float, float]] = EVERY_SIZE,
) -> Matches:
    """Match predictions with objects of their image and class at every size range and IoU threshold."""
    counted = _inside(objects.areas, sizes) & ~objects.crowd[:, None]
    taken = np.zeros((len(objects), len(sizes), len(thresholds)), bool)
    right = np.zeros((len(found), len(sizes), len(thresholds)), bool)
    ignored = np.repeat(~_inside(found.areas, sizes)[:, :, None], len(thresholds), axis=2)
    truth_of = np.full(len(found), -1, np.int64)
    pairs = same_class_pairs(found, objects, least=min(1, thresholds.min()))
    for turn in _turns(pairs, found):
        truth, count = pairs.truth[turn], len(turn)
        starts = np.flatnonzero(np.diff(pairs.prediction[turn], prepend=-1))
        suits = ~taken[truth] | objects.crowd[truth, None, None]
        suits &= pairs.iou[turn, None, None] >= thresholds
        # The last suitable pair has the highest IoU; an object that counts goes before any that does not.
        place = np.arange(count)[:, None] + count * counted[truth]
        best = np.maximum.reduceat(np.where(suits, place[:, :, None], -1), starts, axis=0)
        hit, choice = best >= 0, truth[best % count]
        who = pairs.prediction[turn][starts]
        right[who] = best >= count
        ignored[who] = np.where(hit, best < count, ignored[who])
        truth_of[who] = np.where(hit[:, 0, 0], choice[:, 0, 0], -1)
        _, size, threshold = np.nonzero(hit)
        taken[choice[hit], size, threshold] = True
    return Matches(right, ignored, truth_of, counted)


def same_class_pairs(found: RankedBoxes, objects: RankedBoxes, *, least: float) -> Pairs:
    """Find the predictions and objects of one image and class whose IoU is at least `least`."""
    images = 1 + max(found.image.max(initial=0), objects.image.max(initial=0))
    groups, truth_groups = (boxes.labels * images + boxes.image for boxes in (found, objects))
    return overlapping_pairs(
        found.boxes_xyxy, groups, objects.boxes_xyxy, truth_groups, crowd=objects.crowd, least=least
    )


def _turns(pairs: Pairs, found: RankedBoxes) -> Iterator[np.ndarray]:
    """Yield the pairs of the first choices of every image and class, then of the second, and so on."""
    if not len(pairs):
        return
    first = np.diff(pairs.prediction, prepend=-1) != 0
    who = pairs.prediction[first]
    new_group = (np.diff(found.labels[who], prepend=-1) != 0) | (np.diff(found.image[who], prepend=-1) != 0)
    order = np.arange(len(who))
    turn = (order - np.maximum.accumulate(np.where(new_group, order, 0)))[np.cumsum(first) - 1]
    yield from np.split(np.argsort(turn, kind="stable"), np.cumsum(np.bincount(turn))[:-1])


def _inside(areas: np.ndarray, sizes: Mapping[str, tuple[float, float]]) -> np.ndarray:
    low, high = np.array(list(sizes.values())).T
    return (areas[:, None] >= low) & (areas[:, None] <= high)
