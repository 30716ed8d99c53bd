"""COCO json: images, annotations and categories in one file a split."""

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
import numpy as np

from trivet.data.problems import Problem, problem
from trivet.data.sources.folder import Folder, split_of
from trivet.data.sources.found import Found, Reading, positions, report_unmentioned
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap

Row = TypeVar("Row", bound=msgspec.Struct)

NEEDS = 'a json file with "images", "annotations" (with "bbox") and "categories"'


class Image(msgspec.Struct, gc=False):
    """An image as the json file names it."""

    id: int
    file_name: str
    width: int = 0
    height: int = 0


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int = -1
    area: float | None = None
    iscrowd: int = 0


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _File(msgspec.Struct, Generic[Row], gc=False):
    images: list[Image]
    annotations: list[Row]
    categories: list[_Category]


@dataclass(frozen=True)
class Opened(Generic[Row]):
    """One json file: its content, and the faults of the rows that were left out."""

    split: str | None
    file: str
    content: _File[Row]
    problems: list[Problem]


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    files = coco_files(folder)
    return f"COCO json ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})" if files else None


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read every json file of the folder as a split of its own.

    Raises:
        UsageError: If two files tell the same split.
        DataError: If a file is no COCO json, or two files disagree on a category.
    """
    opened = open_files(folder, _Annotation)
    label_map = categories_of(folder, opened)
    found = tuple(_found(folder, part, np.array(label_map.file_ids)) for part in opened)
    report_unmentioned(found, folder)
    return Reading(label_map, found, notes_of(opened))


def open_files(folder: Folder, row: type[Row]) -> list[Opened[Row]]:
    """Decode every json file of the folder, its annotations as `row`.

    Raises:
        UsageError: If two files tell the same split.
        DataError: If a file is no COCO json.
    """
    files = _by_split(folder, coco_files(folder))
    return [Opened(split, file, *_opened(folder, file, row)) for split, file in files.items()]


def categories_of(folder: Folder, opened: Sequence[Opened]) -> LabelMap:
    """Return the class map of the files' categories, by ascending id.

    Raises:
        DataError: If two files disagree on a category, or none names one.
    """
    categories: dict[int, str] = {}
    for part in opened:
        for category in part.content.categories:
            name = categories.setdefault(category.id, category.name)
            if name != category.name:
                raise DataError(
                    f"{part.file}: category {category.id} is {category.name!r} here and {name!r} in another file",
                    "give one of the json files as the path",
                )
    if not categories:
        names = ", ".join(part.file for part in opened)
        raise DataError(f"{folder.root}: {names} name no categories", f"COCO needs {NEEDS}")
    ids = sorted(categories)
    return LabelMap(tuple(categories[i] for i in ids), tuple(ids))


def notes_of(opened: Sequence[Opened]) -> tuple[str, ...]:
    """Say which file each split comes from."""
    return tuple(f"{part.split or 'all images'}: {part.file}" for part in opened)


def coco_files(folder: Folder) -> list[str]:
    """Return the folder's COCO json files, or the one that was named."""
    files = [folder.file] if folder.file else folder.with_suffix(".json")
    files = [file for file in files if file.lower().endswith(".json") and _is_coco(folder, file)]
    # COCO's own download has keypoints and captions of the same images beside the instances.
    return [file for file in files if posixpath.basename(file).startswith("instances")] or files


def _is_coco(folder: Folder, file: str) -> bool:
    data = folder.path(file).read_bytes()
    return all(key in data for key in (b'"images"', b'"annotations"', b'"categories"')) and (
        b'"segments_info"' not in data
    )


def _by_split(folder: Folder, files: Sequence[str]) -> dict[str | None, str]:
    splits: dict[str | None, str] = {}
    for file in files:
        split = split_of(file)
        if split in splits:
            raise UsageError(
                f"{folder.root}: {splits[split]} and {file} both hold {split or 'a split that their names do not tell'}",
                "give the json file to read as the path, or name them train, val and test",
            )
        splits[split] = file
    return splits


def _opened(folder: Folder, file: str, row: type[Row]) -> tuple[_File[Row], list[Problem]]:
    """Decode quickly what is well formed; otherwise row by row, so that one bad row costs one row."""
    data = folder.path(file).read_bytes()
    try:
        return msgspec.json.decode(data, type=_File[row]), []  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        content = json.loads(data)  # also reads NaN, which Python writes and JSON does not have
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{folder.path(file)}: it is no json file: {fault}") from fault
    if not isinstance(content, dict):
        raise DataError(f"{folder.path(file)}: it holds a {type(content).__name__}", f"COCO needs {NEEDS}")
    problems: list[Problem] = []
    parts = [
        _rows(content, key, kind, file, problems)
        for key, kind in (("images", Image), ("annotations", row), ("categories", _Category))
    ]
    return _File(*parts), problems


def _rows(content: dict, key: str, kind: type, file: str, problems: list[Problem]) -> list:
    rows = content.get(key)
    if not isinstance(rows, list):
        raise DataError(f"{file}: its {key!r} is a {type(rows).__name__}", f"COCO needs {NEEDS}")
    converted: list[msgspec.Struct] = []
    for place, row in enumerate(rows):
        try:
            converted.append(msgspec.convert(row, kind, strict=False))
        except msgspec.ValidationError as fault:
            which = f"id {row['id']}" if isinstance(row, dict) and "id" in row else f"number {place}"
            problems.append(problem("unreadable-row", file, f"{key} {which}: {fault}"))
    return converted


def _found(folder: Folder, opened: Opened[_Annotation], category_ids: np.ndarray) -> Found:
    file, content, problems = opened.file, opened.content, opened.problems
    images, names = images_there(folder, opened)
    boxes = content.annotations
    image_ids = np.fromiter((image.id for image in images), np.int64, len(images))
    of_image = np.fromiter((box.image_id for box in boxes), np.int64, len(boxes))
    category = np.fromiter((box.category_id for box in boxes), np.int64, len(boxes))
    where = np.fromiter((box.id for box in boxes), np.int64, len(boxes))
    listed = np.fromiter((image.id for image in content.images), np.int64, len(content.images))
    labels, known = positions(category, category_ids)
    index, there = positions(of_image, image_ids)
    report_rows(opened, of_image, category, where, np.isin(of_image, listed), known)
    xywh = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    found = Found(
        split=opened.split,
        names=names,
        files=[file],
        image_ids=image_ids,
        sizes_hw=np.array([(image.height, image.width) for image in images], np.int32).reshape(-1, 2),
        image_index=index,
        boxes_xyxy=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        labels=labels,
        crowd=np.fromiter((box.iscrowd == 1 for box in boxes), bool, len(boxes)),
        areas=np.array([np.nan if box.area is None else box.area for box in boxes], np.float64),
        where=where,
        where_word="annotation",
        problems=problems,
    )
    return found.keep_boxes(there & known)


def images_there(folder: Folder, opened: Opened) -> tuple[list[Image], list[str]]:
    """Return the images that exist, each with its path, and report the others."""
    file, problems = opened.file, opened.problems
    kept: list[Image] = []
    names: list[str] = []
    seen: set[int] = set()
    near = posixpath.dirname(file)
    for image in opened.content.images:
        name = folder.image_named(image.file_name, near=near, split=opened.split)
        if image.id in seen:
            problems.append(
                problem("image-id-twice", file, f"id {image.id}, the second is {image.file_name}")
            )
        elif name is None:
            fault = folder.fault_of(image.file_name, near=near)
            problems.append(problem(fault, file, f"image {image.id}: {image.file_name!r}"))
        else:
            seen.add(image.id)
            kept.append(image)
            names.append(name)
    return kept, names


def report_rows(
    opened: Opened,
    of_image: np.ndarray,
    category: np.ndarray,
    where: np.ndarray,
    listed: np.ndarray,
    known: np.ndarray,
) -> None:
    """Report annotations of unlisted images, of unknown categories, and under one id.

    Args:
        opened: The file.
        of_image: int64 `[m]`, the image id of each annotation.
        category: int64 `[m]`.
        where: int64 `[m]`, the annotations' ids.
        listed: bool `[m]`, whether the image is among the file's.
        known: bool `[m]`, whether the category is.
    """
    file, problems = opened.file, opened.problems
    for row in np.flatnonzero(~listed):
        detail = f"annotation {where[row]}: image id {of_image[row]} is not among the images"
        problems.append(problem("annotation-without-image", file, detail))
    for row in np.flatnonzero(listed & ~known):
        detail = f"annotation {where[row]}: category id {category[row]} is not among the categories"
        problems.append(problem("unknown-label", file, detail))
    ids, counts = np.unique(where[where >= 0], return_counts=True)
    for i in np.flatnonzero(counts > 1):
        problems.append(
            problem("annotation-id-twice", file, f"annotation id {ids[i]} stands {counts[i]} times")
        )
