"""One split of a data set as columns, decoded image by image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from trivet.data.cache import CachedPictures
from trivet.data.images import read_image
from trivet.data.problems import Problem
from trivet.errors import DataError, UsageError
from trivet.structures import IGNORE_LABEL, LabelMap, Placement, Sample, TaskName, TruthTable


@dataclass(frozen=True)
class Names:
    """Many strings as one array of bytes: forked workers share it, as they never touch a reference count.

    Args:
        joined: uint8, the UTF-8 of all strings one after the other.
        offsets: int64 `[n + 1]`, where each starts.
    """

    joined: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Names":
        """Join strings."""
        parts = [string.encode("utf-8", "surrogateescape") for string in strings]
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self.offsets[index], self.offsets[index + 1]
        return self.joined[start:end].tobytes().decode("utf-8", "surrogateescape")


@runtime_checkable
class Masks(Protocol):
    """The masks of a split's images, made or decoded when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Return uint8 `[h, w]`, the training label of each pixel, 255 = ignore.

        Raises:
            DataError: If it cannot be decoded or holds a value of no class.
        """
        ...

    def take(self, indices: np.ndarray) -> "Masks":
        """Return the masks at these positions, in this order."""
        ...


@dataclass(frozen=True)
class RelabelledMasks:
    """Masks whose labels are replaced through a table.

    Args:
        masks: What is relabelled.
        table: uint8 `[classes]`, the new label of each label; 255 stays 255.
    """

    masks: Masks
    table: np.ndarray

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> np.ndarray:
        whole = np.full(256, IGNORE_LABEL, np.uint8)
        whole[: len(self.table)] = self.table
        return whole[self.masks[index]]

    def take(self, indices: np.ndarray) -> "RelabelledMasks":
        """Return the masks at these positions, in this order."""
        return RelabelledMasks(self.masks.take(indices), self.table)


@runtime_checkable
class Pictures(Protocol):
    """The images of a split that do not lie one in a file: packed in mosaics, or in a cache."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Return uint8 RGB `[h, w, 3]`."""
        ...

    def take(self, indices: np.ndarray) -> "Pictures":
        """Return the images at these positions, in this order."""
        ...


@dataclass(frozen=True)
class Dataset:
    """One split, map-style: `dataset[i]` decodes image i. Holds columns only, nothing decoded.

    Args:
        root: The folder image names are relative to.
        split: `train`, `val` or `test`.
        labels: The class map.
        truth: The boxes, in the pixels of the original images.
        names: The images' paths relative to `root` (absolute where a list file of the user's says so).
        problems: The faults found while reading what this split was taken from.
        task: What the truth is for; the other tasks' columns are empty.
        masks: The truth for segmentation.
        class_labels: int64 `[n]`, the truth for classification.
        pictures: Where the images come from when not from a file each.
    """

    root: Path
    split: str
    labels: LabelMap
    truth: TruthTable
    names: Names
    problems: tuple[Problem, ...] = ()
    task: TaskName = "detection"
    masks: Masks | None = None
    class_labels: np.ndarray | None = None
    pictures: Pictures | None = None

    def __post_init__(self) -> None:
        needed = {"segmentation": self.masks, "classification": self.class_labels}
        for task, column in needed.items():
            if (self.task == task) != (column is not None):
                raise UsageError(
                    f"a data set for {self.task} {'needs' if self.task == task else 'has no'} truth for {task}"
                )
            if column is not None and len(column) != len(self.truth):
                raise UsageError(
                    f"a data set needs one {task} truth an image, got {len(column)} for {len(self.truth)} images"
                )
        if len(self.names) != len(self.truth):
            raise UsageError(
                f"a data set needs one name an image, got {len(self.names)} names for {len(self.truth)} images"
            )

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, index: int) -> Sample:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"image {index} of a split of {len(self)} images")
        return self._sample(position, self.image(position))

    def for_reading(self, index: int) -> Sample:
        """Return image `index` (from 0) as `[index]` does; where pixels are cached they are no copy and cannot be written to."""
        if isinstance(self.pictures, CachedPictures):
            return self._sample(index, self.pictures.for_reading(index))
        return self[index]

    def _sample(self, position: int, image: np.ndarray) -> Sample:
        rows = self.truth.rows(position)
        return Sample(
            image,
            self.truth.boxes_xyxy[rows].copy(),
            self.truth.labels[rows].copy(),
            self.truth.crowd[rows].copy(),
            int(self.truth.image_ids[position]),
            self.name(position),
            Placement((image.shape[0], image.shape[1])),
            mask=self._mask(position, image) if self.masks is not None else None,
            class_label=int(self.class_labels[position]) if self.class_labels is not None else None,
        )

    def _mask(self, position: int, image: np.ndarray) -> np.ndarray:
        assert self.masks is not None, "the caller has checked that there are masks"
        mask = self.masks[position]
        if mask.shape != image.shape[:2]:
            raise DataError(
                f"{self.path(position)}: the image is {image.shape[1]} x {image.shape[0]} pixels, its mask {mask.shape[1]} x "
                f"{mask.shape[0]}",
                "make the mask again at the image's size, or use --on-bad skip",
            )
        return mask

    def name(self, index: int) -> str:
        """Return image `index`'s path relative to `root`."""
        return self.names[index]

    def path(self, index: int) -> Path:
        """Return where image `index` lies."""
        return self.root / self.name(index)

    def image(self, index: int) -> np.ndarray:
        """Decode image `index` to uint8 RGB `[h, w, 3]`, in the pixels its boxes are in.

        Annotations made on the pixels as stored, before the EXIF rotation, are told by their size.

        Raises:
            DataError: If it cannot be decoded, or is of another size than its annotation says.
        """
        if self.pictures is not None:
            return self.pictures[index]
        path = self.path(index)
        wanted = (int(self.truth.sizes_hw[index, 0]), int(self.truth.sizes_hw[index, 1]))
        image = read_image(path)
        if wanted == (0, 0) or image.shape[:2] == wanted:
            return image
        if image.shape[1::-1] == wanted:
            stored = read_image(path, upright=False)
            if stored.shape[:2] == wanted:
                return stored
        raise DataError(
            f"{path}: the image is {image.shape[1]} x {image.shape[0]} pixels, its annotation says {wanted[1]} x {wanted[0]}",
            "its boxes are in other pixels: annotate the file that is there, or put the annotated file back",
        )

    def take(self, indices: Sequence[int] | np.ndarray, *, split: str | None = None) -> "Dataset":
        """Return the images at these positions, in this order, under the same or another split's name."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            split=split or self.split,
            truth=self.truth.take(chosen),
            names=Names.of(self.names[int(index)] for index in chosen),
            masks=None if self.masks is None else self.masks.take(chosen),
            class_labels=None if self.class_labels is None else self.class_labels[chosen],
            pictures=None if self.pictures is None else self.pictures.take(chosen),
        )


@dataclass(frozen=True)
class Splits:
    """A data set read from disk.

    Args:
        format: Its format, a key of `SOURCES`.
        labels: The class map of all splits.
        train: What is trained on.
        val: What is validated on, if any.
        test: What the final score is taken on, if given.
        made: How splits were made when they were not given, in words.
        notes: What was decided while reading, in words: conventions, folders, files.
    """

    format: str
    labels: LabelMap
    train: Dataset
    val: Dataset | None
    test: Dataset | None
    made: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> TaskName:
        """What the truth is for."""
        return self.train.task

    @property
    def given(self) -> tuple[Dataset, ...]:
        """The splits there are: train, val, test."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The faults found in all splits, each once."""
        return tuple(dict.fromkeys(found for split in self.given for found in split.problems))
