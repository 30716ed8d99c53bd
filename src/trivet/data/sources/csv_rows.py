"""CSV: a row an object, columns found by their names (see `csv_columns`), or `path,x1,y1,x2,y2,class` without.

A row whose box is empty says that its image has no objects. Boxes are shares of the image's size where no
coordinate of the file reaches 2, else pixels counted from 0, right and bottom exclusive. Classes are
numbered in alphabetical order, or as a file `classes.csv` (name, id) numbers them.
"""

import csv
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trivet.data.problems import problem
from trivet.data.sources.csv_columns import Columns, columns_of
from trivet.data.sources.folder import SPLIT_WORDS, Folder, split_of, stem_of
from trivet.data.sources.found import Found, Reading, report_unmentioned
from trivet.data.sources.rows import Rows
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap

NEEDS = "a CSV file with columns such as image, xmin, ymin, xmax, ymax, label, or rows path,x1,y1,x2,y2,class"
_CLASSES = ("classes.csv", "class.csv", "labels.csv")
_FIRST_PIXEL_VALUE = 2.0
_ONE_CLASS = "object"


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    files = _box_files(folder)
    return ", ".join(list(files)[:3]) if files else None


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read every CSV file of boxes.

    Raises:
        UsageError: If two files tell the same split.
        DataError: If there is no object, or a file is no text.
    """
    files = _box_files(folder)
    known = listed_classes(folder)
    classes = {name: number for number, name in enumerate(known)}
    splits: dict[str | None, Rows] = {}
    notes: list[str] = []
    origin: dict[str | None, str] = {}
    for file, columns in files.items():
        split = split_of(file)
        if columns.split is None and origin.setdefault(split, file) != file:
            raise UsageError(
                f"{folder.root}: {origin[split]} and {file} both hold {split or 'a split that their names do not tell'}",
                "give the CSV file to read as the path, or name them train, val and test",
            )
        _add_rows(splits, folder, file, columns, split, classes)
        notes.append(f"{file}: {columns.words}")
    if not classes:
        raise DataError(f"{folder.root}: {', '.join(files)} hold no object", f"CSV needs {NEEDS}")
    names = known or sorted(classes, key=natural_order)
    rank = np.array([names.index(name) if name in names else -1 for name in classes], np.int64)
    found = [_labelled(rows.found("line"), rank, list(classes)) for rows in splits.values()]
    report_unmentioned(found, folder)
    shares = _are_shares(found)
    notes.append("boxes are shares of the image's size" if shares else "boxes are in pixels, counted from 0")
    return Reading(
        LabelMap(tuple(names), tuple(names)),
        tuple(replace(part, normalised=shares) for part in found),
        tuple(notes),
    )


def _box_files(folder: Folder) -> dict[str, Columns]:
    files = [folder.file] if folder.file else folder.with_suffix(".csv")
    found = {}
    for file in files:
        if file.lower().endswith(".csv") and (row := next(records(folder, file), None)):
            columns = columns_of(row[1])
            if columns is not None:
                found[file] = columns
    return found


def records(folder: Folder, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of every row that is not blank."""
    with folder.path(file).open(encoding="utf-8-sig", newline="", errors="replace") as stream:
        head = stream.readline(100_000)
        stream.seek(0)
        delimiter = max(",;\t", key=head.count)
        reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
        except csv.Error as fault:
            raise DataError(f"{folder.path(file)}: line {reader.line_num}: {fault}") from fault


def listed_classes(folder: Folder) -> list[str]:
    """Return the names of `classes.csv` in the order of their ids; none if there is no such file."""
    file = next((file for file in _CLASSES if file in folder.files), None)
    if file is None:
        return []
    rows = [row for _, row in records(folder, file)]
    if not all(len(row) == 2 and row[1].strip().isdigit() for row in rows[1:]):
        return []
    if rows and not rows[0][-1].strip().isdigit():
        rows = rows[1:]  # column names
    return [row[0].strip() for row in sorted(rows, key=lambda row: int(row[1]))]


class _Splits:
    """The rows of a file on their way into splits: each image is looked for once."""

    def __init__(self, splits: dict[str | None, Rows], folder: Folder, file: str, columns: Columns) -> None:
        self._splits, self._folder, self._file, self._columns = splits, folder, file, columns
        self._images: dict[tuple[str | None, str], int | None] = {}

    def rows(self, split: str | None) -> Rows:
        """Return the split of this name, made when it is new."""
        if split not in self._splits:
            self._splits[split] = Rows(split)
        return self._splits[split]

    def image(self, split: str | None, cells: list[str]) -> int | None:
        """Return the position of the row's image in its split; `None` if it is not there."""
        given = cells[self._columns.image].strip()
        if (split, given) not in self._images:
            self._images[split, given] = self._add_image(split, given, cells)
        return self._images[split, given]

    def _add_image(self, split: str | None, given: str, cells: list[str]) -> int | None:
        near = posixpath.dirname(self._file)
        name = self._folder.image_named(given, near=near, split=split)
        if name is None and given and "." not in posixpath.basename(given):
            name = self._folder.image_with_stem(stem_of(given), near=near)
        rows = self.rows(split)
        if name is None:
            rows.add_problem(self._folder.fault_of(given, near=near), self._file, f"it names {given!r}")
            return None
        return rows.add_image(name, self._file, image_id=len(rows.names), size_hw=_size(self._columns, cells))


def _add_rows(
    splits: dict[str | None, Rows],
    folder: Folder,
    file: str,
    columns: Columns,
    split: str | None,
    classes: dict[str, int],
) -> None:
    adding = _Splits(splits, folder, file, columns)
    lines = records(folder, file)
    if columns.has_head:
        next(lines)
    needed = max(columns.image, *columns.box, columns.label or 0) + 1
    for line, cells in lines:
        cells += [""] * (needed - len(cells))
        of_row = (
            split if columns.split is None else SPLIT_WORDS.get(_cell(cells, columns.split).lower(), split)
        )
        image = adding.image(of_row, cells)
        if image is None or not any(cells[place].strip() for place in columns.box):
            continue
        rows = adding.rows(of_row)
        try:
            name, box = _object(columns, cells)
        except ValueError as fault:
            rows.add_problem("unreadable-row", file, f"line {line}: {fault}")
            continue
        crowd = columns.crowd is not None and _cell(cells, columns.crowd).lower() in ("1", "1.0", "true")
        label = classes.setdefault(name, len(classes))
        rows.add_box(image, box, label=label, where=line, crowd=crowd)


def _cell(cells: list[str], place: int) -> str:
    return cells[place].strip() if place < len(cells) else ""


def _object(columns: Columns, cells: list[str]) -> tuple[str, tuple[float, float, float, float]]:
    texts = [cells[place].strip() for place in columns.box]
    if len(texts) == 1:
        texts = re.split(r"[\s,;]+", texts[0].strip("[]() "))
    if len(texts) != 4:
        raise ValueError(f"its box has {len(texts)} numbers, where 4 are wanted")
    name = _ONE_CLASS if columns.label is None else cells[columns.label].strip()
    if not name:
        raise ValueError("its class is empty")
    return name, columns.form([float(text) for text in texts])


def _size(columns: Columns, cells: list[str]) -> tuple[int, int]:
    if columns.size_wh is None:
        return (0, 0)
    try:
        width, height = (int(float(_cell(cells, place))) for place in columns.size_wh)
    except (ValueError, OverflowError):
        return (0, 0)
    return (height, width) if 0 < height < 2**31 and 0 < width < 2**31 else (0, 0)


def natural_order(name: str) -> tuple[bool, float, str]:
    """Order numbers by their value, before words."""
    try:
        return (False, float(name), name)
    except ValueError:
        return (True, 0.0, name)


def _labelled(part: Found, rank: np.ndarray, classes: list[str]) -> Found:
    known = rank[part.labels] >= 0 if len(rank) else np.zeros(0, bool)
    for row in np.flatnonzero(~known).tolist():
        detail = f"line {part.where[row]}: class {classes[part.labels[row]]!r} is not in the list of classes"
        part.problems.append(problem("unknown-label", part.file(int(part.image_index[row])), detail))
    return replace(part, labels=rank[part.labels]).keep_boxes(known)


def _are_shares(found: list[Found]) -> bool:
    boxes = np.concatenate([part.boxes_xyxy for part in found])
    finite = np.abs(boxes[np.isfinite(boxes)])
    return finite.size > 0 and float(finite.max()) < _FIRST_PIXEL_VALUE
