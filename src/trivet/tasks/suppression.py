"""How overlapping detections of one image are thinned out: names -> what does it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from trivet.errors import look_up
from trivet.geometry.suppress import hard_nms, soft_nms
from trivet.structures import Detections


@runtime_checkable
class Suppressor(Protocol):
    """Thins out the detections of one image."""

    def __call__(self, found: Detections, *, score_threshold: float, most: int) -> Detections:
        """Return at most so many detections with scores above the threshold, best first."""


@dataclass(frozen=True)
class HardNms:
    """Drop every box that a better one of its class overlaps.

    Args:
        iou: Overlap above which the worse box goes, in 0-1.
        across_classes: Let boxes of different classes suppress each other too.
    """

    iou: float = 0.5
    across_classes: bool = False

    def __call__(self, found: Detections, *, score_threshold: float, most: int) -> Detections:
        """Return at most so many detections with scores above the threshold, best first."""
        groups = _groups(found, self.across_classes)
        keep = hard_nms(found.boxes_xyxy, found.scores, groups, iou=self.iou, most=most)
        keep = keep[found.scores[keep] > score_threshold]
        return Detections(found.boxes_xyxy[keep], found.scores[keep], found.labels[keep])


@dataclass(frozen=True)
class SoftNms:
    """Fade boxes that a better one of their class overlaps (gaussian Soft-NMS; EfficientDet's published scores).

    Args:
        sigma: Width of the gaussian.
        across_classes: Let boxes of different classes fade each other too.
    """

    sigma: float = 0.5
    across_classes: bool = False

    def __call__(self, found: Detections, *, score_threshold: float, most: int) -> Detections:
        """Return at most so many detections with scores above the threshold, best first."""
        keep, scores = soft_nms(
            found.boxes_xyxy,
            found.scores,
            _groups(found, self.across_classes),
            sigma=self.sigma,
            score_threshold=score_threshold,
            most=most,
        )
        return Detections(found.boxes_xyxy[keep], scores, found.labels[keep])


SUPPRESSORS: dict[str, type[Suppressor]] = {"hard": HardNms, "soft": SoftNms}


def build_suppressor(suppressor: str | Suppressor) -> Suppressor:
    """Return the suppressor of this name with its defaults, or the object itself.

    Raises:
        UsageError: If there is no suppressor of this name.
    """
    if not isinstance(suppressor, str):
        return suppressor
    return look_up("suppressor", suppressor, SUPPRESSORS)()


def _groups(found: Detections, across_classes: bool) -> Tensor:
    return torch.zeros_like(found.labels) if across_classes else found.labels
