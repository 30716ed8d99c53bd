"""Losses of the boxes of positive anchors."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trivet.geometry.box_code import decode, encode
from trivet.geometry.boxes import matched_ciou, matched_giou

# A box at most 62.5 times its anchor: beyond, exp() of an untrained head overflows.
_MOST_LOG = math.log(1000 / 16)


@runtime_checkable
class BoxLoss(Protocol):
    """The loss of the positives' boxes; `weight` is what it is multiplied by beside the class loss."""

    @property
    def weight(self) -> float:
        """The usual factor beside a focal loss."""

    def __call__(
        self,
        box_deltas: Float[Tensor, "p 4"],
        anchors_xyxy: Float[Tensor, "p 4"],
        boxes_xyxy: Float[Tensor, "p 4"],
    ) -> Float[Tensor, ""]:
        """Return the sum over anchors, one anchor counting about 1."""


@dataclass(frozen=True)
class HuberLoss:
    """Huber loss of the box code, the mean of its four numbers (EfficientDet's choice).

    Args:
        delta: Where squares turn into lines.
        skip_zero_targets: Leave out every number whose target is exactly 0, as the reference implementations do:
            an object that sits exactly where its anchor does then never learns to stay there. For comparisons.
        weight: Factor beside the class loss.
    """

    delta: float = 0.1
    skip_zero_targets: bool = False
    weight: float = 50.0

    def __call__(
        self,
        box_deltas: Float[Tensor, "p 4"],
        anchors_xyxy: Float[Tensor, "p 4"],
        boxes_xyxy: Float[Tensor, "p 4"],
    ) -> Float[Tensor, ""]:
        """Return the sum over anchors."""
        targets = encode(boxes_xyxy, anchors_xyxy)
        losses = F.huber_loss(box_deltas, targets, delta=self.delta, reduction="none")
        if self.skip_zero_targets:
            losses = losses * (targets != 0)
        return losses.sum() / 4


@dataclass(frozen=True)
class GiouLoss:
    """1 - GIoU of the decoded box (Rezatofighi et al. 2019)."""

    weight: float = 2.0

    def __call__(
        self,
        box_deltas: Float[Tensor, "p 4"],
        anchors_xyxy: Float[Tensor, "p 4"],
        boxes_xyxy: Float[Tensor, "p 4"],
    ) -> Float[Tensor, ""]:
        """Return the sum over anchors."""
        return (1 - matched_giou(decode(box_deltas, anchors_xyxy, most_log=_MOST_LOG), boxes_xyxy)).sum()


@dataclass(frozen=True)
class CiouLoss:
    """1 - CIoU of the decoded box (Zheng et al. 2020)."""

    weight: float = 2.0

    def __call__(
        self,
        box_deltas: Float[Tensor, "p 4"],
        anchors_xyxy: Float[Tensor, "p 4"],
        boxes_xyxy: Float[Tensor, "p 4"],
    ) -> Float[Tensor, ""]:
        """Return the sum over anchors."""
        return (1 - matched_ciou(decode(box_deltas, anchors_xyxy, most_log=_MOST_LOG), boxes_xyxy)).sum()
