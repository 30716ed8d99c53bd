"""Which part of an image is shown where: the random geometry of augmentation and mosaics."""

from typing import NamedTuple

import numpy as np

from trivet.data.place import Region, cut_boxes
from trivet.structures import Sample


class View(NamedTuple):
    """A part of an image and its place in the result."""

    source: Region
    target: Region


class _Span(NamedTuple):
    """A view along one axis."""

    start: int
    stop: int
    to_start: int
    to_stop: int


def draw_view(sample: Sample, size_hw: tuple[int, int], rng: np.random.Generator, *, strength: float) -> View:
    """Draw zoom, change of proportions and position of an image in a result of `size_hw`.

    The zoom is relative to letterboxing, log-uniform from 1 - 0.4 strength to 1 + strength; proportions change
    by up to 15 % times strength. When there are objects, one of them lies wholly inside.

    Args:
        sample: The image with its boxes.
        size_hw: The result's size.
        rng: Random numbers.
        strength: From 0 (letterboxing at a random place) to 1.
    """
    height, width = sample.image.shape[:2]
    left, top, right, bottom = _anchor(sample, rng)
    room_y, room_x = size_hw[0] / max(bottom - top, 1), size_hw[1] / max(right - left, 1)
    fit = min(size_hw[0] / height, size_hw[1] / width)
    zoom = np.exp(rng.uniform(np.log(1 - 0.4 * strength), np.log(1 + strength)))
    stretch = np.exp(rng.uniform(-0.075, 0.075) * strength)
    scale = min(fit * zoom, room_y, room_x)
    rows = _draw_span(height, size_hw[0], min(scale * stretch, room_y), rng.random(), keep=(top, bottom))
    columns = _draw_span(width, size_hw[1], min(scale / stretch, room_x), rng.random(), keep=(left, right))
    return _view(rows, columns)


def draw_corner_view(
    image_hw: tuple[int, int],
    room_hw: tuple[int, int],
    scale: float,
    rng: np.random.Generator,
    *,
    push_yx: tuple[float, float],
) -> View:
    """Draw which part of an image fills a corner of a mosaic.

    Args:
        image_hw: The image's size.
        room_hw: The corner's size.
        scale: Pixels of the result a pixel of the image.
        rng: Random numbers; decide the part when the image is too large.
        push_yx: Where an image goes that is too small: 0 = to the start of the corner, 1 = to its end.
    """
    rows, columns = (
        _draw_span(length, room, scale, rng.random(), push=push)
        for length, room, push in zip(image_hw, room_hw, push_yx, strict=True)
    )
    return _view(rows, columns)


def _view(rows: _Span, columns: _Span) -> View:
    return View(
        (columns.start, rows.start, columns.stop, rows.stop),
        (columns.to_start, rows.to_start, columns.to_stop, rows.to_stop),
    )


def _draw_span(
    length: int,
    limit: int,
    scale: float,
    chance: float,
    *,
    keep: tuple[int, int] = (0, 0),
    push: float | None = None,
) -> _Span:
    """Show all of an axis somewhere in the result if it fits, else a part of it that holds `keep`.

    Args:
        length: Pixels of the image.
        limit: Pixels of the result.
        scale: Result's pixels an image's pixel; `keep` fits into the result at this scale.
        chance: Uniform in 0-1; decides the position.
        keep: Start and stop, pixels of the image, of what must be shown; empty for nothing.
        push: Position (0-1) of an axis that fits; `None` leaves it to chance.
    """
    shown = max(round(length * scale), 1)
    if shown <= limit:
        start = round((chance if push is None else push) * (limit - shown))
        return _Span(0, length, start, start + shown)
    part = min(max(round(limit / scale), keep[1] - keep[0], 1), length)
    lowest = max(0, keep[1] - part)
    highest = min(length - part, keep[0]) if keep[1] > keep[0] else length - part
    start = lowest + round(chance * (highest - lowest))
    return _Span(start, start + part, 0, limit)


def _anchor(sample: Sample, rng: np.random.Generator) -> Region:
    """Draw the object to keep, as whole pixels of the image; an empty rectangle when there is none."""
    height, width = sample.image.shape[:2]
    boxes, keep = cut_boxes(sample.boxes_xyxy, (0, 0, width, height))
    objects = boxes[keep & ~sample.crowd]
    pick = rng.random()  # always drawn, so that the number of objects does not shift what follows
    if not len(objects):
        return (0, 0, 0, 0)
    left, top, right, bottom = objects[int(pick * len(objects))]
    return int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))
