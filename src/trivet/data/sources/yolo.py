"""YOLO: a text file an image, a row an object: class, then the box's centre and size as shares of the image's.

The label file of `images/a/b.jpg` is `labels/a/b.txt` (or in another folder beside `images` whose name starts
with `labels`), or `b.txt` beside the image. An image without one is a negative, as the format has it. Rows of
polygons (class, then three or more points) become the polygon's box; of rows with key points the box is kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from trivet.data.problems import problem
from trivet.data.sources.folder import Folder, split_of, stem_of
from trivet.data.sources.found import Found, Reading, positions
from trivet.data.sources.rows import Rows
from trivet.data.sources.yolo_config import Config, config_files, images_of, is_image_list, read_config
from trivet.data.sources.yolo_labels import CLASS_LISTS, LISTS, LabelFinder, parse_row
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap

NEEDS = (
    "label files (txt) in labels/ beside images/ or beside each image, or a yaml file with names and train"
)
_TRIED = 200  # text files that are looked into before a folder with texts beside images is taken for another format


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    if folder.file is not None:
        return folder.file if config_files(folder) or is_image_list(folder, folder.file) else None
    if configs := config_files(folder):
        return ", ".join(configs)
    texts = (text for text in folder.with_suffix(".txt") if folder.has_image_with_stem(stem_of(text)))
    return next(
        (f"label files like {text}" for text in islice(texts, _TRIED) if _has_rows(folder, text)), None
    )


def read(folder: Folder, *, labels: str | None = None) -> Reading:
    """Read the label files of every split's images.

    Raises:
        UsageError: If there are several yaml files or label folders and none is chosen.
        DataError: If the yaml file is malformed or its images are not there.
    """
    config = config_of(folder)
    finder = LabelFinder(folder, labels)
    splits = []
    for split, names in config.images.items():
        rows = Rows(split)
        rows.problems += config.problems.get(split, [])
        for name in names:
            _add_image(rows, folder, name, finder.file_of(name), has_points=config.has_points)
        splits.append(rows)
    report_unused(finder, splits)
    found = [rows.found("line", normalised=True) for rows in splits]
    label_map = config.labels or label_map_of(
        folder, (int(i) for part in found for i in np.unique(part.labels))
    )
    return Reading(
        label_map, tuple(_mapped(part, label_map) for part in found), (*config.notes, *finder.notes())
    )


def report_unused(finder: LabelFinder, splits: Sequence[Rows]) -> None:
    """Report the label files that no image asked for."""
    for text in finder.unused():
        rows = next((rows for rows in splits if rows.split == split_of(text)), splits[0])
        rows.add_problem("annotation-without-image", text, "there is no image of its name")


def _has_rows(folder: Folder, text: str) -> bool:
    with folder.path(text).open(encoding="utf-8", errors="replace") as stream:
        try:
            parse_row(stream.readline(10_000))
        except ValueError:
            return False
    return True


def config_of(folder: Folder) -> Config:
    """Return what the data set says of itself: its yaml file, its lists of images, or its folders.

    Raises:
        UsageError: If there are several yaml files and none is chosen.
        DataError: If the yaml file is malformed or its images are not there.
    """
    if folder.file is not None and is_image_list(folder, folder.file):
        return images_of(folder, {split_of(folder.file): folder.file}, file=folder.file)
    configs = config_files(folder)
    if len(configs) > 1:
        raise UsageError(
            f"{folder.root} holds several yaml files: {', '.join(configs)}",
            "give the one to read as the path",
        )
    if configs:
        return read_config(folder, configs[0])
    lists: dict[str | None, object] = {
        split: file for split, file in LISTS.items() if is_image_list(folder, file)
    }
    if lists:
        return images_of(folder, lists)
    images: dict[str | None, list[str]] = {}
    for name in folder.images:
        images.setdefault(split_of(name), []).append(name)
    return Config(images)


def _add_image(rows: Rows, folder: Folder, name: str, file: str | None, *, has_points: bool) -> None:
    image = rows.add_image(name, file or name, image_id=len(rows.names))
    for number, line in lines_of(rows, folder, image, file):
        try:
            class_id, box = parse_row(line, has_points=has_points)
        except ValueError as fault:
            rows.add_problem("unreadable-row", file or name, f"line {number}: {fault}")
        else:
            rows.add_box(image, box, label=class_id, where=number)


def lines_of(rows: Rows, folder: Folder, image: int, file: str | None) -> list[tuple[int, str]]:
    """Return the numbered lines of the image that was added last; it is taken back if its file cannot be read."""
    if file is None:
        rows.add_problem("image-without-label-file", rows.names[image], "no object is known of it")
        return []
    try:
        text = folder.path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        rows.add_problem("annotation-unreadable", file, str(fault))
        rows.drop_image(image)
        return []
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def label_map_of(folder: Folder, seen: Iterable[int]) -> LabelMap:
    """Return the class map of a data set without a yaml file: from a list of names, else the ids themselves."""
    for file in CLASS_LISTS:
        if file in folder.files:
            lines = folder.path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return LabelMap.from_names([line.strip() for line in lines if line.strip()])
    ids = sorted(set(seen))
    if not ids:
        raise DataError(f"{folder.root}: its label files hold no object", f"YOLO needs {NEEDS}")
    return LabelMap(tuple(str(i) for i in ids), tuple(ids))


def _mapped(part: Found, labels: LabelMap) -> Found:
    """Turn class ids into labels; an id that no class has is a fault."""
    position, known = positions(part.labels, np.array(labels.file_ids, np.int64))
    for row in np.flatnonzero(~known).tolist():
        detail = f"line {part.where[row]}: class {part.labels[row]} is none of {min(labels.file_ids)} to {max(labels.file_ids)}"
        part.problems.append(problem("unknown-label", part.file(int(part.image_index[row])), detail))
    return replace(part, labels=position).keep_boxes(known)
