"""What tells images apart or shows them to be the same: digests of their bytes, thumbnails, hashes of their looks."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from trivet.data.dataset import Pictures
from trivet.data.images import read_thumbnail
from trivet.errors import DataError

SIDE = 32
_CELLS = 9  # 8 differences a row and a column


@dataclass(frozen=True)
class Fingerprints:
    """One row an image; an image that cannot be decoded has an empty thumbnail and is in `faults`.

    Args:
        digests: uint8 `[n, 16]`, of the file's bytes, or of the pixels where images are not files of their own.
        thumbnails: uint8 `[n, 32, 32, 3]`, squeezed to a square.
        hashes: uint8 `[n, 16]`: 128 bits, whether a pixel is brighter than its left and its upper neighbour.
        faults: What could not be decoded: position -> message.
    """

    digests: np.ndarray
    thumbnails: np.ndarray
    hashes: np.ndarray
    faults: dict[int, str]

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def gray(self) -> np.ndarray:
        """Bool `[n]`: whether an image has no colour."""
        span = self.thumbnails.max(axis=3).astype(int) - self.thumbnails.min(axis=3)
        readable = np.ones(len(self), bool)
        readable[list(self.faults)] = False
        return (span.reshape(len(self), -1).max(axis=1, initial=0) <= 1) & readable


def fingerprint(paths: Iterable[Path], *, progress: Callable[[int], None] | None = None) -> Fingerprints:
    """Read every image once, JPEG at an eighth of its size where that is enough.

    Args:
        paths: The image files.
        progress: Called with the number of images done, after each.
    """
    digests, thumbnails, faults = [], [], {}
    for position, path in enumerate(paths):
        try:
            digests.append(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
            thumbnails.append(read_thumbnail(path, SIDE))
        except (OSError, DataError) as fault:
            digests[position:] = [position.to_bytes(16, "big")]
            thumbnails.append(np.zeros((SIDE, SIDE, 3), np.uint8))
            faults[position] = str(fault)
        if progress is not None:
            progress(position + 1)
    return _gathered(digests, thumbnails, faults)


def fingerprint_pictures(
    pictures: Pictures, *, progress: Callable[[int], None] | None = None
) -> Fingerprints:
    """Look at every image of a split whose images are not files of their own, such as CIFAR's.

    Args:
        pictures: The images.
        progress: Called with the number of images done, after each.

    Raises:
        DataError: If they cannot be decoded.
    """
    digests, thumbnails = [], []
    for position in range(len(pictures)):
        image = pictures[position]
        size = str(image.shape).encode()
        digests.append(hashlib.blake2b(size + image.tobytes(), digest_size=16).digest())
        thumbnails.append(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        if progress is not None:
            progress(position + 1)
    return _gathered(digests, thumbnails, {})


def _gathered(digests: list[bytes], thumbnails: list[np.ndarray], faults: dict[int, str]) -> Fingerprints:
    joined = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
    small = np.stack(thumbnails) if thumbnails else np.zeros((0, SIDE, SIDE, 3), np.uint8)
    return Fingerprints(joined, small, _hashes(small), faults)


def _hashes(thumbnails: np.ndarray) -> np.ndarray:
    bits = np.zeros((len(thumbnails), 128), bool)
    for row, thumbnail in enumerate(thumbnails):
        gray = cv2.resize(
            cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA
        )
        across, down = gray[:-1, 1:] > gray[:-1, :-1], gray[1:, :-1] > gray[:-1, :-1]
        bits[row] = np.concatenate([across.ravel(), down.ravel()])
    return np.packbits(bits, axis=1)
