"""How well the boundaries of a predicted mask lie on the true ones.

The boundary F1 of Csurka, Larlus and Perronnin 2013 ("What is a good evaluation measure for semantic
segmentation?", BMVC, section 3): for each class, precision is the share of the predicted boundary's pixels
within a tolerance of the true boundary, recall the share of the true boundary's pixels within it of the
predicted one.
"""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from trivet.structures import IGNORE_LABEL

TOLERANCE = 0.0075
"""How far apart two boundaries may be to match, as a share of the image's diagonal: the paper's .75 %."""
_FOUR_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def boundary_f1(
    predicted: UInt8[np.ndarray, "h w"],
    truth: UInt8[np.ndarray, "h w"],
    *,
    classes: int,
    tolerance: float = TOLERANCE,
) -> Float32[np.ndarray, " classes"]:
    """Return each class's boundary F1, 0-1; NaN for a class without a boundary in both masks.

    A class's boundary is its pixels that have another class above, below, left or right; the image's edge is
    none. Void, which many data sets lay along the boundaries themselves, takes the label of the nearest pixel
    first, so that a boundary runs through its middle; what then lies deeper in it than the tolerance does not
    count.

    Args:
        predicted: Labels.
        truth: Labels, 255 for void.
        classes: How many classes there are.
        tolerance: As a share of the image's diagonal; a distance equal to it matches.
    """
    scores = np.full(classes, np.nan, np.float32)
    radius = tolerance * math.hypot(*truth.shape)
    counted = _near(truth != IGNORE_LABEL, radius)
    if not counted.any():
        return scores
    filled = _filled(truth)
    true_edges, found_edges = _edges(filled), _edges(predicted)
    for label in np.union1d(filled[true_edges & counted], predicted[found_edges & counted]).tolist():
        if label >= classes:
            continue
        true_edge, found_edge = true_edges & (filled == label), found_edges & (predicted == label)
        right = int((found_edge & counted & _near(true_edge, radius)).sum())
        reached = int((true_edge & counted & _near(found_edge, radius)).sum())
        precision = right / max(int((found_edge & counted).sum()), 1)
        recall = reached / max(int((true_edge & counted).sum()), 1)
        scores[label] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores


def _edges(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Say which pixels have another label above, below, left or right."""
    # Beyond the border cv2 takes nothing into account, so the image's edge is no boundary.
    lowest, highest = cv2.erode(mask, _FOUR_NEIGHBOURS), cv2.dilate(mask, _FOUR_NEIGHBOURS)
    return (lowest != mask) | (highest != mask)


def _near(pixels: Bool[np.ndarray, "h w"], radius: float) -> Bool[np.ndarray, "h w"]:
    """Say which pixels lie within `radius` of one of these, from centre to centre."""
    if not pixels.any():
        return np.zeros_like(pixels)
    if pixels.all():
        return pixels
    distance = cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= np.float32(radius)


def _filled(truth: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Give void pixels the label of the nearest pixel that has one."""
    void = (truth == IGNORE_LABEL).astype(np.uint8)
    if not void.any():
        return truth
    _, nearest = cv2.distanceTransformWithLabels(void, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    label_of = np.zeros(int(nearest.max()) + 1, np.uint8)
    label_of[nearest[void == 0]] = truth[void == 0]
    return label_of[nearest]
