"""Other images of the same kind, as the bootstrap imagines them: each image drawn a number of times."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from trivet.evaluate.scores import Interval

_CELLS_AT_ONCE = 1 << 21


def image_weights(
    images: int, *, resamples: int, seed: int
) -> Iterator[Float64[np.ndarray, "some_resamples images"]]:
    """Yield, block by block, how often each image occurs in each resample of as many images as there are.

    Nothing is yielded where an interval would mean nothing: with fewer than two images or resamples.
    """
    if images < 2 or resamples < 2:
        return
    draws = np.random.default_rng(seed)
    step = max(_CELLS_AT_ONCE // images, 1)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = draws.integers(images, size=(count, images))
        yield np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float64)


def interval95(values: Float64[np.ndarray, " n"]) -> Interval:
    """Return the 2.5th and the 97.5th percentile of the values that exist."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(low), float(high))
