"""CSV for classification: a row an image, columns found by their names, such as `image,label`.

Classes are numbered in alphabetical order, or as a file `classes.csv` (name, id) numbers them.
"""

import posixpath
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trivet.data.problems import Problem, problem
from trivet.data.sources.csv_columns import IMAGE, LABEL, SPLIT, columns_of
from trivet.data.sources.csv_rows import listed_classes, natural_order, records
from trivet.data.sources.folder import SPLIT_WORDS, Folder, split_of, stem_of
from trivet.data.sources.found import Found, Reading, report_unmentioned
from trivet.errors import DataError
from trivet.structures import LabelMap

NEEDS = "a CSV file with a column such as image and one such as label, and no boxes"
_IMAGE = (*IMAGE, "id", "images")
_LABEL = (*LABEL, "labels", "target")


class _Columns(NamedTuple):
    image: int
    label: int
    split: int | None


class _Row(NamedTuple):
    file: str
    line: int
    split: str | None
    given: str
    label: str


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    files = _class_files(folder)
    return ", ".join(list(files)[:3]) if files else None


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read every CSV file of classes.

    Raises:
        DataError: If no row has a class, or a file is no text.
    """
    files = _class_files(folder)
    rows = [row for file, columns in files.items() for row in _rows(folder, file, columns)]
    known = listed_classes(folder)
    names = known or sorted({row.label for row in rows if row.label}, key=natural_order)
    if not names:
        raise DataError(f"{folder.root}: {', '.join(files)} hold no class", f"wanted is {NEEDS}")
    splits = sorted({row.split for row in rows}, key=str)
    found = [_split(folder, split, [row for row in rows if row.split == split], names) for split in splits]
    report_unmentioned(found, folder)
    return Reading(LabelMap(tuple(names), tuple(names)), tuple(found), tuple(files))


def _split(folder: Folder, split: str | None, rows: Sequence[_Row], classes: Sequence[str]) -> Found:
    number = {name: label for label, name in enumerate(classes)}
    images: dict[str, _Row] = {}
    problems: list[Problem] = []
    for row in rows:
        near = posixpath.dirname(row.file)
        name = folder.image_named(row.given, near=near, split=split)
        if name is None and row.given and "." not in posixpath.basename(row.given):
            name = folder.image_with_stem(stem_of(row.given), near=near)
        where = f"line {row.line}"
        if name is None:
            fault = folder.fault_of(row.given, near=near)
            problems.append(problem(fault, row.file, f"{where} names {row.given!r}"))
        elif not row.label:
            problems.append(problem("image-without-class", name, f"{where} of {row.file} names no class"))
        elif row.label not in number:
            detail = f"{where}: class {row.label!r} is not in the list of classes"
            problems.append(problem("image-of-unknown-class", row.file, detail))
        elif name in images:
            kind = "image-listed-twice" if images[name].label == row.label else "image-of-two-classes"
            detail = f"{where} has {row.label!r}, line {images[name].line} {images[name].label!r}"
            problems.append(problem(kind, name, detail))
        else:
            images[name] = row
    truth = np.array([number[row.label] for row in images.values()], np.int64)
    files = [row.file for row in images.values()]
    return Found.of_classes(split, list(images), files, truth, problems=problems)


def _class_files(folder: Folder) -> dict[str, _Columns]:
    files = [folder.file] if folder.file else folder.with_suffix(".csv")
    found = {}
    for file in files:
        if file.lower().endswith(".csv") and (row := next(records(folder, file), None)):
            columns = _columns(row[1])
            if columns is not None:
                found[file] = columns
    return found


def _columns(head: Sequence[str]) -> _Columns | None:
    if columns_of(head) is not None:
        return None
    keys = ["".join(letter for letter in cell.lower() if letter.isalnum()) for cell in head]
    image, label, split = (
        next((keys.index(name) for name in choices if name in keys), None)
        for choices in (_IMAGE, _LABEL, SPLIT)
    )
    return None if image is None or label is None else _Columns(image, label, split)


def _rows(folder: Folder, file: str, columns: _Columns) -> list[_Row]:
    of_file = split_of(file)
    rows = []
    for line, cells in list(records(folder, file))[1:]:
        padded = [cell.strip() for cell in cells] + [""] * (
            max(columns.image, columns.label) + 1 - len(cells)
        )
        told = padded[columns.split] if columns.split is not None and columns.split < len(padded) else ""
        split = SPLIT_WORDS.get(told.lower(), of_file)
        rows.append(_Row(file, line, split, padded[columns.image], padded[columns.label]))
    return rows
