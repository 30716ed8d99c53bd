"""The class list of a data set of masks: names, pixel values, colours, in the files people keep them in."""

import csv
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import yaml

from trivet.data.sources.folder import Folder, stem_of
from trivet.errors import DataError, UsageError

_STEMS = re.compile(
    r"(class|label)(es|s)?([_-]?(dict|list|map|names|colou?rs))?|codes|names|categories|palette|colou?rs|color_?map"
)
_SUFFIXES = (".txt", ".json", ".yaml", ".yml", ".csv")
_KEYS = ("classes", "names", "labels", "categories", "class_names")
_COLUMNS = {
    "name": ("name", "class", "label", "class_name", "category"),
    "value": ("id", "index", "value", "pixel", "class_id", "category_id"),
    "red": ("r", "red"),
    "green": ("g", "green"),
    "blue": ("b", "blue"),
}
_OF_MASKS = ("semantic", "mask", "segm")
_VOID = {
    "void",
    "unlabelled",
    "unlabeled",
    "ignore",
    "ignored",
    "ignorelabel",
    "dontcare",
    "notlabelled",
    "notlabeled",
}


class ClassRow(NamedTuple):
    """A class as a file says it; its pixel value or colour (0xRRGGBB) where that is told."""

    name: str
    value: int | None = None
    colour: int | None = None

    @property
    def void(self) -> bool:
        """Whether the name says that such pixels belong to no class."""
        return re.sub(r"[^a-z]", "", self.name.lower()) in _VOID


class ClassList(NamedTuple):
    """The classes, and the file they stand in."""

    file: str
    rows: tuple[ClassRow, ...]


def find_class_list(folder: Folder) -> ClassList | None:
    """Read the class list in a folder or beside its masks; `None` when there is none.

    Of several files that name classes for several tasks, the one whose name speaks of masks counts.

    Raises:
        UsageError: If several are left that say different things.
    """
    lists = [found for file in _candidates(folder) if (found := _read(folder, file)) is not None]
    for word in _OF_MASKS:
        if len({found.rows for found in lists}) > 1:
            lists = [found for found in lists if word in stem_of(found.file).lower()] or lists
    if len({found.rows for found in lists}) > 1:
        raise UsageError(
            f"{folder.root} holds several class lists: {', '.join(found.file for found in lists)}",
            "keep one of them in the folder",
        )
    return lists[0] if lists else None


def names_masks(folder: Folder, file: str) -> bool:
    """Whether a yaml file is the configuration of a data set of masks: it says where those of a split lie."""
    if posixpath.splitext(file)[1].lower() not in (".yaml", ".yml"):
        return False
    try:
        content = yaml.safe_load(folder.path(file).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return False
    parts = [content, *content.values()] if isinstance(content, Mapping) else []
    return any(isinstance(part, Mapping) and "masks" in part for part in parts)


def _candidates(folder: Folder) -> list[str]:
    if folder.file is not None and names_masks(folder, folder.file):
        return [folder.file]
    files = [file for file in folder.with_suffix(*_SUFFIXES) if file.count("/") <= 1]
    named = [file for file in files if _STEMS.match(stem_of(file).lower())]
    return sorted(named, key=lambda file: (file.count("/"), file))


def _read(folder: Folder, file: str) -> ClassList | None:
    try:
        text = folder.path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    suffix = posixpath.splitext(file)[1].lower()
    try:
        if suffix == ".csv":
            rows = _of_csv(text)
        elif suffix == ".txt":
            rows = [
                _of_line(line.strip()) for line in text.splitlines() if line.strip(" \t#") and line[0] != "#"
            ]
        else:
            rows = _of_data(json.loads(text) if suffix == ".json" else yaml.safe_load(text))
    except (ValueError, TypeError, KeyError, yaml.YAMLError, RecursionError):
        return None
    if not rows:
        return None
    _check(folder, file, rows)
    return ClassList(file, tuple(rows))


def _check(folder: Folder, file: str, rows: Sequence[ClassRow]) -> None:
    columns: tuple[tuple[str, list[object]], ...] = (
        ("name", [row.name for row in rows]),
        ("value", [row.value for row in rows if row.value is not None]),
        ("colour", [row.colour for row in rows if row.colour is not None]),
    )
    for what, items in columns:
        twice = [item for item in items if items.count(item) > 1]
        if twice:
            shown = f"#{twice[0]:06x}" if what == "colour" else repr(twice[0])
            raise DataError(
                f"{folder.path(file)}: two classes have the {what} {shown}",
                f"give every class its own {what}",
            )


def _of_line(line: str) -> ClassRow:
    """Read `name`, `3 name`, `name 128 0 64`, `128 0 64 name`, `3 name 128 0 64` or `name:128,0,64::`."""
    fields = [field for field in re.split(r"[\s,:;]+", line) if field]
    numbers = [field.isdigit() for field in fields]
    if len(fields) >= 4 and all(numbers[:3]) and not numbers[-1]:
        return ClassRow(" ".join(fields[3:]), colour=_colour(fields[:3]))
    colour = _colour(fields[-3:]) if len(fields) >= 4 and all(numbers[-3:]) else None
    fields = fields if colour is None else fields[:-3]
    if len(fields) > 1 and fields[0].isdigit():
        return ClassRow(" ".join(fields[1:]), int(fields[0]), colour)
    return ClassRow(line if colour is None else " ".join(fields), None, colour)


def _of_csv(text: str) -> list[ClassRow]:
    lines = list(csv.reader(text.splitlines(), skipinitialspace=True))
    head = [field.strip().lower() for field in lines[0]]
    column = {
        what: next((head.index(word) for word in words if word in head), None)
        for what, words in _COLUMNS.items()
    }
    if column["name"] is None:
        return [_of_line(" ".join(fields)) for fields in lines if fields]
    rows = []
    for fields in lines[1:]:
        told = {
            what: fields[at].strip() for what, at in column.items() if at is not None and at < len(fields)
        }
        if told.get("name"):
            value = int(told["value"]) if "value" in told else None
            colour = _colour([told[part] for part in ("red", "green", "blue")]) if "blue" in told else None
            rows.append(ClassRow(told["name"], value, colour))
    return rows


def _of_data(content: object) -> list[ClassRow]:
    """Read a list or a mapping, as json or yaml have it."""
    if isinstance(content, Mapping):
        inner = next((content[key] for key in _KEYS if isinstance(content.get(key), (list, dict))), None)
        return (
            _of_data(inner) if inner is not None else [_of_pair(key, value) for key, value in content.items()]
        )
    if not isinstance(content, list):
        raise TypeError(f"a {type(content).__name__} is no class list")
    return [_of_entry(entry) for entry in content]


def _of_pair(key: object, value: object) -> ClassRow:
    if isinstance(value, (list, tuple)):
        return ClassRow(str(key), colour=_colour(value))
    if str(key).isdigit() and isinstance(value, str):
        return ClassRow(value, int(str(key)))
    if isinstance(value, int):
        return ClassRow(str(key), value)
    raise TypeError(f"{key!r}: {value!r} is no class")


def _of_entry(entry: object) -> ClassRow:
    if isinstance(entry, str):
        return ClassRow(entry)
    if not isinstance(entry, Mapping):
        raise TypeError(f"{entry!r} is no class")
    name = next(entry[key] for key in _COLUMNS["name"] if key in entry)
    value = next((int(entry[key]) for key in _COLUMNS["value"] if key in entry), None)
    colour = next((entry[key] for key in ("color", "colour", "rgb") if key in entry), None)
    return ClassRow(str(name), value, None if colour is None else _colour(colour))


def _colour(parts: object) -> int:
    """Return 0xRRGGBB of `[128, 0, 64]` or `#800040`."""
    if isinstance(parts, str):
        return int(parts.removeprefix("#"), 16)
    red, green, blue = (int(part) for part in parts)  # type: ignore[attr-defined]
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError(f"{parts} is no colour")
    return (red << 16) | (green << 8) | blue
