"""One look at every mask and image of a split: which labels it holds, and where its edges are."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from trivet.data.dataset import Dataset
from trivet.data.images import read_thumbnail
from trivet.data.mask_check import label_counts
from trivet.errors import DataError

SIDE = 64
"""Edges are kept on a grid of this many cells a side, whatever the image's proportions."""
MOST_EDGES = 1500
"""Of larger splits this many images, evenly spread, are looked at for edges."""


@dataclass(frozen=True)
class MaskSurvey:
    """What a split's masks hold.

    Args:
        counts: int64 `[n, 256]`, pixels of each label; all 0 for a mask that cannot be used.
        faults: What is wrong with those: position -> message.
        looked_at: int64 `[k]`, the positions whose edges are here.
        image_edges: float32 `[k, SIDE * SIDE]`, how much colour changes, of mean 0 and length 1.
        mask_edges: float32 `[k, SIDE * SIDE]`, where labels change, likewise.
    """

    counts: np.ndarray
    faults: dict[int, str]
    looked_at: np.ndarray
    image_edges: np.ndarray
    mask_edges: np.ndarray


def survey_masks(
    dataset: Dataset, *, with_images: bool = True, progress: Callable[[int], None] | None = None
) -> MaskSurvey:
    """Look at every mask once, and at a small copy of its image.

    Args:
        dataset: A split with masks.
        with_images: Whether image files are there to be read.
        progress: Called with the number of masks done, after each.
    """
    assert dataset.masks is not None, "a survey of masks needs masks"
    counts = np.zeros((len(dataset), 256), np.int64)
    faults: dict[int, str] = {}
    kept: list[int] = []
    edges: list[tuple[np.ndarray, np.ndarray]] = []
    step = -(-len(dataset) // MOST_EDGES) or 1
    for i in range(len(dataset)):
        try:
            mask = dataset.masks[i]
            counts[i] = label_counts(mask)
            if with_images and dataset.pictures is None and i % step == 0:
                edges.append((_image_edges(read_thumbnail(dataset.path(i), SIDE)), _mask_edges(mask)))
                kept.append(i)
        except DataError as fault:
            faults[i] = fault.message
        if progress is not None:
            progress(i + 1)
    none = np.zeros((0, SIDE * SIDE), np.float32)
    of_images, of_masks = (
        np.stack(part) if part else none for part in (list(zip(*edges, strict=True)) or [[], []])
    )
    return MaskSurvey(counts, faults, np.array(kept, np.int64), of_images, of_masks)


def _image_edges(thumbnail: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2LAB).astype(np.float32)
    across = np.abs(np.diff(lab, axis=1, append=lab[:, -1:])).sum(axis=2)
    down = np.abs(np.diff(lab, axis=0, append=lab[-1:])).sum(axis=2)
    # The square root: one glaring edge must not outweigh all others.
    return _unit(np.sqrt(np.hypot(across, down)))


def _mask_edges(mask: np.ndarray) -> np.ndarray:
    changes = np.zeros(mask.shape, bool)
    changes[:, :-1] |= mask[:, 1:] != mask[:, :-1]
    changes[:-1] |= mask[1:] != mask[:-1]
    shares = cv2.resize(changes.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    # A line through a cell fills about one eighth of it at usual sizes: that counts as an edge in full.
    return _unit(np.minimum(8 * shares, 1))


def _unit(values: np.ndarray) -> np.ndarray:
    flat = values.ravel().astype(np.float32)
    flat = flat - flat.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6), np.float32)
