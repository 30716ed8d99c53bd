"""From what a source found to a `Dataset`: sizes compared, faulty boxes left out by name, the rest clipped."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from trivet.data.dataset import Dataset, Names
from trivet.data.images import read_image, read_size
from trivet.data.problems import Problem, problem
from trivet.data.sources.folder import Check, Folder
from trivet.data.sources.found import Found
from trivet.errors import DataError
from trivet.structures import LabelMap, TruthTable

ROUNDING = 0.02
"""A box may stick out by this many pixels unreported: what two decimals or six of 10,000 leave."""


def to_dataset(found: Found, folder: Folder, labels: LabelMap, *, check: Check) -> Dataset:
    """Check what was found, leave out what is faulty, and make it a `Dataset`."""
    problems = list(found.problems)
    found = _joined(found, problems)
    found = _with_sizes(found, folder, check, problems)
    if found.normalised:
        scale = found.sizes_hw[:, [1, 0, 1, 0]][found.image_index]
        found = replace(found, boxes_xyxy=found.boxes_xyxy * scale, normalised=False)
    found = _checked_boxes(found, problems)
    order = np.argsort(found.image_index, kind="stable")
    offsets = np.zeros(len(found.names) + 1, np.int64)
    np.cumsum(np.bincount(found.image_index, minlength=len(found.names)), out=offsets[1:])
    truth = TruthTable(
        found.image_ids,
        found.sizes_hw,
        offsets,
        found.boxes_xyxy[order],
        found.labels[order],
        found.crowd[order],
        found.areas[order].astype(np.float32),
    )
    return Dataset(
        folder.image_root,
        found.split or "train",
        labels,
        truth,
        Names.of(found.names),
        tuple(problems),
        task=found.task,
        masks=found.masks,
        class_labels=found.class_labels,
        pictures=found.pictures,
    )


def _joined(found: Found, problems: list[Problem]) -> Found:
    """Join the images that are the same file; their boxes go to the first."""
    first: dict[str, int] = {}
    target = np.array([first.setdefault(name, i) for i, name in enumerate(found.names)], np.int64)
    own = np.arange(len(target))
    if (target == own).all():
        return found
    for i in np.flatnonzero(target != own).tolist():
        ids = f"ids {found.image_ids[target[i]]} and {found.image_ids[i]}"
        problems.append(
            problem("image-listed-twice", found.file(i), f"{found.names[i]} is listed under {ids}")
        )
    return replace(found, image_index=target[found.image_index]).keep_images(target == own)


def _with_sizes(found: Found, folder: Folder, check: Check, problems: list[Problem]) -> Found:
    """Compare the sizes that annotations tell with those of the files, and fill in those they do not tell."""
    if found.pictures is not None:
        return found
    told: np.ndarray = np.all(found.sizes_hw > 0, axis=1)
    if check == "none" and found.normalised and not told.all():
        raise DataError(
            'boxes given as shares of the image size need the images, which check="none" leaves alone',
            'read with check="headers"',
        )
    looked_at = {"none": [], "names": np.flatnonzero(~told).tolist()}.get(check, range(len(told)))
    sizes = np.where(told[:, None], found.sizes_hw, 0).astype(np.int32)
    keep = np.ones(len(sizes), bool)
    for i in looked_at:
        path = folder.image_root / found.names[i]
        wanted = (int(sizes[i, 0]), int(sizes[i, 1])) if told[i] else None
        try:
            sizes[i] = size = _size_in_file(path, wanted, pixels=check == "pixels")
        except DataError as fault:
            keep[i] = False
            problems.append(
                problem("image-unreadable", found.names[i], fault.message.removeprefix(f"{path}: "))
            )
            continue
        if wanted not in (None, size):
            keep[i] = False
            says = f"{wanted[1]} x {wanted[0]} in {found.file(i)}, {size[1]} x {size[0]} in the file"
            problems.append(problem("image-size-differs", found.names[i], says))
    found = replace(found, sizes_hw=sizes)
    return found if keep.all() else found.keep_images(keep)


def _size_in_file(path: Path, wanted: tuple[int, int] | None, *, pixels: bool) -> tuple[int, int]:
    """Return the image's size, of its pixels as stored where the annotation was made on those."""
    if pixels:
        read_image(path)
    size = read_size(path)
    if wanted == size[::-1] and read_size(path, upright=False) == wanted:
        return wanted
    return size


def _checked_boxes(found: Found, problems: list[Problem]) -> Found:
    with np.errstate(over="ignore"):
        boxes = found.boxes_xyxy.astype(np.float32).reshape(-1, 4)
    sizes_wh = found.sizes_hw[:, ::-1][found.image_index].astype(np.float32)
    limits = np.where(sizes_wh > 0, sizes_wh, np.float32(np.inf))
    finite: np.ndarray = np.all(np.isfinite(boxes), axis=1)
    boxes_or_0 = np.where(finite[:, None], boxes, 0)
    extent = boxes_or_0[:, 2:] - boxes_or_0[:, :2]
    clipped = np.clip(boxes_or_0.reshape(-1, 2, 2), 0, limits[:, None]).reshape(-1, 4)
    faults = {
        "non-finite-box": ~finite,
        "inverted-box": (extent < 0).any(axis=1),
        "zero-area-box": (extent == 0).any(axis=1),
        "outside-box": (clipped[:, 2:] <= clipped[:, :2]).any(axis=1),
        "clipped-box": (np.abs(clipped - boxes_or_0) > ROUNDING).any(axis=1),
    }
    seen = np.zeros(len(boxes), bool)
    for name, fault in faults.items():
        problems += [
            _box_problem(name, found, row, boxes[row]) for row in np.flatnonzero(fault & ~seen).tolist()
        ]
        seen |= fault
        if name == "outside-box":
            bad = seen.copy()
    given = np.isfinite(found.areas) & (found.areas > 0)
    own = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    return replace(found, boxes_xyxy=clipped, areas=np.where(given, found.areas, own)).keep_boxes(~bad)


def _box_problem(name: str, found: Found, row: int, box: np.ndarray) -> Problem:
    image = int(found.image_index[row])
    height, width = found.sizes_hw[image]
    corners = ", ".join(f"{value:g}" for value in box)
    detail = f"{found.where_word} {found.where[row]}: ({corners}) in {found.names[image]}, {width} x {height}"
    return problem(name, found.file(image), detail)
