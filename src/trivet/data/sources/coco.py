"""COCO json: images, annotations and categories in one file a split."""

import json
import posixpath
from collections.abc import Sequence

import msgspec
import numpy as np

from trivet.data.problems import Problem, problem
from trivet.data.sources.folder import Folder, split_of
from trivet.data.sources.found import Found, Reading, positions, report_unmentioned
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap

NEEDS = 'a json file with "images", "annotations" (with "bbox") and "categories"'


class _Image(msgspec.Struct, gc=False):
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


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    files = _coco_files(folder)
    return f"COCO json ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})" if files else None


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read every json file of the folder as a split of its own.

    Raises:
        UsageError: If two files tell the same split.
        DataError: If a file is no COCO json, or two files disagree on a category.
    """
    files = _by_split(folder, _coco_files(folder))
    opened = {split: _opened(folder, file) for split, file in files.items()}
    categories: dict[int, str] = {}
    for split, (content, _) in opened.items():
        for category in content.categories:
            name = categories.setdefault(category.id, category.name)
            if name != category.name:
                raise DataError(
                    f"{files[split]}: category {category.id} is {category.name!r} here and {name!r} in another file",
                    "give one of the json files as the path",
                )
    if not categories:
        raise DataError(
            f"{folder.root}: {', '.join(files.values())} name no categories", f"COCO needs {NEEDS}"
        )
    ids = sorted(categories)
    label_map = LabelMap(tuple(categories[i] for i in ids), tuple(ids))
    found = tuple(
        _found(folder, split, files[split], *opened.pop(split), np.array(ids)) for split in list(opened)
    )
    report_unmentioned(found, folder)
    return Reading(
        label_map, found, tuple(f"{split or 'all images'}: {file}" for split, file in files.items())
    )


def _coco_files(folder: Folder) -> list[str]:
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


def _opened(folder: Folder, file: str) -> tuple[_File, list[Problem]]:
    """Decode quickly what is well formed; otherwise row by row, so that one bad row costs one row."""
    data = folder.path(file).read_bytes()
    try:
        return msgspec.json.decode(data, type=_File), []
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
        for key, kind in (("images", _Image), ("annotations", _Annotation), ("categories", _Category))
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


def _found(
    folder: Folder,
    split: str | None,
    file: str,
    content: _File,
    problems: list[Problem],
    category_ids: np.ndarray,
) -> Found:
    images, names = _images(folder, split, file, content.images, problems)
    boxes = content.annotations
    image_ids = np.fromiter((image.id for image in images), np.int64, len(images))
    of_image = np.fromiter((box.image_id for box in boxes), np.int64, len(boxes))
    category = np.fromiter((box.category_id for box in boxes), np.int64, len(boxes))
    where = np.fromiter((box.id for box in boxes), np.int64, len(boxes))
    listed = np.fromiter((image.id for image in content.images), np.int64, len(content.images))
    labels, known = positions(category, category_ids)
    index, there = positions(of_image, image_ids)
    _report_rows(file, boxes, where, np.isin(of_image, listed), known, problems)
    xywh = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    found = Found(
        split=split,
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


def _images(
    folder: Folder, split: str | None, file: str, images: list[_Image], problems: list[Problem]
) -> tuple[list[_Image], list[str]]:
    """Return the images that exist, each with its path."""
    kept, names, seen = [], [], set()
    near = posixpath.dirname(file)
    for image in images:
        name = folder.image_named(image.file_name, near=near, split=split)
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


def _report_rows(
    file: str,
    boxes: list[_Annotation],
    where: np.ndarray,
    listed: np.ndarray,
    known: np.ndarray,
    problems: list[Problem],
) -> None:
    for row in np.flatnonzero(~listed):
        detail = f"annotation {where[row]}: image id {boxes[row].image_id} is not among the images"
        problems.append(problem("annotation-without-image", file, detail))
    for row in np.flatnonzero(listed & ~known):
        detail = f"annotation {where[row]}: category id {boxes[row].category_id} is not among the categories"
        problems.append(problem("unknown-label", file, detail))
    ids, counts = np.unique(where[where >= 0], return_counts=True)
    for i in np.flatnonzero(counts > 1):
        problems.append(
            problem("annotation-id-twice", file, f"annotation id {ids[i]} stands {counts[i]} times")
        )
