"""The facts of a data set that the automatic choices rest on."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trivet.structures import LabelMap, TruthTable


@dataclass(frozen=True)
class Fingerprint:
    """A data set in a few numbers.

    Args:
        images: Training images.
        boxes: Training boxes, crowd regions left out.
        classes: Classes.
        median_hw: Median height and width of the images, pixels.
        small_side: The typical side (square root of the area) of the classes with the smallest objects, as a
            share of the image's longer side, 0-1: the tenth percentile of the classes' medians; 0 without boxes.
        crowded: Boxes in the image at the 95th percentile.
        rarest: Boxes of the rarest class.
    """

    images: int
    boxes: int
    classes: int
    median_hw: tuple[int, int]
    small_side: float
    crowded: int
    rarest: int


def fingerprint(truth: TruthTable, labels: LabelMap) -> Fingerprint:
    """Sum up the training truth."""
    kept = ~truth.crowd
    sizes = truth.sizes_hw[truth.sizes_hw.min(axis=1) > 0] if len(truth) else truth.sizes_hw
    median = tuple(int(v) for v in np.median(sizes, axis=0)) if len(sizes) else (480, 640)
    index = truth.image_index()[kept]
    longer = np.maximum(truth.sizes_hw.max(axis=1), 1)[index]
    wh = (truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2])[kept]
    sides = np.sqrt(np.clip(wh.prod(axis=1), 0, None)) / longer
    labels_kept = truth.labels[kept]
    medians = [float(np.median(sides[labels_kept == label])) for label in np.unique(labels_kept)]
    counts = np.bincount(truth.labels[kept], minlength=len(labels))
    per_image = np.bincount(index, minlength=len(truth)) if len(truth) else np.zeros(1)
    return Fingerprint(
        images=len(truth),
        boxes=int(kept.sum()),
        classes=len(labels),
        median_hw=(median[0], median[1]),
        small_side=float(np.quantile(medians, 0.1, method="lower")) if len(sides) else 0.0,
        crowded=int(np.quantile(per_image, 0.95)),
        rarest=int(counts.min()),
    )


def boxes_at_input(truth: TruthTable, size_hw: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """Return widths and heights of the boxes (no crowds) as the letterboxed network input shows them, in pixels."""
    height, width = size_hw
    scale = (np.asarray([height, width]) / np.maximum(truth.sizes_hw, 1)).min(axis=1)[truth.image_index()]
    wh = (truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]) * scale[:, None]
    return torch.from_numpy(wh[~truth.crowd & (wh.min(axis=1) > 0)].astype(np.float32))
