"""CIFAR as mosaics: `meta.json`, lossless pictures of many tiles, one label a tile in `.npy` files."""

import hashlib
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trivet.data.cache import CachedPictures
from trivet.data.images import read_image, read_size
from trivet.data.sources.folder import Folder, clean_name, split_of
from trivet.data.sources.found import Found, Reading
from trivet.errors import DataError
from trivet.structures import LabelMap

NEEDS = "meta.json with classes, tile, rows, cols and splits, beside its mosaics and .npy labels"
_META = "meta.json"
_KEYS = {"classes": list, "tile": int, "rows": int, "cols": int, "splits": dict}
_SPLIT_KEYS = {"n": int, "files": list, "labels": str}
_VERSION = b"1"  # of how mosaics become tiles


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    if folder.file not in (None, _META) or _META not in folder.files:
        return None
    try:
        meta = json.loads(folder.path(_META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return "mosaics of tiles" if isinstance(meta, dict) and set(_KEYS) <= set(meta) else None


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read labels and names; the mosaics are decoded into the cache when the first image is asked for.

    Raises:
        DataError: If a file is missing, is not of the form NEEDS says, or labels and tiles differ in number.
    """
    path = folder.path(_META)
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DataError(f"{path}: the file cannot be read: {fault}") from fault
    _check_keys(path, "it", meta, _KEYS)
    names = [str(name) for name in meta["classes"]]
    splits = tuple(_split(folder, word, part, meta) for word, part in meta["splits"].items())
    grid = f"mosaics of {meta['rows']} x {meta['cols']} tiles of {meta['tile']} x {meta['tile']} pixels"
    return Reading(LabelMap.from_names(names), splits, (grid,))


def _split(folder: Folder, word: str, part: Any, meta: dict[str, Any]) -> Found:
    path = folder.path(_META)
    _check_keys(path, f"split {word!r}", part, _SPLIT_KEYS)
    count = part["n"]
    labels = _labels(folder.path(_inside(path, part["labels"])), count, len(meta["classes"]))
    files = tuple(folder.path(_inside(path, file)) for file in part["files"])
    mosaics = Mosaics(files, meta["tile"], meta["rows"], meta["cols"], count, part.get("sha256_pixels"))
    if folder.check != "none":
        mosaics.check()
    return Found.of_classes(
        split_of(word) or word,
        _names(folder, word, part, count),
        [part["labels"]],
        labels,
        sizes_hw=mosaics.sizes_hw,
        pictures=CachedPictures(mosaics),
    )


@dataclass(frozen=True)
class Mosaics:
    """Square tiles in mosaics, row by row.

    Args:
        files: The mosaics, in order.
        tile: Side of a tile, pixels.
        rows: Rows of tiles in a mosaic.
        columns: Columns of tiles in a mosaic.
        count: How many tiles hold an image; the last mosaic may have empty ones.
        sha256: Of the pixels of all images, where it is known.
    """

    files: tuple[Path, ...]
    tile: int
    rows: int
    columns: int
    count: int
    sha256: str | None = None

    @cached_property
    def sizes_hw(self) -> np.ndarray:
        """int32 `[n, 2]`."""
        return np.full((self.count, 2), self.tile, np.int32)

    def check(self) -> None:
        """Compare the mosaics' sizes with the grid.

        Raises:
            DataError: If one is missing, cannot be read, or has another size, or there are too few.
        """
        wanted = self.rows * self.tile, self.columns * self.tile
        for file in self.files:
            if (size := read_size(file)) != wanted:
                raise DataError(
                    f"{file}: the mosaic is {size[1]} x {size[0]} pixels, its tiles need {wanted[1]} x {wanted[0]}"
                )
        if len(self.files) * self.rows * self.columns < self.count:
            raise DataError(
                f"{len(self.files)} mosaics of {self.rows} x {self.columns} tiles cannot hold {self.count:,} images"
            )

    def key(self) -> str:
        """Hash the mosaics' bytes and the grid."""
        digest = hashlib.sha256(_VERSION)
        digest.update(repr((self.tile, self.rows, self.columns, self.count)).encode())
        for file in self.files:
            digest.update(hashlib.sha256(_bytes(file)).digest())
        return digest.hexdigest()[:32]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the images of each mosaic, uint8 `[n, tile, tile, 3]`.

        Raises:
            DataError: If a mosaic cannot be decoded, or the pixels are not those that `sha256` was made of.
        """
        self.check()
        digest, left = hashlib.sha256(), self.count
        for file in self.files:
            grid = read_image(file).reshape(self.rows, self.tile, self.columns, self.tile, 3)
            tiles = grid.swapaxes(1, 2).reshape(-1, self.tile, self.tile, 3)[:left]
            left -= len(tiles)
            digest.update(tiles.data)
            yield tiles
        if self.sha256 not in (None, digest.hexdigest()):
            raise DataError(
                f"{self.files[0].parent}: the decoded pixels are not those that {_META} tells the hash of",
                "copy the data set again",
            )


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as fault:
        raise DataError(f"{file}: the mosaic cannot be read: {fault.strerror or fault}") from fault


def _labels(path: Path, count: int, classes: int) -> np.ndarray:
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise DataError(f"{path}: the labels cannot be read: {fault}") from fault
    if not isinstance(labels, np.ndarray) or labels.shape != (count,) or labels.dtype.kind not in "iu":
        shape = getattr(labels, "shape", "several arrays")
        raise DataError(f"{path}: {count:,} whole numbers are wanted, got {shape}")
    if count and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"{path}: labels are from 0 to {classes - 1}, got {labels.min()} to {labels.max()}",
            f"{_META} lists {classes} classes",
        )
    return labels.astype(np.int64)


def _names(folder: Folder, word: str, part: dict[str, Any], count: int) -> list[str]:
    if "names" not in part:
        return [f"{word}/{number:06d}" for number in range(count)]
    path = folder.path(_inside(folder.path(_META), part["names"]))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as fault:
        raise DataError(f"{path}: the names cannot be read: {fault}") from fault
    if len(set(lines)) != count or len(lines) != count:
        raise DataError(f"{path}: {count:,} different names are wanted, got {len(set(lines)):,}")
    return [posixpath.join(word, line) for line in lines]


def _inside(path: Path, name: Any) -> str:
    inside = clean_name(name) if isinstance(name, str) else None
    if inside is None:
        raise DataError(f"{path}: {name!r} leaves the data set's folder", "keep its files beside it")
    return inside


def _check_keys(path: Path, what: str, value: Any, keys: dict[str, type]) -> None:
    for key, kind in keys.items():
        if not isinstance(value, dict) or not isinstance(value.get(key), kind):
            raise DataError(f"{path}: {what} needs {key!r} as {kind.__name__}", f"wanted is {NEEDS}")
        if kind is int and value[key] < 1:
            raise DataError(f"{path}: {what} needs {key!r} of at least 1, got {value[key]}")
