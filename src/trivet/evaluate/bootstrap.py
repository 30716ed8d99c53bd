"""How far the scores would move with other images: percentile intervals from resampled images.

Every resample draws as many images as there are, with replacement, which gives each image a weight. The
matches inside an image do not depend on the other images, so a resample needs no new matching: AP is worked
out from weighted counts, and is exactly the AP of a data set in which the images occur that often.
"""

import numpy as np
from jaxtyping import Float64, Int64

from trivet.evaluate.matching import Matches
from trivet.evaluate.precision import RECALL_LEVELS, score_order
from trivet.evaluate.ranking import RankedBoxes
from trivet.evaluate.resampling import interval95
from trivet.evaluate.scores import Interval

_CELLS_AT_ONCE = 1 << 21


def bootstrap_intervals(
    found: RankedBoxes,
    objects: RankedBoxes,
    matches: Matches,
    *,
    images: int,
    classes: int,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Return the 95 % intervals of "map" and "map50"; none for fewer than two images or resamples.

    Args:
        found: The predictions.
        objects: The truth.
        matches: What `match` made of both; its first size range is used.
        images: How many images there are.
        classes: How many classes there are.
        resamples: How often the images are drawn anew.
        seed: Of the draws.
    """
    if images < 2 or resamples < 2:
        return {}
    draws = np.random.default_rng(seed)
    weights = draws.multinomial(images, np.full(images, 1 / images), size=resamples)
    ap = resampled_ap(found, objects, matches, weights, classes=classes)
    samples = {"map": _mean_of_known(ap), "map50": _mean_of_known(ap[:, :, :1])}
    return {name: interval95(values) for name, values in samples.items()}


def resampled_ap(
    found: RankedBoxes,
    objects: RankedBoxes,
    matches: Matches,
    weights: Int64[np.ndarray, "resamples images"],
    *,
    classes: int,
) -> Float64[np.ndarray, "resamples classes thresholds"]:
    """Return each class's AP when image i occurs `weights[..., i]` times; NaN without objects."""
    ap = np.full((len(weights), classes, matches.right.shape[2]), np.nan)
    by_image = np.ascontiguousarray(weights.T.astype(np.int32))
    for label in range(classes):
        truth, rows = objects.of_label(label), found.of_label(label)
        positives = by_image[objects.image[truth][matches.counted[truth, 0]]].sum(axis=0)
        order = score_order(found.scores[rows])
        right, ignored = matches.right[rows, 0][order], matches.ignored[rows, 0][order]
        # Nothing after the last right prediction changes any AP.
        useful = int(np.flatnonzero(right.any(axis=1)).max(initial=-1)) + 1
        image = found.image[rows][order][:useful]
        step = max(_CELLS_AT_ONCE // max(useful, int(positives.max(initial=0)), 1), 1)
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            drawn = by_image[image, part]
            ap[part, label] = _weighted_ap(drawn, right[:useful], ignored[:useful], positives[part])
    return ap


def _weighted_ap(
    drawn: np.ndarray, right: np.ndarray, ignored: np.ndarray, positives: np.ndarray
) -> np.ndarray:
    """Return AP `[resamples, thresholds]` of `n` predictions that occur `drawn` `[n, resamples]` times each."""
    ap = np.repeat(np.where(positives > 0, 0.0, np.nan)[:, None], right.shape[1], axis=1)
    ever_right = np.flatnonzero(right.any(axis=1))
    if not len(ever_right):
        return ap
    everything = np.cumsum(np.add.reduceat(drawn, np.append(0, ever_right[:-1] + 1), axis=0), axis=0)
    levels = _levels_reached(positives)
    for threshold in range(right.shape[1]):
        hits = np.flatnonzero(right[:, threshold])
        counted = everything[np.searchsorted(ever_right, hits)]
        out = np.flatnonzero(ignored[:, threshold])
        if len(out):
            before = np.cumsum(drawn[out], axis=0)
            counted = counted - np.pad(before, ((1, 0), (0, 0)))[np.searchsorted(out, hits)]
        number = np.cumsum(drawn[hits], axis=0)
        precision = number / np.maximum(counted, 1)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = np.take_along_axis(levels, number, axis=0)
        levels_here = np.diff(reached, axis=0, prepend=0)
        ap[:, threshold] += (envelope * levels_here).sum(axis=0) / len(RECALL_LEVELS)
    return ap


def _levels_reached(positives: np.ndarray) -> np.ndarray:
    """Return `[most + 1, resamples]`: how many recall levels finding 0, 1 ... `most` objects reaches."""
    recall = np.arange(positives.max(initial=0) + 1)[:, None] / np.maximum(positives, 1)
    return np.searchsorted(RECALL_LEVELS, recall, side="right")


def _mean_of_known(ap: np.ndarray) -> np.ndarray:
    """Return each resample's mean over the classes and thresholds that exist, for resamples with any."""
    known = ~np.isnan(ap)
    count = known.sum(axis=(1, 2))
    total = np.where(known, ap, 0.0).sum(axis=(1, 2))
    return total[count > 0] / count[count > 0]
