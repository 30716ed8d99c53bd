"""Assignment as EfficientDet's reference implementations do it, faults included; for comparisons with them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.grid import AnchorGrid
from trivet.tasks.assign.assignment import Assignment, JoinedTruth

_MOST_PAIRS = 1 << 23  # compared at once: 32 MB a temporary


@dataclass(frozen=True)
class ArgmaxIou:
    """Each anchor takes its best object if they overlap enough; then each object takes its best anchor.

    Where two objects want the same best anchor the first gets it and the other may train nowhere; objects
    without any overlap still take an anchor, an arbitrary one. `FairIou` does neither.

    Args:
        threshold: Least IoU, in 0-1, for an anchor to be positive.
    """

    threshold: float = 0.5

    def __call__(self, truth: JoinedTruth, grid: AnchorGrid) -> Assignment:
        """Return the positives of a batch."""
        anchors_xyxy = grid.anchors_xyxy(truth.boxes_xyxy.device)
        anchors, objects = [truth.image[:0]], [truth.image[:0]]
        for image in range(truth.images):
            rows = (truth.image == image).nonzero()[:, 0]
            if len(rows):
                taken = self._best_object(truth.boxes_xyxy[rows], anchors_xyxy)
                positive = (taken >= 0).nonzero()[:, 0]
                anchors.append(positive + image * grid.count)
                objects.append(rows[taken[positive]])
        anchor, chosen = torch.cat(anchors), torch.cat(objects)
        return Assignment(anchor, truth.boxes_xyxy[chosen], anchor, truth.labels[chosen])

    def _best_object(self, boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
        """Return for each anchor the row of its object, or -1."""
        best = anchors_xyxy.new_full((len(anchors_xyxy),), -1.0)
        taken = torch.full_like(best, -1, dtype=torch.int64)
        forced = []
        rows = torch.arange(len(boxes_xyxy), device=best.device)
        for part in rows.split(max(1, _MOST_PAIRS // len(anchors_xyxy))):
            overlap = pairwise_iou(boxes_xyxy[part], anchors_xyxy)
            value, row = overlap.max(dim=0)
            better = value > best  # not >=: the first object wins a tie
            best, taken = torch.where(better, value, best), torch.where(better, part[row], taken)
            forced.append(overlap.argmax(dim=1))
        taken[best < self.threshold] = -1
        return taken.scatter_reduce(0, torch.cat(forced), rows, "amin", include_self=False)
