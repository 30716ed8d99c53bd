"""Growing columns of outlines, and the split that is made of them."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from trivet.data.images import read_size
from trivet.data.mask_shapes import ShapeMasks, Shapes
from trivet.data.rasterise import read_runs, to_fifths
from trivet.data.sources.folder import Folder
from trivet.data.sources.found import Found
from trivet.data.sources.rows import Rows
from trivet.errors import DataError
from trivet.structures import IGNORE_LABEL, LabelMap

BACKGROUND = "background"
_FARTHEST = 16
"""An outline that leaves its image by more than this many times its size is a mistake, and would take for ever."""


class ShapeRows:
    """The shapes of one split while it is read: added image by image, in any order."""

    def __init__(self) -> None:
        self._image, self._labels, self._areas, self._runs = array("q"), array("B"), array("d"), array("b")
        self._parts: list[list[np.ndarray]] = []

    def add_polygons(
        self,
        image: int,
        polygons: Iterable[Sequence[float]],
        *,
        label: int,
        size_hw: tuple[int, int],
        area: float | None,
    ) -> None:
        """Add a shape of one or more polygons, x1, y1, x2, y2... in pixels.

        Raises:
            ValueError: If a polygon has not three points or lies far from the image, saying so.
        """
        parts = [np.asarray(polygon, np.float64) for polygon in polygons]
        if not parts:
            raise ValueError("it has no polygon")
        for part in parts:
            if part.ndim != 1 or len(part) < 6 or len(part) % 2:
                raise ValueError(f"a polygon has {part.size} numbers, where 6, 8, 10... are wanted")
            if not (np.abs(part) <= _FARTHEST * max(size_hw)).all():
                raise ValueError(
                    f"a polygon goes to {np.abs(part).max():g} in an image of {size_hw[1]} x {size_hw[0]}"
                )
        own = sum(_area(part) for part in parts)
        self._add(
            image, label, [to_fifths(part) for part in parts], own if area is None else area, runs=False
        )

    def add_runs(
        self,
        image: int,
        counts: Sequence[int] | str,
        *,
        label: int,
        size_hw: tuple[int, int],
        area: float | None,
    ) -> None:
        """Add a shape of run lengths, compressed or not.

        Raises:
            ValueError: If they are not as long as the image has pixels, or cannot be decoded.
        """
        runs = read_runs(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
        if runs.sum() != size_hw[0] * size_hw[1] or (runs < 0).any():
            raise ValueError(
                f"its run lengths make {int(runs.sum()):,} pixels, the image has {size_hw[0] * size_hw[1]:,}"
            )
        own = float(runs[1::2].sum())
        self._add(image, label, [runs.astype(np.int32)], own if area is None else area, runs=True)

    def add_ignored_box(self, image: int, box_xyxy: Sequence[float], *, size_hw: tuple[int, int]) -> None:
        """Add the box of an object whose outline is not known: its pixels belong to no class."""
        limits = np.array([*size_hw[::-1]] * 2, np.float64)
        left, top, right, bottom = np.clip(np.nan_to_num(np.array(box_xyxy, np.float64)), 0, limits).tolist()
        corners = np.array([left, top, right, top, right, bottom, left, bottom])
        self._add(image, IGNORE_LABEL, [to_fifths(corners)], (right - left) * (bottom - top), runs=False)

    def _add(self, image: int, label: int, parts: list[np.ndarray], area: float, *, runs: bool) -> None:
        self._image.append(image)
        self._labels.append(label)
        self._areas.append(area)
        self._runs.append(runs)
        self._parts.append(parts)

    def shapes(self, images: int) -> Shapes:
        """Return what was added, sorted by image."""
        of_image = np.array(self._image, np.int64)
        order = np.argsort(of_image, kind="stable")
        parts = [self._parts[row] for row in order.tolist()]
        flat = [part for shape in parts for part in shape]
        return Shapes(
            np.concatenate([[0], np.bincount(of_image, minlength=images).cumsum()]).astype(np.int64),
            np.array(self._labels, np.uint8)[order],
            np.array(self._areas, np.float32)[order],
            np.array(self._runs, bool)[order],
            np.cumsum([0, *map(len, parts)], dtype=np.int64),
            np.cumsum([0, *map(len, flat)], dtype=np.int64),
            np.concatenate(flat) if flat else np.zeros(0, np.int32),
        )


def with_background(labels: LabelMap) -> tuple[LabelMap, int, str]:
    """Add the class of pixels that no outline covers, unless there is one.

    Returns:
        The class map, the background's label, and the convention in words.
    """
    names = [name.lower() for name in labels.names]
    if BACKGROUND in names:
        label = names.index(BACKGROUND)
        return labels, label, f"pixels that no outline covers are {labels.names[label]!r}, label {label}"
    ids = [i for i in labels.file_ids if isinstance(i, int)]
    shift = 1 - ids[0] if ids == list(range(ids[0], ids[0] + len(ids))) else None
    said = f"category ids {ids[0]} to {ids[-1]}" + ("" if shift is not None else " with gaps")
    # A category may have the id 0 already; the background has no id in the file then.
    added = LabelMap((BACKGROUND, *labels.names), (-1 if 0 in ids else 0, *labels.file_ids))
    value = {0: "the id", 1: "the id + 1", None: "1 + the id's place"}.get(shift, f"the id - {-(shift or 0)}")
    return added, 0, f"{said}: background is label 0, a category's label is {value} ({len(added)} classes)"


def found_shapes(
    split: str | None, names: list[str], files: list[str], image_ids: np.ndarray, masks: ShapeMasks
) -> Found:
    """Return the split whose truth are these masks."""
    rows = Rows(split)
    for position, name in enumerate(names):
        rows.add_image(
            name,
            files[position if len(files) > 1 else 0],
            image_id=int(image_ids[position]),
            size_hw=masks.size_hw(position),
        )
    return replace(rows.found("outline"), masks=masks)


def size_of(folder: Folder, name: str, told_hw: tuple[int, int]) -> tuple[int, int]:
    """Return an image's size, from its file where the annotations do not tell it; 0 x 0 where it cannot be read.

    Raises:
        DataError: If the file would have to be looked at and must not.
    """
    if min(told_hw) > 0:
        return told_hw
    if folder.check == "none":
        raise DataError(
            f'{name}: outlines need the size of the image, which check="none" leaves alone',
            'read with check="headers"',
        )
    try:
        return read_size(folder.image_root / name)
    except DataError:
        return (0, 0)  # reported when the images are looked at


def _area(polygon: np.ndarray) -> float:
    """Return a polygon's area in pixels (the shoelace formula)."""
    x, y = polygon[::2], polygon[1::2]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
