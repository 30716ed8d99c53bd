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

SHRINKING = ("area", "quick", "linear")
"""How pixels are averaged when an image shrinks: `area` covers every pixel; `quick` is linear by at most half at a time,
so that every pixel counts too (six times as fast); `linear` may alias."""


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
    canvas: np.ndarray | None = None,
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
        canvas: The new image, uint8 `[*size_hw, 3]`, to be written; made when not given.

    Raises:
        UsageError: If `shrinking` is not a known name.
    """
    if shrinking not in SHRINKING:
        raise unknown_name("way of shrinking", shrinking, SHRINKING)
    view = _placement(sample.image.shape[:2], source, target)
    boxes, keep = cut_boxes(_map(sample.boxes_xyxy, view), target, min_visible=min_visible, min_side=min_side)
    mask = sample.mask
    if mask is not None:
        mask = _onto(np.empty(size_hw, mask.dtype), mask, source, target, IGNORE_LABEL, "nearest")
    if canvas is None:
        canvas = np.empty((*size_hw, *sample.image.shape[2:]), sample.image.dtype)
    return replace(
        sample,
        image=_onto(canvas, sample.image, source, target, fill_rgb, shrinking),
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
    cut = boxes.clip(2 * region[:2], 2 * region[2:])
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
    scale, offset = np.array(2 * view.scale_yx[::-1]), np.array(2 * view.offset_yx[::-1])
    return boxes_xyxy.astype(np.float64) * scale + offset


def _onto(
    canvas: np.ndarray,
    pixels: np.ndarray,
    source: Region,
    target: Region,
    fill: int | tuple[int, int, int],
    shrinking: str,
) -> np.ndarray:
    """Resize a part of an image straight into its place on a canvas."""
    part = pixels[source[1] : source[3], source[0] : source[2]]
    left, top, right, bottom = target
    if target != (0, 0, canvas.shape[1], canvas.shape[0]):
        row = np.full(canvas.shape[1:], fill, canvas.dtype)  # NumPy copies rows; colours it writes one by one
        canvas[:top], canvas[bottom:] = row, row
        canvas[top:bottom, :left], canvas[top:bottom, right:] = row[:left], row[right:]
    room = canvas[top:bottom, left:right]
    if shrinking == "quick":
        part = _shrunk_by_halves(part, room.shape[:2])
    if part.shape == room.shape:
        room[...] = part
    else:
        how = _interpolation(part.shape[:2], room.shape[:2], shrinking)
        drawn = cv2.resize(part, (right - left, bottom - top), dst=room, interpolation=how)
        if not np.may_share_memory(drawn, room):  # OpenCV could not write there
            room[...] = drawn
    return canvas


def _interpolation(from_hw: tuple[int, int], to_hw: tuple[int, int], shrinking: str) -> int:
    if shrinking == "nearest":
        return int(cv2.INTER_NEAREST_EXACT)
    # INTER_AREA repeats pixels when it enlarges; linear is right there.
    shrinks = to_hw[0] <= from_hw[0] and to_hw[1] <= from_hw[1]
    return int(cv2.INTER_AREA if shrinks and shrinking == "area" else cv2.INTER_LINEAR)


def _shrunk_by_halves(pixels: np.ndarray, to_hw: tuple[int, int]) -> np.ndarray:
    """Halve the sides until none is more than twice as long as wanted."""
    while any(side > 2 * to for side, to in zip(pixels.shape, to_hw, strict=False)):
        height, width = (
            -(-side // 2) if side > 2 * to else side for side, to in zip(pixels.shape, to_hw, strict=False)
        )
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels
