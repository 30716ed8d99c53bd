"""What a source finds of one split, and how it becomes a checked `Dataset`."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trivet.data.dataset import Dataset, Names
from trivet.data.images import read_image, read_size
from trivet.data.problems import Problem, problem
from trivet.data.sources.folder import Check, Folder
from trivet.errors import DataError
from trivet.structures import LabelMap, TruthTable

ROUNDING = 0.02
"""A box may stick out by this many pixels unreported: what two decimals or six of 10,000 leave."""


@dataclass(frozen=True)
class Found:
    """One split as its files say it, unchecked. `n` images, `m` boxes in any order.

    Args:
        split: Its name, or `None` when the files do not tell.
        names: The images' paths relative to the folder's `image_root`.
        files: The annotation file of each image, or the one of all.
        image_ids: int64 `[n]`.
        sizes_hw: int32 `[n, 2]`, 0 where not told.
        image_index: int64 `[m]`, the position of each box's image.
        boxes_xyxy: float `[m, 4]`, right and bottom exclusive; pixels, or shares of the size if `normalised`.
        labels: int64 `[m]`, training labels.
        crowd: bool `[m]`.
        areas: float `[m]`, NaN where not told.
        where: int64 `[m]`, where each box is written, in words with `where_word`: `line` 3.
        where_word: What `where` counts.
        normalised: Whether boxes are shares of the image's size.
        problems: The faults the source itself met.
    """

    split: str | None
    names: list[str]
    files: list[str]
    image_ids: np.ndarray
    sizes_hw: np.ndarray
    image_index: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    where: np.ndarray
    where_word: str
    normalised: bool = False
    problems: list[Problem] = field(default_factory=list)

    def file(self, image: int) -> str:
        """Return the annotation file of an image."""
        return self.files[image if len(self.files) > 1 else 0]

    def keep_images(self, keep: np.ndarray) -> "Found":
        """Return the images for which `keep` is set, with their boxes."""
        position = np.cumsum(keep) - 1
        boxes = keep[self.image_index]
        kept = np.flatnonzero(keep)
        return replace(
            self.keep_boxes(boxes),
            names=[self.names[i] for i in kept],
            files=self.files if len(self.files) == 1 else [self.files[i] for i in kept],
            image_ids=self.image_ids[keep],
            sizes_hw=self.sizes_hw[keep],
            image_index=position[self.image_index[boxes]],
        )

    def keep_boxes(self, keep: np.ndarray) -> "Found":
        """Return the boxes for which `keep` is set."""
        columns = ("image_index", "boxes_xyxy", "labels", "crowd", "areas", "where")
        return replace(self, **{column: getattr(self, column)[keep] for column in columns})


@dataclass(frozen=True)
class Reading:
    """What a source read: the class map, the splits it found, and what it decided, in words."""

    labels: LabelMap
    splits: tuple[Found, ...]
    notes: tuple[str, ...] = ()


def report_unmentioned(splits: Sequence[Found], folder: Folder) -> None:
    """Report the images that no split mentions, in the folders of those that are, as faults of the first split."""
    if folder.file is not None or folder.check == "none":
        return
    mentioned = {name for found in splits for name in found.names}
    places = {posixpath.dirname(name) for name in mentioned}
    for name in folder.images:
        if name not in mentioned and posixpath.dirname(name) in places:
            splits[0].problems.append(problem("image-without-annotation", name, "no split mentions it"))


def positions(values: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each value stands in `wanted`, and whether it does."""
    if not len(wanted):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    order = np.argsort(wanted, kind="stable")
    place = np.minimum(np.searchsorted(wanted[order], values), len(wanted) - 1)
    return order[place], wanted[order[place]] == values


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
        folder.image_root, found.split or "train", labels, truth, Names.of(found.names), tuple(problems)
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
    told: np.ndarray = np.all(found.sizes_hw > 0, axis=1)
    sizes = np.where(told[:, None], found.sizes_hw, 0).astype(np.int32)
    keep = np.ones(len(sizes), bool)
    if check == "none" and found.normalised and not told.all():
        raise DataError(
            'boxes given as shares of the image size need the images, which check="none" leaves alone',
            'read with check="headers"',
        )
    if check not in ("none", "names") or (check == "names" and not told.all()):
        for i, name in enumerate(found.names):
            if check == "names" and told[i]:
                continue
            path = folder.image_root / name
            try:
                size, stored = _sizes_in_file(path, pixels=check == "pixels")
            except DataError as fault:
                keep[i] = False
                detail = fault.message.removeprefix(f"{path}: ")
                problems.append(problem("image-unreadable", name, detail))
                continue
            if not told[i]:
                sizes[i] = size
            elif tuple(sizes[i]) not in (size, stored):
                keep[i] = False
                says = f"{sizes[i, 1]} x {sizes[i, 0]} in {found.file(i)}, {size[1]} x {size[0]} in the file"
                problems.append(problem("image-size-differs", name, says))
    return replace(found, sizes_hw=sizes) if keep.all() else replace(found, sizes_hw=sizes).keep_images(keep)


def _sizes_in_file(path, *, pixels: bool) -> tuple[tuple[int, int], tuple[int, int]]:  # type: ignore[no-untyped-def]
    if pixels:
        read_image(path)
    return read_size(path), read_size(path, upright=False)


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
