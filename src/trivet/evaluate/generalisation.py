"""How much better a model does on the images it learnt from than on others."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from trivet.errors import UsageError
from trivet.evaluate.scores import Interval

_Z = 1.959964  # the standard normal distribution's 97.5th percentile


@dataclass(frozen=True)
class GeneralisationGap:
    """A score on training images less the same on validation images.

    Args:
        train: Score on training images, without augmentation, 0-1.
        val: Score on validation images, 0-1.
        gap: `train` - `val`.
        interval95: Of the gap.
        train_images: How many training images were looked at.
        val_images: How many validation images were looked at.
        measure: What the score is called.
    """

    train: float
    val: float
    gap: float
    interval95: Interval
    train_images: int
    val_images: int
    measure: str = "accuracy"


def generalisation_gap(
    train_correct: Bool[np.ndarray, " n"], val_correct: Bool[np.ndarray, " m"]
) -> GeneralisationGap:
    """Return the gap of train and validation accuracy with its 95 % interval.

    The interval is Newcombe's for the difference of two independent proportions (1998, "Interval estimation for
    the difference between independent proportions", Statistics in Medicine 17, method 10), which also holds
    where a model is right on all of its training images.

    Args:
        train_correct: Whether each training image, or each of a random sample of them, is right.
        val_correct: Whether each validation image is right.

    Raises:
        UsageError: If either is empty.
    """
    if not (len(train_correct) and len(val_correct)):
        raise UsageError(
            f"a gap needs images of both splits, got {len(train_correct)} train and {len(val_correct)} validation images"
        )
    train, val = float(train_correct.mean()), float(val_correct.mean())
    within = gap_interval(
        train,
        wilson_interval(train, len(train_correct)),
        val,
        wilson_interval(val, len(val_correct)),
    )
    return GeneralisationGap(train, val, train - val, within, len(train_correct), len(val_correct))


def gap_interval(train: float, train_interval: Interval, val: float, val_interval: Interval) -> Interval:
    """Return the 95 % interval of `train` - `val`, of two scores on different images, from that of each.

    Newcombe's way for any pair of intervals (Zou and Donner 2008, "Construction of confidence limits about effect
    measures", Statistics in Medicine 27, equations 2 and 3).
    """
    low = train - val - math.hypot(train - train_interval.low, val_interval.high - val)
    high = train - val + math.hypot(train_interval.high - train, val - val_interval.low)
    return Interval(low, high)


def wilson_interval(share: float, count: int) -> Interval:
    """Return Wilson's 95 % score interval (1927) of a share seen in `count` images; both in 0-1."""
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return Interval(middle - half, middle + half)
