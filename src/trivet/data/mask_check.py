"""Which labels a mask holds.

A mask after a transform must hold the labels it held before, and no others: labels cannot be mixed.
"""

from dataclasses import replace

import numpy as np

from trivet.errors import UsageError
from trivet.structures import IGNORE_LABEL, Sample


def checked_mask(before: Sample, after: Sample) -> Sample:
    """Return `after` with its mask as uint8, when its labels are all of `before`'s mask, or 255.

    Args:
        before: What the user's transform was given.
        after: What it returned.

    Raises:
        UsageError: If the mask is gone, is not of whole numbers, or has a label that it had not: an enlargement
            or a turn that interpolates makes 6 of 5 and 7.
    """
    if before.mask is None:
        return after
    if after.mask is None:
        raise UsageError(f"{before.name}: the augmentation returned the image without its mask")
    if after.mask.dtype.kind not in "ui":
        raise UsageError(
            f"{before.name}: the augmentation returned a mask of {after.mask.dtype}, where whole numbers are wanted",
            "leave the mask as it is given, uint8; it holds labels, not amounts",
        )
    invented = sorted(_labels(after.mask) - _labels(before.mask) - {IGNORE_LABEL})
    if invented:
        raise UsageError(
            f"{before.name}: the augmentation invented the label {', '.join(map(str, invented[:8]))}, which the mask did "
            f"not hold ({', '.join(map(str, sorted(_labels(before.mask))[:12]))})",
            "resize and turn masks by nearest neighbour, and fill them with 255 (ignored)",
        )
    return replace(after, mask=after.mask.astype(np.uint8, copy=False))


def label_counts(mask: np.ndarray) -> np.ndarray:
    """Return int64 `[256]`, how many pixels of a uint8 mask have each label."""
    return np.bincount(mask.ravel(), minlength=256)


def _labels(mask: np.ndarray) -> set[int]:
    if mask.dtype == np.uint8:
        return set(np.flatnonzero(label_counts(mask)).tolist())
    return set(np.unique(mask).tolist())
