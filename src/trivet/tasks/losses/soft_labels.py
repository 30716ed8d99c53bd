"""Losses of a classifier, whose images may be mixtures of two (MixUp, CutMix)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError
from trivet.structures import ClassTargets


@runtime_checkable
class ImageLoss(Protocol):
    """What each image of a batch costs."""

    def __call__(self, logits: Float[Tensor, "b classes"], targets: ClassTargets) -> Float[Tensor, " b"]:
        """Return each image's loss, differentiable by `logits`; the labels are in range."""


@dataclass(frozen=True)
class SoftCrossEntropy:
    """Cross-entropy of the softmax with both labels of a mixed image, each with its share.

    The loss is linear in the target, so that this is exactly the cross-entropy against the mixed, smoothed target.

    Args:
        smoothing: Label smoothing, 0-1: this share of the target goes to all classes alike (Szegedy et al. 2016).
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"label smoothing is in 0-1, 1 excluded, got {self.smoothing}")

    def __call__(self, logits: Float[Tensor, "b classes"], targets: ClassTargets) -> Float[Tensor, " b"]:
        """Return each image's loss."""
        one, other = (
            F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
            for labels in (targets.labels, targets.other_labels)
        )
        return torch.lerp(one, other, targets.other_share.to(one.dtype))
