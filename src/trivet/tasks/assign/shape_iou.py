"""Assignment by shape: the cell that holds an object's centre trains, with the anchors shaped like the object."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.boxes import cxcywh_from_xyxy, reach_into
from trivet.geometry.grid import AnchorGrid
from trivet.tasks.assign.assignment import Assignment, JoinedTruth, best_of_each


@dataclass(frozen=True)
class ShapeIou:
    """An object's best anchor trains, and every other one shaped enough like it, each in the cell of its centre.

    This is YOLOv4's way (darknet's `iou_thresh`): anchor and object are laid centre on centre, so that the IoU is one of
    widths and heights alone, and the best is chosen among the anchors of all levels. Where two objects want one
    anchor it learns the box of the one it fits better (darknet adds both gradients, which pull it between them), and
    the labels of both, as in darknet.

    Args:
        threshold: IoU of the shapes, in 0-1, above which an anchor trains beside the best one.

    Raises:
        UsageError: If the threshold is out of range.
    """

    threshold: float = 0.213

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UsageError(f"anchors of like shape need a threshold in (0, 1], got {self.threshold}")

    def __call__(self, truth: JoinedTruth, grid: AnchorGrid) -> Assignment:
        """Return the positives of a batch; objects without area inside the input are left out."""
        seen = reach_into(truth.boxes_xyxy, grid.size_hw).nonzero()[:, 0]
        boxes_xyxy, labels, image = truth.boxes_xyxy[seen], truth.labels[seen], truth.image[seen]
        overlap = _shape_iou(boxes_xyxy, grid)  # (t, levels, slots)
        positive = (overlap > self.threshold) | (overlap == overlap.amax(dim=(1, 2), keepdim=True))
        rows, level, slot = positive.nonzero().unbind(1)
        anchors = image[rows] * grid.count + _positions(boxes_xyxy, grid)[rows, level] + slot
        winners = best_of_each(anchors, overlap[rows, level, slot])
        class_anchors, class_labels = torch.stack([anchors, labels[rows]]).unique(dim=1).contiguous()
        return Assignment(anchors[winners], boxes_xyxy[rows[winners]], class_anchors, class_labels)


def _shape_iou(boxes_xyxy: Tensor, grid: AnchorGrid) -> Tensor:
    """Return IoU `[t, levels, slots]` of boxes and anchors laid centre on centre."""
    strides = [grid.strides_yx(level) for level in range(len(grid.feature_hw))]
    shapes = [grid.spec.shapes_at(level, x, y) for level, (y, x) in enumerate(strides)]
    anchors_wh = boxes_xyxy.new_tensor(shapes)  # (levels, slots, 2)
    boxes_wh = cxcywh_from_xyxy(boxes_xyxy)[:, None, None, 2:]
    shared = torch.minimum(boxes_wh, anchors_wh).prod(dim=-1)
    return shared / (boxes_wh.prod(dim=-1) + anchors_wh.prod(dim=-1) - shared)


def _positions(boxes_xyxy: Tensor, grid: AnchorGrid) -> Tensor:
    """Return int64 `[t, levels]`: the first anchor, among an image's, of the cell that holds each box's centre."""
    x, y = cxcywh_from_xyxy(boxes_xyxy)[:, :2].unbind(1)
    columns = []
    for level, (height, width) in enumerate(grid.feature_hw):
        stride_y, stride_x = grid.strides_yx(level)
        column = (x / stride_x).floor().long().clamp(0, width - 1)
        row = (y / stride_y).floor().long().clamp(0, height - 1)
        columns.append(grid.starts[level] + (row * width + column) * grid.spec.per_cell)
    return torch.stack(columns, dim=1)
