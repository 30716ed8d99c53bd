"""Masks that lie one in a file: pixel values or colours -> labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trivet.data.dataset import Names
from trivet.data.images import read_mask_values
from trivet.errors import DataError


@dataclass(frozen=True)
class MaskCoding:
    """What the pixels of mask files stand for.

    Args:
        values: int64 `[k]`, ascending: palette indices, gray levels, or colours as 0xRRGGBB.
        labels: uint8 `[k]`, the training label of each, 255 = ignore.
        coloured: Whether values are colours.
    """

    values: np.ndarray
    labels: np.ndarray
    coloured: bool = False

    @classmethod
    def of(cls, labels: Mapping[int, int], *, coloured: bool = False) -> "MaskCoding":
        """Make the coding of a map from value to label."""
        values = np.array(sorted(labels), np.int64)
        return cls(values, np.array([labels[value] for value in values.tolist()], np.uint8), coloured)

    def decode(self, path: Path) -> np.ndarray:
        """Return the labels of a mask file's pixels, uint8 `[h, w]`.

        Raises:
            DataError: If the file cannot be decoded or holds a value that no class has.
        """
        pixels = read_mask_values(path, coloured=self.coloured)
        if pixels.dtype == np.uint8:  # one look into a table of 256 a pixel
            levels = np.arange(256)
            place = self._places(levels)
            known, labels = (self.values[place] == levels)[pixels], self.labels[place][pixels]
        else:
            place = self._places(pixels)
            known, labels = self.values[place] == pixels, self.labels[place]
        if not known.all():
            raise self._unknown(path, pixels[~known])
        return labels

    def in_words(self, value: int) -> str:
        """Return a value as a person writes it: `11`, `#800040`."""
        return f"#{value:06x}" if self.coloured else str(value)

    def _places(self, pixels: np.ndarray) -> np.ndarray:
        """Return where each pixel's value stands in `values`, or somewhere if it does not."""
        return np.minimum(np.searchsorted(self.values, pixels), len(self.values) - 1)

    def _unknown(self, path: Path, pixels: np.ndarray) -> DataError:
        values = np.unique(pixels)
        return DataError(
            f"{path}: {len(pixels):,} pixels have the value {self._listed(values)}, which no class has",
            f"the classes' values are {self._listed(self.values)}; add the class to the class list, or mend the mask",
        )

    def _listed(self, values: np.ndarray, *, most: int = 12) -> str:
        words = [self.in_words(value) for value in values[:most].tolist()]
        return ", ".join([*words, "..."] if len(values) > most else words)


@dataclass(frozen=True)
class MaskFiles:
    """The masks of a split, each decoded from its file when asked for.

    Args:
        root: The folder names are relative to.
        names: The mask files, one an image.
        coding: What their pixels stand for.
    """

    root: Path
    names: Names
    coding: MaskCoding

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.coding.decode(self.root / self.names[index])

    def take(self, indices: np.ndarray) -> "MaskFiles":
        """Return the masks at these positions, in this order."""
        return MaskFiles(self.root, Names.of(self.names[int(index)] for index in indices), self.coding)
