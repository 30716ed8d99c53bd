"""How well the boundaries of a predicted mask lie on the true ones.

The boundary F1 of Csurka, Larlus and Perronnin 2013 ("What is a good evaluation measure for semantic
segmentation?", BMVC, section 3): for each class, precision is the share of the predicted boundary's pixels
within a tolerance of the true boundary, recall the share of the true boundary's pixels within it of the
predicted one.
"""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

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
    radius = tolerance * math.hypot(*truth.shape)
    counted = _near(truth != IGNORE_LABEL, radius)
    filled = _filled(truth)
    true_edges = np.where(_edges(filled), filled, IGNORE_LABEL)
    found_edges = np.where(_edges(predicted), predicted, IGNORE_LABEL)
    right, of_found = _matched(found_edges, true_edges, counted, radius, classes)
    reached, of_true = _matched(true_edges, found_edges, counted, radius, classes)
    precision, recall = right / np.maximum(of_found, 1), reached / np.maximum(of_true, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.where(of_found + of_true > 0, f1, np.nan).astype(np.float32)


def _matched(
    edges: UInt8[np.ndarray, "h w"],
    others: UInt8[np.ndarray, "h w"],
    counted: Bool[np.ndarray, "h w"],
    radius: float,
    classes: int,
) -> tuple[Int64[np.ndarray, " classes"], Int64[np.ndarray, " classes"]]:
    """Count each class's edge pixels that have one of the other mask's within `radius`, and all of them.

    Args:
        edges: The label of each edge pixel, 255 elsewhere.
        others: The same of the other mask.
        counted: The pixels of `edges` that count.
        radius: Pixels, from centre to centre.
        classes: How many classes there are; edges of other labels do not count.
    """
    border = int(radius)
    around = np.pad(others, border, constant_values=IGNORE_LABEL)
    rows, columns = np.nonzero(counted & (edges < classes))
    labels = edges[rows, columns]
    every = np.bincount(labels, minlength=classes)
    places = (rows + border) * around.shape[1] + columns + border
    left, around_flat = labels, around.ravel()
    for step in _steps(radius, around.shape[1]):  # the nearest first: most pixels need but a few
        missed = around_flat[places + step] != left
        places, left = places[missed], left[missed]
    return every - np.bincount(left, minlength=classes), every


def _steps(radius: float, width: int) -> list[int]:
    """Return the way to every pixel within `radius` as a step in a flat image of this width, nearest first."""
    reach = int(radius)
    ways = [(y, x) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    near = sorted((way for way in ways if math.hypot(*way) <= radius), key=lambda way: math.hypot(*way))
    return [y * width + x for y, x in near]


def _edges(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Say which pixels have another label above, below, left or right."""
    # Beyond the border cv2 takes nothing into account, so the image's edge is no boundary.
    lowest, highest = cv2.erode(mask, _FOUR_NEIGHBOURS), cv2.dilate(mask, _FOUR_NEIGHBOURS)
    return (lowest != mask) | (highest != mask)


def _near(pixels: Bool[np.ndarray, "h w"], radius: float) -> Bool[np.ndarray, "h w"]:
    """Say which pixels lie within `radius` of one of these, from centre to centre."""
    if pixels.all() or not pixels.any():
        return pixels
    distance = cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= np.float32(radius)


def _filled(truth: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Give void pixels the label of the nearest pixel that has one."""
    void = (truth == IGNORE_LABEL).astype(np.uint8)
    if not void.any() or void.all():
        return truth
    _, nearest = cv2.distanceTransformWithLabels(void, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    label_of = np.zeros(int(nearest.max()) + 1, np.uint8)
    label_of[nearest[void == 0]] = truth[void == 0]
    return label_of[nearest]
