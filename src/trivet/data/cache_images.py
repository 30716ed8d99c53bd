"""A data set's image files in the cache of decoded pixels, where that is faster than decoding them every epoch."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trivet.data.cache import SPARE_BYTES, CachedPictures, cache_folder
from trivet.data.dataset import Dataset
from trivet.errors import DataError, UsageError

CACHE_MODES = ("yes", "no", "auto")

_VERSION = b"1"  # of how files become pixels
_TRIED = 12  # images
_GAIN = 2.0
_MOST_OF_MEMORY = 0.5
_MOST_OF_DISK = 0.25


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a split, as they are decoded.

    Args:
        dataset: The split; every image's size is known.
    """

    dataset: Dataset

    @property
    def sizes_hw(self) -> np.ndarray:
        """int32 `[n, 2]`."""
        return self.dataset.truth.sizes_hw

    def key(self) -> str:
        """Hash every file's path, size and time of change, and the pixels' sizes."""
        digest = hashlib.sha256(_VERSION)
        digest.update(self.sizes_hw.tobytes())
        for index in range(len(self.dataset)):
            path = self.dataset.path(index).resolve()
            try:
                status = path.stat()
            except OSError as fault:
                raise DataError(f"{path}: the image cannot be read: {fault.strerror or fault}") from fault
            digest.update(
                f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape")
            )
        return digest.hexdigest()[:32]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the images, uint8 `[h, w, 3]`."""
        for index in range(len(self.dataset)):
            yield self.dataset.image(index)


def cache_images(dataset: Dataset, mode: str = "auto", *, folder: Path | None = None) -> Dataset:
    """Return the split with its images coming from the cache where that is wanted.

    `auto` keeps them where the pixels fill at most half of the free memory (the system then holds the file in it,
    and gives it up when something else needs it) and a quarter of the free disk, and decoding an image takes more
    than twice as long as copying its pixels: so with most small and middle-sized pictures, not with large photos
    by the thousand. The files are decoded once, when the first image is asked for.

    Args:
        dataset: A split of image files; one whose images come from elsewhere is returned as it is.
        mode: `yes`, `no` or `auto`.
        folder: Where pixels are kept; `cache_folder()` when not given.

    Raises:
        UsageError: If `mode` is none of these, or `yes` where sizes are not known (read with `check="none"`).
    """
    if mode not in CACHE_MODES:
        raise UsageError(f"cache is 'yes', 'no' or 'auto', got {mode!r}")
    if mode == "no" or dataset.pictures is not None or not len(dataset):
        return dataset
    known = bool((dataset.truth.sizes_hw > 0).all())
    if not known and mode == "yes":
        raise UsageError(
            "images are cached by their sizes, and some are not known",
            'read the data set with check="headers"',
        )
    if not known or (mode == "auto" and not _pays(dataset, folder or cache_folder())):
        return dataset
    return replace(dataset, pictures=CachedPictures(ImageFiles(dataset), folder=folder))


def _pays(dataset: Dataset, folder: Path) -> bool:
    size = int(dataset.truth.sizes_hw.astype(np.int64).prod(axis=1).sum()) * 3
    existing = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    room = min(
        _MOST_OF_DISK * shutil.disk_usage(existing).free - SPARE_BYTES, _MOST_OF_MEMORY * free_memory()
    )
    return size <= room and _decoding_gain(dataset) > _GAIN


def _decoding_gain(dataset: Dataset) -> float:
    """Return how many times as long decoding takes as copying, on a few images from all over the split."""
    decoding = copying = 0.0
    for index in np.unique(np.linspace(0, len(dataset) - 1, _TRIED).astype(np.int64)).tolist():
        started = time.perf_counter()
        try:
            image = dataset.image(index)
        except DataError:
            continue  # said when the image is used
        decoded = time.perf_counter()
        image.copy()
        decoding, copying = decoding + decoded - started, copying + time.perf_counter() - decoded
    return decoding / max(copying, 1e-9)


def free_memory() -> int:
    """Return the bytes of memory that can be had without swapping; where the system does not tell, 2 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 2**31
