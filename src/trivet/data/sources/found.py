"""What a source finds of one split, before anything is checked."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trivet.data.dataset import Masks, Pictures
from trivet.data.problems import Problem, problem
from trivet.data.sources.folder import Folder
from trivet.structures import LabelMap, TaskName


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
        class_labels: int64 `[n]`, the label of each image, where that is the truth.
        pictures: Where the images come from when not from a file each; their sizes are then told.
        masks: The mask of each image, where that is the truth.
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
    class_labels: np.ndarray | None = None
    pictures: Pictures | None = None
    masks: Masks | None = None

    @classmethod
    def of_classes(
        cls,
        split: str | None,
        names: list[str],
        files: list[str],
        class_labels: np.ndarray,
        *,
        sizes_hw: np.ndarray | None = None,
        pictures: Pictures | None = None,
        problems: Sequence[Problem] = (),
    ) -> "Found":
        """Make a split of whole images with a label each, without boxes."""
        count, none = len(names), np.zeros(0, np.int64)
        return cls(
            split=split,
            names=names,
            files=files,
            image_ids=np.arange(count, dtype=np.int64),
            sizes_hw=np.zeros((count, 2), np.int32) if sizes_hw is None else sizes_hw,
            image_index=none,
            boxes_xyxy=np.zeros((0, 4)),
            labels=none,
            crowd=np.zeros(0, bool),
            areas=np.zeros(0),
            where=none,
            where_word="image",
            problems=list(problems),
            class_labels=class_labels,
            pictures=pictures,
        )

    @property
    def task(self) -> TaskName:
        """What the truth is for."""
        if self.masks is not None:
            return "segmentation"
        return "detection" if self.class_labels is None else "classification"

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
            class_labels=None if self.class_labels is None else self.class_labels[keep],
            pictures=None if self.pictures is None else self.pictures.take(kept),
            masks=None if self.masks is None else self.masks.take(kept),
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
