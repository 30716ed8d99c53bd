"""CIFAR-10 and CIFAR-100 as torchvision downloads them: pickled arrays, read without running what is in them."""

import hashlib
import io
import pickle
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trivet.data.cache import CachedPictures
from trivet.data.sources.folder import Folder
from trivet.data.sources.found import Found, Reading
from trivet.errors import DataError
from trivet.structures import LabelMap

NEEDS = "torchvision's cifar-10-batches-py or cifar-100-python"
_SIDE = 32
_VALUES = 3 * _SIDE * _SIDE
_VERSION = b"1"  # of how rows become images
# All that arrays pickled by NumPy, old or new, call for.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Layout(NamedTuple):
    """The files of one of the two and the keys in them."""

    classes_file: str
    classes_key: bytes
    labels_key: bytes
    splits: dict[str, tuple[str, ...]]


_LAYOUTS = (
    _Layout(
        "batches.meta",
        b"label_names",
        b"labels",
        {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    ),
    _Layout("meta", b"fine_label_names", b"fine_labels", {"train": ("train",), "test": ("test",)}),
)


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    found = _find(folder)
    return (
        None if found is None else f"pickled batches beside {posixpath.join(found[1], found[0].classes_file)}"
    )


def read(folder: Folder, *, labels: str | None = None) -> Reading:  # noqa: ARG001 - one signature for all sources
    """Read labels and names; the images are decoded into the cache when the first one is asked for.

    Raises:
        DataError: If a file cannot be read, holds anything but arrays and lists, or is not of CIFAR's form.
    """
    found = _find(folder)
    assert found is not None, "a source reads what it sees"
    layout, place = found
    classes = _value(folder.path(posixpath.join(place, layout.classes_file)), layout.classes_key, list)
    names = [name.decode("utf-8", "replace") for name in classes if isinstance(name, bytes)]
    splits = tuple(
        _split(
            word, [folder.path(posixpath.join(place, file)) for file in files], layout.labels_key, len(names)
        )
        for word, files in layout.splits.items()
    )
    return Reading(LabelMap.from_names(names), splits)


def _find(folder: Folder) -> tuple[_Layout, str] | None:
    for layout in _LAYOUTS:
        for name in folder.files:
            if posixpath.basename(name) != layout.classes_file:
                continue
            place = posixpath.dirname(name)
            if all(
                posixpath.join(place, file) in folder.files
                for files in layout.splits.values()
                for file in files
            ):
                return layout, place
    return None


def _split(word: str, files: list[Path], labels_key: bytes, classes: int) -> Found:
    labels: list[Any] = []
    names: list[str] = []
    for file in files:
        labels += _value(file, labels_key, list)
        names += [
            posixpath.join(word, name.decode("utf-8", "replace"))
            for name in _value(file, b"filenames", list)
            if isinstance(name, bytes)
        ]
    if len(labels) != len(names) or not all(
        isinstance(label, int) and 0 <= label < classes for label in labels
    ):
        raise DataError(f"{files[0]}: a label from 0 to {classes - 1} and a name are wanted for each image")
    images = PickledImages(tuple(files), len(labels))
    return Found.of_classes(
        word,
        names,
        names,
        np.array(labels, np.int64),
        sizes_hw=images.sizes_hw,
        pictures=CachedPictures(images),
    )


@dataclass(frozen=True)
class PickledImages:
    """Images of 32 x 32 pixels as rows of 3072 values, all reds first.

    Args:
        files: The batches, in order.
        count: How many images they hold.
    """

    files: tuple[Path, ...]
    count: int

    @cached_property
    def sizes_hw(self) -> np.ndarray:
        """int32 `[n, 2]`."""
        return np.full((self.count, 2), _SIDE, np.int32)

    def key(self) -> str:
        """Hash the files' bytes."""
        digest = hashlib.sha256(_VERSION)
        for file in self.files:
            digest.update(hashlib.sha256(_bytes(file)).digest())
        return digest.hexdigest()[:32]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the images of each batch, uint8 `[n, 32, 32, 3]`.

        Raises:
            DataError: If a file is not of this form, or they hold another number of images.
        """
        total = 0
        for file in self.files:
            rows = _value(file, b"data", np.ndarray)
            if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != _VALUES:
                raise DataError(
                    f"{file}: uint8 rows of {_VALUES} values are wanted, got {rows.dtype} {rows.shape}"
                )
            total += len(rows)
            yield rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        if total != self.count:
            raise DataError(f"{self.files[0].parent}: there are {self.count} labels and {total} images")


class _ArraysOnly(pickle.Unpickler):
    """Reads numbers, strings, lists, dicts and arrays; whatever else a pickle calls for is refused."""

    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it calls for {module}.{name}")
        # NumPy 2 warns of the old name, which pickles of 2009 have.
        found: Callable = super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return found


def _value(path: Path, key: bytes, kind: type) -> Any:
    faults = (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        EOFError,
        LookupError,
        AttributeError,
        MemoryError,
    )
    try:
        content = _ArraysOnly(io.BytesIO(_bytes(path)), encoding="bytes").load()
    except (*faults, ImportError, OverflowError) as fault:
        raise DataError(
            f"{path}: the file is not one of CIFAR's: {fault}", "download it again from a place you trust"
        ) from fault
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind):
        raise DataError(f"{path}: {key.decode()!r} as {kind.__name__} is wanted, got {type(value).__name__}")
    return value


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise DataError(f"{path}: the file cannot be read: {fault.strerror or fault}") from fault
