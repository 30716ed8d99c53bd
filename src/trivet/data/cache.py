"""Decoded pixels in one memory-mapped file on disk: decoded once, shared by all processes, never all in memory."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from filelock import FileLock

from trivet.errors import DataError

SPARE_BYTES = 2**28
"""Free space that a cache leaves on its disk."""


@runtime_checkable
class PixelSource(Protocol):
    """Images that can be decoded one after the other."""

    @property
    def sizes_hw(self) -> np.ndarray:
        """int32 `[n, 2]`, the size of each image."""
        ...

    def key(self) -> str:
        """Return a hash of all that decides the pixels, fit for a file name."""
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield uint8 arrays whose bytes, one after the other, are those of all images as RGB `[h, w, 3]`."""
        ...


def cache_folder() -> Path:
    """Return where decoded pixels are kept: `$XDG_CACHE_HOME/trivet`, else `~/.cache/trivet`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "trivet"


def open_pixels(source: PixelSource, *, folder: Path | None = None) -> np.ndarray:
    """Return the bytes of all images as a read-only memory map, decoding them the first time.

    The file appears whole or not at all, under the hash of what it was made from; of several processes one makes
    it and the others wait.

    Args:
        source: The images.
        folder: Where the file is kept; `cache_folder()` when not given.

    Raises:
        DataError: If an image cannot be decoded, or the file cannot be written: no room, no right to.
    """
    place = (folder or cache_folder()) / "pixels"
    path = place / f"{source.key()}.rgb"
    size = int(_image_bytes(source.sizes_hw).sum())
    try:
        if not _is_whole(path, size):
            place.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not _is_whole(path, size):
                    _write(path, source, size)
        return np.memmap(path, np.uint8, mode="r") if size else np.zeros(0, np.uint8)
    except OSError as fault:
        raise DataError(
            f"{place}: {size / 1e6:,.0f} MB of decoded images cannot be kept there: {fault.strerror or fault}",
            'make room, set XDG_CACHE_HOME to another disk, or read with cache="no" where images are files',
        ) from fault


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(path: Path, source: PixelSource, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size + SPARE_BYTES > free:
        raise OSError(f"the disk has {free / 1e6:,.0f} MB left")
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as stream:
            for block in source.blocks():
                stream.write(np.ascontiguousarray(block).data)
            stream.flush()
            os.fsync(stream.fileno())
        assert partial.stat().st_size == size, "the blocks hold as many bytes as the sizes say"
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _image_bytes(sizes_hw: np.ndarray) -> np.ndarray:
    return sizes_hw.astype(np.int64).prod(axis=1) * 3


class CachedPictures:
    """Images of a split in the cache, decoded into it when the first one is asked for.

    Args:
        source: All images that share a file of the cache.
        positions: int64 `[n]`, which of them are this split's, in its order; all when not given.
        folder: See `open_pixels`.
    """

    def __init__(
        self, source: PixelSource, positions: np.ndarray | None = None, *, folder: Path | None = None
    ) -> None:
        self.source = source
        self.positions = np.arange(len(source.sizes_hw)) if positions is None else positions
        self.folder = folder
        self._pixels: np.ndarray | None = None
        self._starts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return uint8 RGB `[h, w, 3]`, a copy.

        Raises:
            DataError: As `open_pixels`.
        """
        return np.array(self.for_reading(index))

    def for_reading(self, index: int) -> np.ndarray:
        """Return an image as `[index]` does, but as the cache holds it: it cannot be written to.

        Raises:
            DataError: As `open_pixels`.
        """
        position = int(self.positions[index])
        if self._starts is None:
            ends = np.cumsum(_image_bytes(self.source.sizes_hw))
            self._starts = np.concatenate([[0], ends])
        start, end = self._starts[position], self._starts[position + 1]
        height, width = self.source.sizes_hw[position].tolist()
        pixels = np.asarray(self.pixels)[start:end].reshape(height, width, 3)
        pixels.flags.writeable = False
        return pixels

    def take(self, indices: np.ndarray) -> "CachedPictures":
        """Return the images at these positions, in this order."""
        taken = CachedPictures(self.source, self.positions[indices], folder=self.folder)
        taken._pixels = self._pixels
        return taken

    @property
    def pixels(self) -> np.ndarray:
        """The bytes of all images of the source, memory-mapped."""
        if self._pixels is None:
            self._pixels = open_pixels(self.source, folder=self.folder)
        return self._pixels

    @property
    def common_hw(self) -> tuple[int, int] | None:
        """The one size all images of the source have; `None` where they differ or there is none."""
        sizes = self.source.sizes_hw
        if not len(sizes) or (sizes != sizes[0]).any():
            return None
        return int(sizes[0, 0]), int(sizes[0, 1])

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Return the images at these positions as one uint8 `[k, h, w, 3]`; all have one size."""
        size_hw = self.common_hw
        assert size_hw is not None, "images of different sizes make no one array"
        return self.pixels.reshape(-1, *size_hw, 3)[self.positions[indices]]

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would travel as a copy of all pixels; the other process opens the file itself.
        return {**vars(self), "_pixels": None, "_starts": None}
