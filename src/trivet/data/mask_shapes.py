"""Masks made of outlines or run lengths when they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from trivet.data.overlaps import painting_order
from trivet.data.rasterise import Patch, polygon_patch, runs_patch
from trivet.structures import IGNORE_LABEL


@dataclass(frozen=True)
class Shapes:
    """The outlines of many images' objects as columns: image i's are rows `offsets[i]` to `offsets[i + 1]`.

    Args:
        offsets: int64 `[n + 1]`.
        labels: uint8 `[m]`; 255 for a shape whose pixels are ignored.
        areas: float32 `[m]`, pixels, as the file says.
        runs: bool `[m]`, whether a shape is run lengths; otherwise it is polygons.
        part_offsets: int64 `[m + 1]`, into the parts.
        number_offsets: int64 `[parts + 1]`, into the numbers.
        numbers: int32, each part's corners x1, y1, x2, y2... in fifths of a pixel, or its run lengths.
    """

    offsets: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    runs: np.ndarray
    part_offsets: np.ndarray
    number_offsets: np.ndarray
    numbers: np.ndarray

    def rows(self, image: int) -> range:
        """Return the shapes of an image."""
        return range(int(self.offsets[image]), int(self.offsets[image + 1]))

    def parts(self, shape: int) -> Iterator[np.ndarray]:
        """Yield the numbers of each of a shape's parts."""
        for part in range(int(self.part_offsets[shape]), int(self.part_offsets[shape + 1])):
            yield self.numbers[self.number_offsets[part] : self.number_offsets[part + 1]]

    def patches(self, shape: int, size_hw: tuple[int, int]) -> Iterator[Patch]:
        """Yield the pixels of each of a shape's parts."""
        for numbers in self.parts(shape):
            if self.runs[shape]:
                yield runs_patch(numbers.astype(np.int64), size_hw)
            else:
                yield polygon_patch(numbers.reshape(-1, 2), size_hw)

    def first_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return how many numbers the first polygon of each of these shapes has; 0 for run lengths."""
        first = self.part_offsets[rows]
        polygons = ~self.runs[rows] & (self.part_offsets[rows + 1] > first)
        first = np.where(polygons, first, 0)
        return np.where(polygons, self.number_offsets[first + 1] - self.number_offsets[first], 0)

    def take(self, images: np.ndarray) -> "Shapes":
        """Return the shapes of the images at these positions, in this order."""
        rows = _ranges(self.offsets, images)
        parts = _ranges(self.part_offsets, rows)
        return Shapes(
            _offsets(np.diff(self.offsets)[images]),
            self.labels[rows],
            self.areas[rows],
            self.runs[rows],
            _offsets(np.diff(self.part_offsets)[rows]),
            _offsets(np.diff(self.number_offsets)[parts]),
            self.numbers[_ranges(self.number_offsets, parts)],
        )


@dataclass(frozen=True)
class ShapeMasks:
    """The masks of a split, each painted from its image's shapes when asked for.

    Args:
        shapes: The outlines.
        sizes_hw: int32 `[n, 2]`, the images' sizes.
        background: The label of pixels that no shape covers.
        overlap: Which shape has the pixels that several cover, a name of `OVERLAPS`.
    """

    shapes: Shapes
    sizes_hw: np.ndarray
    background: int
    overlap: str = "small-on-top"

    def __len__(self) -> int:
        return len(self.sizes_hw)

    def __getitem__(self, index: int) -> np.ndarray:
        height, width = self.size_hw(index)
        mask = np.full((height, width), self.background, np.uint8)
        rows = np.array(self.shapes.rows(index), np.int64)
        lengths = self.shapes.first_lengths(rows)
        labels = self.shapes.labels[rows]
        order = painting_order(self.overlap, self.shapes.areas[rows], labels, lengths)
        # The box of an object without outline says less than any outline: it goes beneath them all.
        order = order[np.argsort(labels[order] != IGNORE_LABEL, kind="stable")]
        for shape in rows[order].tolist():
            for patch in self.shapes.patches(shape, (height, width)):
                mask[patch.slices][patch.covered] = self.shapes.labels[shape]
        return mask

    def size_hw(self, index: int) -> tuple[int, int]:
        """Return an image's size."""
        return int(self.sizes_hw[index, 0]), int(self.sizes_hw[index, 1])

    def take(self, indices: np.ndarray) -> "ShapeMasks":
        """Return the masks at these positions, in this order."""
        return replace(self, shapes=self.shapes.take(indices), sizes_hw=self.sizes_hw[indices])


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _ranges(offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the positions that the given rows of an offset table stand for, one after the other."""
    starts, counts = offsets[:-1][rows], np.diff(offsets)[rows]
    ends = counts.cumsum()
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
