"""Anchor coverage: how well the anchors of an input size can meet the boxes of a data set."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.anchors import AnyAnchors, SizeHW, level_sizes_hw
from trivet.geometry.boxes import areas, cxcywh_from_xyxy
from trivet.geometry.pixel_anchors import PixelAnchors

# COCO's sizes, here in pixels of the network's input: what an object is to the model.
SIZE_BUCKETS: dict[str, tuple[float, float]] = {
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, float("inf")),
}
_MOST_PAIRS = 1 << 20


@dataclass(frozen=True)
class SizeCoverage:
    """How many boxes of one size there are, and which share of them an anchor meets."""

    boxes: int
    share: float


@dataclass(frozen=True)
class Coverage:
    """How well anchors meet boxes.

    Args:
        boxes: How many boxes were looked at.
        share: Share of them, in 0-1, that some anchor meets with at least the threshold's IoU. The others train
            a single anchor each, which was never meant for them.
        mean_best_iou: Mean over boxes of the best IoU with any anchor.
        by_size: The same share for each of `SIZE_BUCKETS`; 1 where there are no boxes.
    """

    boxes: int
    share: float
    mean_best_iou: float
    by_size: dict[str, SizeCoverage]


def best_iou(spec: AnyAnchors, size_hw: SizeHW, boxes_xyxy: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Return each box's highest IoU with any anchor of the input.

    It is exact and makes no anchors: overlap falls with the distance of the centres, so of the anchors of one
    shape and level only the one in the cell nearest the box's centre can be the best. Anchors in pixels are compared by
    shape alone: their box code takes the centre anywhere within a cell.

    Args:
        spec: The anchors.
        size_hw: Size of the network's input.
        boxes_xyxy: Boxes in pixels of the input.
    """
    sizes_hw = level_sizes_hw(spec, size_hw)
    chunk = max(1, _MOST_PAIRS // (len(sizes_hw) * spec.per_cell))
    best = []
    for part in boxes_xyxy.float().split(chunk):
        x, y, width, height = cxcywh_from_xyxy(part).unbind(-1)
        best_of_levels = torch.zeros_like(x)
        for position, (rows, columns) in enumerate(sizes_hw):
            stride_x, stride_y = size_hw[1] / columns, size_hw[0] / rows
            shapes = part.new_tensor(spec.shapes_at(position, stride_x, stride_y))
            apart_x, apart_y = _offset(x, stride_x, columns), _offset(y, stride_y, rows)
            if isinstance(spec, PixelAnchors):
                apart_x, apart_y = torch.zeros_like(x), torch.zeros_like(y)
            shared_x = _shared_length(apart_x, width, shapes[:, 0])
            shared_y = _shared_length(apart_y, height, shapes[:, 1])
            shared = shared_x * shared_y  # (n, shape)
            union = (width * height)[:, None] + shapes.prod(dim=1) - shared
            best_of_levels = best_of_levels.maximum((shared / union).amax(dim=1))
        best.append(best_of_levels)
    return torch.cat(best)


def _offset(centres: Tensor, stride: float, cells: int) -> Tensor:
    """Return how far each centre is from that of its nearest cell, in pixels."""
    nearest = (centres / stride).floor().clamp(0, cells - 1)
    return (centres - (nearest + 0.5) * stride).abs()


def _shared_length(offset: Tensor, lengths: Tensor, shapes: Tensor) -> Tensor:
    """Return the length that intervals share whose centres are `offset` apart: `(n, shape)`."""
    lengths = lengths[:, None]
    return ((lengths + shapes) / 2 - offset[:, None]).minimum(lengths).minimum(shapes).clamp(min=0)


def measure_coverage(
    spec: AnyAnchors, size_hw: SizeHW, boxes_xyxy: Float[Tensor, "n 4"], *, threshold: float = 0.5
) -> Coverage:
    """Measure which boxes the anchors meet.

    Args:
        spec: The anchors.
        size_hw: Size of the network's input.
        boxes_xyxy: Boxes in pixels of the input, at least one.
        threshold: IoU from which an anchor counts as meeting a box.

    Raises:
        UsageError: If there are no boxes.
    """
    if not len(boxes_xyxy):
        raise UsageError("anchor coverage needs at least one box, got none")
    overlap = best_iou(spec, size_hw, boxes_xyxy)
    met, area = overlap >= threshold, areas(boxes_xyxy)
    by_size = {}
    for name, (least, most) in SIZE_BUCKETS.items():
        inside = met[(area >= least) & (area < most)]
        by_size[name] = SizeCoverage(len(inside), float(inside.float().mean()) if len(inside) else 1.0)
    return Coverage(len(met), float(met.float().mean()), float(overlap.mean()), by_size)
