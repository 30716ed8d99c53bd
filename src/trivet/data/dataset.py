"""One split of a data set as columns, decoded image by image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trivet.data.images import read_image
from trivet.data.problems import Problem
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap, Placement, Sample, TruthTable


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
    """

    root: Path
    split: str
    labels: LabelMap
    truth: TruthTable
    names: Names
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
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
        image = self.image(position)
        rows = self.truth.rows(position)
        return Sample(
            image,
            self.truth.boxes_xyxy[rows].copy(),
            self.truth.labels[rows].copy(),
            self.truth.crowd[rows].copy(),
            int(self.truth.image_ids[position]),
            self.name(position),
            Placement((image.shape[0], image.shape[1])),
        )

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
        names = Names.of(self.names[int(index)] for index in indices)
        return Dataset(
            self.root, split or self.split, self.labels, self.truth.take(indices), names, self.problems
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
    def given(self) -> tuple[Dataset, ...]:
        """The splits there are: train, val, test."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The faults found in all splits, each once."""
        return tuple(dict.fromkeys(found for split in self.given for found in split.problems))
