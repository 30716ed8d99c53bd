"""YOLO's polygons for segmentation: rows of a class and three or more points become masks."""

from itertools import islice

import numpy as np

from trivet.data.mask_shapes import ShapeMasks
from trivet.data.sources import yolo
from trivet.data.sources.folder import Folder, stem_of
from trivet.data.sources.found import Found, Reading
from trivet.data.sources.rows import Rows
from trivet.data.sources.shape_rows import ShapeRows, found_shapes, size_of, with_background
from trivet.data.sources.yolo_config import config_files, is_image_list
from trivet.data.sources.yolo_labels import LabelFinder, parse_outline
from trivet.structures import LabelMap

_TRIED = 2000

_Row = tuple[int, int, int, list[float] | None, tuple[float, float, float, float]]
"""Image, line, class id, polygon or nothing, box."""


def sees(folder: Folder) -> str | None:
    """Say in words which outlines of this format are in the folder, or return `None`."""
    named = folder.file is not None
    if named and not (config_files(folder) or is_image_list(folder, folder.file or "")):
        return None
    texts = (text for text in folder.with_suffix(".txt") if folder.has_image_with_stem(stem_of(text)))
    return next(
        (f"outlines like {text}" for text in islice(texts, _TRIED) if _has_outline(folder, text)), None
    )


def read(folder: Folder, *, labels: str | None = None, overlap: str) -> Reading:
    """Read the label files of every split's images as masks.

    Raises:
        UsageError: If there are several yaml files or label folders and none is chosen.
        DataError: If the yaml file is malformed or its images are not there.
    """
    config = yolo.config_of(folder)
    finder = LabelFinder(folder, labels)
    splits: list[tuple[Rows, list[_Row]]] = []
    for split, names in config.images.items():
        images, outlines = Rows(split), []
        images.problems += config.problems.get(split, [])
        for name in names:
            outlines += _outlines(images, folder, name, finder.file_of(name))
        splits.append((images, outlines))
    yolo.report_unused(finder, [images for images, _ in splits])
    ids = {row[2] for _, outlines in splits for row in outlines}
    label_map, background, convention = with_background(config.labels or yolo.label_map_of(folder, ids))
    found = tuple(
        _found(folder, images, outlines, label_map, background, overlap) for images, outlines in splits
    )
    notes = (*config.notes, *finder.notes(), convention, f"overlapping outlines: {overlap}")
    return Reading(label_map, found, notes)


def _has_outline(folder: Folder, text: str) -> bool:
    with folder.path(text).open(encoding="utf-8", errors="replace") as stream:
        try:
            return parse_outline(stream.readline(100_000))[1] is not None
        except ValueError:
            return False


def _outlines(images: Rows, folder: Folder, name: str, file: str | None) -> list[_Row]:
    image = images.add_image(name, file or name, image_id=len(images.names))
    outlines: list[_Row] = []
    for number, line in yolo.lines_of(images, folder, image, file):
        try:
            outlines.append((image, number, *parse_outline(line)))
        except ValueError as fault:
            images.add_problem("unreadable-row", file or name, f"line {number}: {fault}")
    return outlines


def _found(
    folder: Folder, images: Rows, outlines: list[_Row], labels: LabelMap, background: int, overlap: str
) -> Found:
    sizes = [size_of(folder, name, (0, 0)) for name in images.names]
    label_of = {file_id: label for label, file_id in enumerate(labels.file_ids) if file_id != -1}
    rows = ShapeRows()
    for image, number, class_id, polygon, box in outlines:
        size_hw, file = sizes[image], images.files[image]
        size_wh = np.array(size_hw[::-1], np.float64)
        label = label_of.get(class_id)
        if label is None:
            images.add_problem(
                "unknown-label", file, f"line {number}: class {class_id} is not on the class list"
            )
        elif polygon is None:
            images.add_problem("outline-unusable", file, f"line {number}: it is a box without outline")
            rows.add_ignored_box(image, (np.reshape(box, (2, 2)) * size_wh).ravel().tolist(), size_hw=size_hw)
        elif min(size_hw) > 0:
            points = (np.reshape(polygon, (-1, 2)) * size_wh).ravel()
            rows.add_polygons(image, [points.tolist()], label=label, size_hw=size_hw, area=None)
    masks = ShapeMasks(
        rows.shapes(len(images.names)), np.array(sizes, np.int32).reshape(-1, 2), background, overlap
    )
    found = found_shapes(images.split, images.names, images.files, np.arange(len(images.names)), masks)
    found.problems.extend(images.problems)
    return found
