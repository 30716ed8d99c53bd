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
    """Train accuracy less validation accuracy.

    Args:
        train: Accuracy on training images, without augmentation, 0-1.
        val: Accuracy on validation images, 0-1.
        gap: `train` - `val`.
        interval95: Of the gap.
        train_images: How many training images were looked at.
        val_images: How many validation images were looked at.
    """

    train: float
    val: float
    gap: float
    interval95: Interval
    train_images: int
    val_images: int


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
    train_low, train_high = wilson_interval(train, len(train_correct))
    val_low, val_high = wilson_interval(val, len(val_correct))
    gap = train - val
    low = gap - math.hypot(train - train_low, val_high - val)
    high = gap + math.hypot(train_high - train, val - val_low)
    return GeneralisationGap(train, val, gap, Interval(low, high), len(train_correct), len(val_correct))


def wilson_interval(share: float, count: int) -> Interval:
    """Return Wilson's 95 % score interval (1927) of a share seen in `count` images; both in 0-1."""
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return Interval(middle - half, middle + half)
