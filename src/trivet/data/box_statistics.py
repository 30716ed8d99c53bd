"""Numbers about the boxes of a data set, in the pixels of the network's input."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch

from trivet.data.dataset import Dataset, Splits
from trivet.geometry.anchors import AnyAnchors
from trivet.geometry.coverage import SIZE_BUCKETS, Coverage, measure_coverage

SizeHW = tuple[int, int]
_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


def boxes_at(dataset: Dataset, size_hw: SizeHW) -> np.ndarray:
    """Return the boxes as float32 `[m, 4]` after scaling every image to fit into `size_hw`, crowd left out.

    The images are scaled as letterboxing does, but not moved. Boxes of images whose size is not known are
    left out.
    """
    truth = dataset.truth
    sizes = truth.sizes_hw[truth.image_index()].astype(np.float32)
    kept = np.all(sizes > 0, axis=1) & ~truth.crowd
    scale = np.min(np.array(size_hw, np.float32) / sizes[kept], axis=1, keepdims=True)
    return truth.boxes_xyxy[kept] * scale


def sides_of(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Return the boxes' sizes: float32 `[m]`, the square root of the area."""
    return np.sqrt(np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1))


def class_counts(dataset: Dataset) -> np.ndarray:
    """Return int64 `[classes]`: how many boxes of each class there are, crowd left out, or how many images of it."""
    if dataset.class_labels is not None:
        return np.bincount(dataset.class_labels, minlength=len(dataset.labels))
    return np.bincount(dataset.truth.labels[~dataset.truth.crowd], minlength=len(dataset.labels))


def coverage_of(dataset: Dataset, size_hw: SizeHW, anchors: AnyAnchors) -> Coverage | None:
    """Measure which boxes the anchors meet; `None` where there is no box."""
    boxes = boxes_at(dataset, size_hw)
    return measure_coverage(anchors, size_hw, torch.from_numpy(boxes)) if len(boxes) else None


def describe(splits: Splits, size_hw: SizeHW, anchors: AnyAnchors) -> dict[str, object]:
    """Return what there is to know of a detection set as plain data, the form of `audit --json`."""
    coverage = coverage_of(splits.train, size_hw, anchors)
    sides = sides_of(boxes_at(splits.train, size_hw))
    return {
        "format": splits.format,
        "splits": {split.split: _split(split) for split in splits.given},
        "classes": _classes(splits),
        "train_boxes": {
            "size_hw": list(size_hw),
            "side_px": quantiles(sides),
            "by_size": _by_size(sides),
            "anchor_coverage": None if coverage is None else asdict(coverage),
        },
        "made": splits.made,
        "notes": list(splits.notes),
    }


def quantiles(values: np.ndarray) -> dict[str, float] | None:
    """Return smallest, 5 %, median, 95 % and largest; `None` of nothing."""
    if not len(values):
        return None
    return {name: round(float(np.quantile(values, at)), 2) for name, at in _QUANTILES.items()}


def _split(dataset: Dataset) -> dict[str, object]:
    counts = np.diff(dataset.truth.offsets)
    known = dataset.truth.sizes_hw[np.all(dataset.truth.sizes_hw > 0, axis=1)]
    return {
        "images": len(dataset),
        "boxes": len(dataset.truth.labels),
        "crowd": int(dataset.truth.crowd.sum()),
        "images_without_boxes": int((counts == 0).sum()),
        "boxes_an_image": quantiles(counts),
        "height": quantiles(known[:, 0]),
        "width": quantiles(known[:, 1]),
    }


def describe_classes(splits: Splits) -> dict[str, object]:
    """Return what there is to know of a set of images with a class each, as plain data."""
    return {
        "format": splits.format,
        "task": splits.task,
        "splits": {split.split: _images(split) for split in splits.given},
        "classes": _classes(splits, counted="images"),
        "made": splits.made,
        "notes": list(splits.notes),
    }


def _images(dataset: Dataset) -> dict[str, object]:
    known = dataset.truth.sizes_hw[np.all(dataset.truth.sizes_hw > 0, axis=1)]
    return {
        "images": len(dataset),
        "height": quantiles(known[:, 0]),
        "width": quantiles(known[:, 1]),
    }


def _classes(splits: Splits, *, counted: str = "boxes") -> list[Mapping[str, object]]:
    counts = {split.split: class_counts(split) for split in splits.given}
    return [
        {**row, counted: {split: int(of_class[label]) for split, of_class in counts.items()}}
        for label, row in enumerate(splits.labels.to_json())
    ]


def _by_size(sides: np.ndarray) -> dict[str, int]:
    area = sides.astype(np.float64) ** 2
    return {name: int(((area >= low) & (area < high)).sum()) for name, (low, high) in SIZE_BUCKETS.items()}
