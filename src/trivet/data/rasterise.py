"""Outlines and run lengths -> the pixels they cover, as COCO counts them.

A pixel belongs to a polygon by the even-odd rule on its column's centre line, with the outline drawn on a grid of
fifths of a pixel. That grid is COCO's (its mask API, 2014), so that areas and scores agree with every tool that
reads COCO to the pixel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trivet.errors import DataError

FIFTHS = 5
"""Steps of the grid a pixel."""
_CENTRE = FIFTHS // 2


class Patch(NamedTuple):
    """The pixels of a shape: bool `[h, w]`, whose first pixel is (`top`, `left`) of the image."""

    top: int
    left: int
    covered: np.ndarray

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where it lies in the image."""
        height, width = self.covered.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def to_fifths(points: np.ndarray) -> np.ndarray:
    """Return coordinates in pixels as int32 steps of the grid."""
    return np.trunc(np.asarray(points, np.float64) * FIFTHS + 0.5).astype(np.int32)


def rasterise(polygon_xy: Sequence[float] | np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the pixels that a polygon covers, bool `[h, w]`.

    Args:
        polygon_xy: x1, y1, x2, y2... in pixels; closed by itself.
        size_hw: The image's size; what is outside is cut off.

    Example:
        >>> rasterise([1, 0, 3, 0, 3, 2, 1, 2], (2, 4)).astype(int)
        array([[0, 1, 1, 0],
               [0, 1, 1, 0]])
    """
    whole = np.zeros(size_hw, bool)
    patch = polygon_patch(to_fifths(np.asarray(polygon_xy)).reshape(-1, 2), size_hw)
    whole[patch.slices] = patch.covered
    return whole


def polygon_patch(corners: np.ndarray, size_hw: tuple[int, int]) -> Patch:
    """Return the pixels of a polygon whose corners are int `[n, 2]` (x, y) in fifths of a pixel."""
    columns, rows = _crossings(corners.astype(np.int64), size_hw)
    if not len(columns):
        return Patch(0, 0, np.zeros((0, 0), bool))
    left, top = int(columns.min()), int(rows.min())
    width, height = int(columns.max()) + 1 - left, int(rows.max()) - top
    # Along a column, inside and outside alternate at its crossings; one more row holds those at the bottom.
    flat = (columns - left) * (height + 1) + rows - top
    odd = np.bincount(flat, minlength=width * (height + 1)).cumsum() & 1
    return Patch(top, left, odd.reshape(width, height + 1)[:, :height].T.astype(bool))


def _crossings(corners: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel columns whose centre line the outline crosses, and the first row below each crossing."""
    height, width = size_hw
    start, stop = corners, np.roll(corners, -1, axis=0)
    # Each edge is stepped along its longer axis, upwards, whichever way the outline goes round.
    steep = np.abs(stop[:, 0] - start[:, 0]) < np.abs(stop[:, 1] - start[:, 1])
    major, minor = np.where(steep, 1, 0), np.where(steep, 0, 1)
    edges = np.arange(len(corners))
    backwards = start[edges, major] > stop[edges, major]
    start, stop = np.where(backwards[:, None], stop, start), np.where(backwards[:, None], start, stop)
    steps = stop[edges, major] - start[edges, major]
    edge = np.repeat(edges, steps)
    step = np.arange(len(edge)) - np.repeat(steps.cumsum() - steps, steps)
    slope = (stop[edges, minor] - start[edges, minor]) / np.maximum(steps, 1)
    along, across = start[edges, major][edge] + step, start[edges, minor][edge]
    here = np.trunc(across + slope[edge] * step + 0.5).astype(np.int64)
    there = np.trunc(across + slope[edge] * (step + 1) + 0.5).astype(np.int64)
    x0, x1 = np.where(steep[edge], here, along), np.where(steep[edge], there, along + 1)
    y0, y1 = np.where(steep[edge], along, here), np.where(steep[edge], along + 1, there)
    x, y = np.minimum(x0, x1), np.minimum(y0, y1)
    column = (x - _CENTRE) // FIFTHS
    crosses = (x0 != x1) & ((x - _CENTRE) % FIFTHS == 0) & (column >= 0) & (column < width)
    row = np.clip(-((_CENTRE - y) // FIFTHS), 0, height)
    return column[crosses], row[crosses]


def runs_patch(counts: np.ndarray, size_hw: tuple[int, int]) -> Patch:
    """Return the pixels of run lengths: outside and inside in turn, column after column.

    Raises:
        DataError: If the runs are not as long as the image has pixels.
    """
    height, width = size_hw
    if counts.sum() != height * width or (counts < 0).any():
        raise DataError(
            f"run lengths of {int(counts.sum()):,} pixels, and the image has {height * width:,} ({width} x {height})"
        )
    inside = np.arange(len(counts)) % 2 == 1
    return Patch(0, 0, np.repeat(inside, counts).reshape(width, height).T)


def read_runs(text: str) -> np.ndarray:
    """Decode COCO's compressed run lengths to int64 counts.

    Each number is written in groups of five bits, lowest first, as characters from `0` on; 32 says that more
    follow, and the last group's highest bit is the sign. From the fourth on it is the difference to the number
    two before.

    Raises:
        DataError: If the text is cut short or has other characters.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - ord("0")
    if len(codes) and (codes.min() < 0 or codes.max() > 63 or codes[-1] & 32):
        raise DataError(f"{text[:40]!r} is no compressed run length")
    counts: list[int] = []
    value, shift = 0, 0
    for code in codes.tolist():
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    return np.array(counts, np.int64)
