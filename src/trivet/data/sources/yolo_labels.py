"""Finding the label file of an image, and reading its rows."""

import posixpath
from collections.abc import Iterator
from pathlib import Path

from trivet.data.sources.folder import Folder, stem_of
from trivet.errors import UsageError

LISTS = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
CLASS_LISTS = ("classes.txt", "obj.names", "predefined_classes.txt")
_NO_LABELS = frozenset((*CLASS_LISTS, *LISTS.values(), "readme.txt", "license.txt", "requirements.txt"))
_LARGEST_SHARE = 2.0  # a box that sticks out has shares a little over 1; pixels are far above


class LabelFinder:
    """Finds images' label files and remembers which were asked for.

    Args:
        folder: The data set's folder.
        chosen: The label folder to use, where there are several beside `images`.

    Raises:
        UsageError: If there is no such folder.
    """

    def __init__(self, folder: Folder, chosen: str | None = None) -> None:
        self._folder = folder
        self._texts = dict.fromkeys(folder.with_suffix(".txt"))
        self._folders = {posixpath.dirname(text) for text in self._texts}
        self._places: dict[str, str | None] = {}
        self._used: set[str] = set()
        self._chosen = chosen
        if chosen is not None and not any(f"/{chosen}/" in f"/{place}/" for place in self._folders):
            known = ", ".join(sorted(self._folders - {""})) or "none"
            raise UsageError(
                f"there is no folder {chosen!r} with label files in {folder.root}",
                f"folders with text files: {known}",
            )

    def file_of(self, image: str) -> str | None:
        """Return the label file of an image, or `None`.

        Raises:
            UsageError: If there are several label folders and none was chosen.
        """
        parent, rest = _parted(image)
        text = posixpath.splitext(rest)[0] + ".txt"
        place = None if parent is None else self._place(parent)
        candidates = [posixpath.splitext(image)[0] + ".txt"]
        if place is not None:
            candidates.insert(0, posixpath.join(place, text))
        elif parent is None and self._chosen:
            candidates.insert(0, posixpath.join(self._chosen, text))
        for file in candidates:
            if file in self._texts or (posixpath.isabs(file) and Path(file).is_file()):
                self._used.add(file)
                return file
        return None

    def unused(self) -> Iterator[str]:
        """Return the label files that no image asked for, in the folders of those that were."""
        folders = {posixpath.dirname(file) for file in self._used}
        for text in self._texts:
            asked_for = text in self._used or posixpath.basename(text).lower() in _NO_LABELS
            if not asked_for and posixpath.dirname(text) in folders:
                yield text

    def notes(self) -> tuple[str, ...]:
        """Say which label folders were taken, where they are not called `labels`."""
        places = sorted(place for place in self._places.values() if place and stem_of(place) != "labels")
        return tuple(f"label files from {place}/" for place in places)

    def _place(self, parent: str) -> str | None:
        """Return the label folder beside an `images` folder."""
        if parent not in self._places:
            self._places[parent] = self._find_place(parent)
        return self._places[parent]

    def _find_place(self, parent: str) -> str | None:
        if self._chosen is not None:
            return posixpath.join(parent, self._chosen)
        prefix = posixpath.join(parent, "labels")
        tops = {_directly_in(place, parent) for place in self._folders if place.startswith(prefix)}
        if prefix in tops or posixpath.isabs(parent):
            return prefix
        if len(tops) > 1:
            names = sorted(posixpath.basename(top) for top in tops)
            raise UsageError(
                f"{self._folder.path(parent)} holds several folders of labels: {', '.join(names)}",
                f"choose one: fit --set data.labels=, audit --labels, or labels= in Python ({' or '.join(repr(name) for name in names)})",
            )
        return next(iter(tops), None)


def _directly_in(place: str, parent: str) -> str:
    """Return the folder directly in `parent` that `place` lies in."""
    depth = len(parent.split("/")) if parent else 0
    return "/".join(place.split("/")[: depth + 1])


def _parted(image: str) -> tuple[str | None, str]:
    """Part a path at its last folder `images`: what is before it (`None` if there is none), and after."""
    parts = image.split("/")
    for depth in range(len(parts) - 2, -1, -1):
        if parts[depth].lower() == "images":
            return "/".join(parts[:depth]), "/".join(parts[depth + 1 :])
    return None, image


def parse_row(line: str, *, has_points: bool = False) -> tuple[int, tuple[float, float, float, float]]:
    """Read a row of a label file.

    Args:
        line: `class x y width height`, or `class x1 y1 x2 y2 x3 y3 ...`.
        has_points: Whether key points follow the box.

    Returns:
        The class id and the box as (left, top, right, bottom), in shares of the image's size.

    Raises:
        ValueError: If it is neither, saying what it is.

    Example:
        >>> parse_row("3 0.5 0.5 0.5 1")
        (3, (0.25, 0.0, 0.75, 1.0))
        >>> parse_row("0 0.1 0.1 0.9 0.2 0.5 0.75")
        (0, (0.1, 0.1, 0.9, 0.75))
    """
    class_id, numbers = _numbers(line, most=float("inf") if has_points else _LARGEST_SHARE)
    if len(numbers) == 4 or (has_points and len(numbers) > 4):
        x, y, width, height = numbers[:4]
        return class_id, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        return class_id, (min(xs), min(ys), max(xs), max(ys))
    raise ValueError(
        f"it has {1 + len(numbers)} fields, where 5 (a box) or 7, 9, 11... (a polygon) are wanted"
    )


def parse_outline(line: str) -> tuple[int, list[float] | None, tuple[float, float, float, float]]:
    """Read a row as class, polygon (x1, y1, x2, y2..., `None` where the row is a box) and box, in shares of the size.

    Raises:
        ValueError: As `parse_row`.
    """
    class_id, numbers = _numbers(line, most=_LARGEST_SHARE)
    return class_id, numbers if len(numbers) > 4 else None, parse_row(line)[1]


def _numbers(line: str, *, most: float) -> tuple[int, list[float]]:
    """Return a row's class and the numbers after it, none of which may be larger than `most`."""
    fields = line.split()
    class_id, *numbers = map(float, fields)
    if not class_id.is_integer():
        raise ValueError(f"its class is {fields[0]!r}, where a whole number is wanted")
    if max(map(abs, numbers), default=0) > most:
        raise ValueError(
            f"its numbers go to {max(numbers):g}, where shares of the image's size (0-1) are wanted"
        )
    return int(class_id), numbers
