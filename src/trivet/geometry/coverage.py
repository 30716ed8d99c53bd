"""Anchor coverage: how well the anchors of an input size can meet the boxes of a data set."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, SizeHW
from trivet.geometry.boxes import areas, matched_iou
from trivet.geometry.grid import AnchorGrid

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


def best_iou(spec: AnchorSpec, size_hw: SizeHW, boxes_xyxy: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """Return each box's highest IoU with any anchor of the input.

    It is exact: the best anchor of a shape is the one nearest the box's centre, so one a shape and level is tried.

    Args:
        spec: The anchors.
        size_hw: Size of the network's input.
        boxes_xyxy: Boxes in pixels of the input.
    """
    grid = AnchorGrid.of_input(spec, size_hw)
    anchors_xyxy = grid.anchors_xyxy(boxes_xyxy.device)
    chunk = max(1, _MOST_PAIRS // (len(grid.feature_hw) * spec.per_cell))
    best = [
        matched_iou(part[:, None], anchors_xyxy[grid.nearby(part, 1.0)]).amax(dim=1)
        for part in boxes_xyxy.float().split(chunk)
    ]
    return torch.cat(best)


def measure_coverage(
    spec: AnchorSpec, size_hw: SizeHW, boxes_xyxy: Float[Tensor, "n 4"], *, threshold: float = 0.5
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
