"""COCO json for segmentation: polygons and run lengths become masks.

A group of objects (`iscrowd`) has its class's label like any other shape: what a pixel shows does not depend on
where one object ends and the next begins.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from trivet.data.mask_shapes import ShapeMasks
from trivet.data.problems import problem
from trivet.data.sources.coco import (
    Image,
    Opened,
    categories_of,
    coco_files,
    images_there,
    notes_of,
    open_files,
    report_rows,
)
from trivet.data.sources.folder import Folder
from trivet.data.sources.found import Found, Reading, positions, report_unmentioned
from trivet.data.sources.shape_rows import ShapeRows, found_shapes, size_of, with_background
from trivet.structures import LabelMap

_NONE = (0.0, 0.0, 0.0, 0.0)


class _Runs(msgspec.Struct, gc=False):
    counts: list[int] | str
    size: tuple[int, int]


class _Outline(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    segmentation: list[list[float]] | _Runs | None = None
    bbox: tuple[float, float, float, float] = _NONE
    id: int = -1
    area: float | None = None


def sees(folder: Folder) -> str | None:
    """Say in words which outlines of this format are in the folder, or return `None`."""
    files = [file for file in coco_files(folder) if b'"segmentation"' in folder.path(file).read_bytes()]
    return f"outlines in {', '.join(files[:3])}{', ...' if len(files) > 3 else ''}" if files else None


def read(folder: Folder, *, labels: str | None = None, overlap: str) -> Reading:  # noqa: ARG001 - one signature for all
    """Read every json file of the folder as a split of masks.

    Raises:
        UsageError: If two files tell the same split.
        DataError: If a file is no COCO json, or two files disagree on a category.
    """
    opened = open_files(folder, _Outline)
    categories = categories_of(folder, opened)
    label_map, background, convention = with_background(categories)
    found = tuple(_found(folder, part, label_map, background, overlap) for part in opened)
    report_unmentioned(found, folder)
    return Reading(label_map, found, (*notes_of(opened), convention, f"overlapping outlines: {overlap}"))


def _found(
    folder: Folder, opened: Opened[_Outline], labels: LabelMap, background: int, overlap: str
) -> Found:
    images, names = images_there(folder, opened)
    outlines = opened.content.annotations
    first: dict[str, int] = {}  # an image listed twice has the outlines of both
    index_of_id = {
        image.id: first.setdefault(name, i) for i, (image, name) in enumerate(zip(images, names, strict=True))
    }
    sizes = [
        size_of(folder, name, (image.height, image.width)) for image, name in zip(images, names, strict=True)
    ]
    label_of = {file_id: label for label, file_id in enumerate(labels.file_ids) if file_id != -1}
    _report(opened, label_of)
    rows = ShapeRows()
    for outline in outlines:
        image, label = index_of_id.get(outline.image_id), label_of.get(outline.category_id)
        if image is not None and label is not None and min(sizes[image]) > 0:
            _add(rows, opened, outline, image, label, sizes[image])
    masks = ShapeMasks(
        rows.shapes(len(images)), np.array(sizes, np.int32).reshape(-1, 2), background, overlap
    )
    ids = np.fromiter((image.id for image in images), np.int64, len(images))
    found = found_shapes(opened.split, names, [opened.file], ids, masks)
    found.problems.extend(opened.problems)
    return found


def _add(
    rows: ShapeRows,
    opened: Opened[_Outline],
    outline: _Outline,
    image: int,
    label: int,
    size_hw: tuple[int, int],
) -> None:
    shape = outline.segmentation
    area = outline.area if outline.area and np.isfinite(outline.area) and outline.area > 0 else None
    try:
        if shape is None:
            raise ValueError("it has no segmentation")
        if isinstance(shape, list):
            rows.add_polygons(image, shape, label=label, size_hw=size_hw, area=area)
        else:
            rows.add_runs(image, shape.counts, label=label, size_hw=size_hw, area=area)
    except ValueError as fault:
        left, top, width, height = outline.bbox
        detail = f"annotation {outline.id}: {fault}"
        opened.problems.append(problem("outline-unusable", opened.file, detail))
        rows.add_ignored_box(image, (left, top, left + width, top + height), size_hw=size_hw)


def _report(opened: Opened[_Outline], label_of: dict[int | str, int]) -> None:
    outlines: Sequence[_Outline] = opened.content.annotations
    images: Sequence[Image] = opened.content.images
    of_image, category, where = (
        np.fromiter((getattr(outline, name) for outline in outlines), np.int64, len(outlines))
        for name in ("image_id", "category_id", "id")
    )
    listed = np.isin(of_image, np.fromiter((image.id for image in images), np.int64, len(images)))
    _, known = positions(category, np.array(list(label_of), np.int64))
    report_rows(opened, of_image, category, where, listed, known)
