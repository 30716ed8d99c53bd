"""A rectangle of one image, resized into a rectangle of another, with its boxes and mask.

Letterboxing, random crops and mosaics are all this one step with different rectangles. Rectangles are whole
pixels, so that the scale is an exact fraction and boxes map back to the original image without a shift.
"""

from dataclasses import replace
from typing import TypeAlias

import cv2
import numpy as np

from trivet.errors import unknown_name
from trivet.structures import IGNORE_LABEL, Placement, Sample

Region: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels, right and bottom exclusive."""

SHRINKING = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}
"""How pixels are averaged when an image shrinks: `area` covers every pixel, `linear` is faster and may alias."""


def place(
    sample: Sample,
    *,
    size_hw: tuple[int, int],
    source: Region,
    target: Region,
    fill_rgb: tuple[int, int, int],
    shrinking: str = "area",
    min_visible: float = 0.0,
    min_side: float = 0.0,
) -> Sample:
    """Resize the rectangle `source` of a sample into the rectangle `target` of a new image.

    Args:
        sample: What to place; its own placement is carried on.
        size_hw: The new image's size.
        source: Part of `sample.image`, at least one pixel.
        target: Where it goes in the new image, at least one pixel.
        fill_rgb: Colour of the pixels outside `target`.
        shrinking: A name of `SHRINKING`.
        min_visible: Share (0-1) of a box's area that must lie inside `source` for the box to stay.
        min_side: Shortest side in new pixels for a box to stay.

    Raises:
        UsageError: If `shrinking` is not a known name.
    """
    if shrinking not in SHRINKING:
        raise unknown_name("way of shrinking", shrinking, SHRINKING)
    view = _placement(sample.image.shape[:2], source, target)
    boxes, keep = cut_boxes(_map(sample.boxes_xyxy, view), target, min_visible=min_visible, min_side=min_side)
    mask = sample.mask
    if mask is not None:
        small = _resize(mask, source, target, cv2.INTER_NEAREST_EXACT)
        mask = _pad(small, size_hw, target, IGNORE_LABEL)
    return replace(
        sample,
        image=_pad(_resize(sample.image, source, target, SHRINKING[shrinking]), size_hw, target, fill_rgb),
        boxes_xyxy=boxes[keep],
        labels=sample.labels[keep],
        crowd=sample.crowd[keep],
        mask=mask,
        placement=_after(sample.placement, view),
    )


def cut_boxes(
    boxes_xyxy: np.ndarray, region: Region, *, min_visible: float = 0.0, min_side: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Cut boxes at a rectangle's border and say which of them are still worth keeping.

    Args:
        boxes_xyxy: `[n, 4]`; boxes without area or with a value that is not finite are never kept.
        region: The rectangle.
        min_visible: Share (0-1) of a box's area that must remain.
        min_side: Shortest side, pixels, that must remain.

    Returns:
        The cut boxes float32 `[n, 4]` and bool `[n]`.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    boxes = np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, 0.0)
    cut = np.clip(boxes, np.tile(region[:2], 2), np.tile(region[2:], 2))
    sides, whole = cut[:, 2:] - cut[:, :2], np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    keep = (sides > 0).all(1) & (sides >= min_side).all(1) & (sides.prod(1) >= min_visible * whole)
    return cut.astype(np.float32), keep


def turn(sample: Sample, *, mirror: bool = False, flip: bool = False, transpose: bool = False) -> Sample:
    """Mirror left-right, flip up-down, then swap rows and columns: the eight ways to lay an image down.

    The result stands for itself: its placement is the identity, because none can express a turn.
    """
    height, width = sample.image.shape[:2]
    left, top, right, bottom = sample.boxes_xyxy.T
    image, mask = sample.image, sample.mask
    if mirror:
        image, left, right = cv2.flip(image, 1), width - right, width - left
        mask = None if mask is None else mask[:, ::-1]
    if flip:
        image, top, bottom = cv2.flip(image, 0), height - bottom, height - top
        mask = None if mask is None else mask[::-1]
    if transpose:
        image, left, top, right, bottom = cv2.transpose(image), top, left, bottom, right
        mask = None if mask is None else mask.T
    return replace(
        sample,
        image=image,
        boxes_xyxy=np.stack([left, top, right, bottom], axis=1),
        mask=mask,
        placement=Placement(image.shape[:2]),
    )


def _placement(original_hw: tuple[int, int], source: Region, target: Region) -> Placement:
    scale_x, scale_y = ((target[i + 2] - target[i]) / (source[i + 2] - source[i]) for i in (0, 1))
    return Placement(
        original_hw, (scale_y, scale_x), (target[1] - source[1] * scale_y, target[0] - source[0] * scale_x)
    )


def _after(first: Placement, second: Placement) -> Placement:
    """Return the placement that does `first`, then `second`."""
    scale_yx = (first.scale_yx[0] * second.scale_yx[0], first.scale_yx[1] * second.scale_yx[1])
    offset_yx = (
        first.offset_yx[0] * second.scale_yx[0] + second.offset_yx[0],
        first.offset_yx[1] * second.scale_yx[1] + second.offset_yx[1],
    )
    return Placement(first.original_hw, scale_yx, offset_yx)


def _map(boxes_xyxy: np.ndarray, view: Placement) -> np.ndarray:
    scale, offset = np.tile(view.scale_yx[::-1], 2), np.tile(view.offset_yx[::-1], 2)
    return boxes_xyxy.astype(np.float64) * scale + offset


def _resize(pixels: np.ndarray, source: Region, target: Region, shrinking: int) -> np.ndarray:
    part = pixels[source[1] : source[3], source[0] : source[2]]
    height, width = target[3] - target[1], target[2] - target[0]
    if part.shape[:2] == (height, width):
        return part
    shrinks = height <= part.shape[0] and width <= part.shape[1]
    # INTER_AREA repeats pixels when it enlarges; linear is right there.
    how = cv2.INTER_LINEAR if shrinking == cv2.INTER_AREA and not shrinks else shrinking
    return cv2.resize(part, (width, height), interpolation=how)


def _pad(
    part: np.ndarray, size_hw: tuple[int, int], target: Region, fill: int | tuple[int, int, int]
) -> np.ndarray:
    left, top, right, bottom = target
    edges = (top, size_hw[0] - bottom, left, size_hw[1] - right)
    return cv2.copyMakeBorder(part, *edges, cv2.BORDER_CONSTANT, value=fill)
