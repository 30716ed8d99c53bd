"""Whether a model is right as often as it is sure: reliability and expected calibration error.

After Guo et al. 2017 ("On calibration of modern neural networks", ICML, section 2): predictions are grouped by
confidence into bins of equal width, (0, 1/15], (1/15, 2/15] ...; the error is the mean gap between confidence
and accuracy, weighted by how many predictions a bin holds.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions of about one confidence; all but the count are shares in 0-1.

    Args:
        low: Confidences in the bin are above this,
        high: and at most this.
        images: How many predictions it holds.
        confidence: Their mean confidence.
        accuracy: How many of them are right.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def reliability(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], *, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Return the bins that hold predictions, least confidence first.

    Args:
        confidence: Probability of each prediction, 0-1.
        right: Whether it is right.
        bins: Of how many equal widths.
    """
    edges = np.arange(bins + 1) / bins
    # Side "left" puts a confidence on an edge into the bin below it; 0 itself belongs to the first.
    place = np.maximum(np.searchsorted(edges, confidence.astype(np.float64), side="left") - 1, 0)
    images = np.bincount(place, minlength=bins)
    sure = np.bincount(place, confidence, minlength=bins) / np.maximum(images, 1)
    true = np.bincount(place, right, minlength=bins) / np.maximum(images, 1)
    return tuple(
        ReliabilityBin(float(edges[i]), float(edges[i + 1]), int(images[i]), float(sure[i]), float(true[i]))
        for i in np.flatnonzero(images)
    )


def expected_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Return the mean gap between confidence and accuracy, weighted by images, 0-1; NaN without any."""
    images = sum(one.images for one in bins)
    if not images:
        return float("nan")
    return sum(one.images * abs(one.accuracy - one.confidence) for one in bins) / images
