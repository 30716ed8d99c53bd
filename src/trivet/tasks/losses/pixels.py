"""Losses of a segmenter, one image at a time: what the pixels of one image cost.

A loss sees the pixels that count and no others: those of `IGNORE_LABEL` are taken out before. It is a sum in which
one pixel weighs about 1, so that the losses of images of any size, on any number of processes, add up.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from trivet.errors import UsageError


@runtime_checkable
class PixelLoss(Protocol):
    """What the pixels of one image cost."""

    def __call__(self, logits: Float[Tensor, "classes n"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the sum over `n` pixels, at least one, with labels from 0; differentiable by `logits`."""


@dataclass(frozen=True)
class PixelCrossEntropy:
    """Cross-entropy of the softmax.

    The weighted sum is not divided by the weights of the pixels: an image of rare classes costs more than one of
    common classes, as the weights ask for.

    Args:
        class_weights: A factor for each class; all 1 without.
        smoothing: Label smoothing, 0-1: this share of the target goes to all classes alike (Szegedy et al. 2016).
    """

    class_weights: tuple[float, ...] | None = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_class_weights(self.class_weights)
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"label smoothing is in 0-1, 1 excluded, got {self.smoothing}")

    def __call__(self, logits: Float[Tensor, "classes n"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the sum over pixels."""
        return F.cross_entropy(
            logits[None],
            labels[None],
            weight=_weights_like(logits, self.class_weights),
            label_smoothing=self.smoothing,
            reduction="sum",
        )


@dataclass(frozen=True)
class PixelFocal:
    """Focal loss of the softmax, -(1 - p)^gamma log p (Lin et al. 2017, equation 4, for several classes).

    Args:
        gamma: Exponent that fades what is already right; 0 is the cross-entropy, others are at least 1.
        class_weights: A factor for each class (their alpha); all 1 without.
    """

    gamma: float = 2.0
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_class_weights(self.class_weights)
        if not (self.gamma == 0 or self.gamma >= 1):
            raise UsageError(f"a focal loss needs gamma of at least 1, or 0, got {self.gamma}")

    def __call__(self, logits: Float[Tensor, "classes n"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the sum over pixels."""
        log_probability = -F.cross_entropy(logits[None], labels[None], reduction="none")[0]
        wrong = -torch.expm1(log_probability)
        losses = -(wrong**self.gamma) * log_probability
        weights = _weights_like(logits, self.class_weights)
        return losses.sum() if weights is None else (weights[labels] * losses).sum()


def check_class_weights(class_weights: tuple[float, ...] | None) -> None:
    """Refuse class weights that no loss can use.

    Raises:
        UsageError: If one is negative or not finite, or all are 0.
    """
    if class_weights is None:
        return
    weights = torch.tensor(class_weights)
    if not bool(weights.isfinite().all()) or bool((weights < 0).any()) or not bool((weights > 0).any()):
        raise UsageError(
            f"class weights are finite, not negative and not all 0, got {class_weights}",
            "`median_frequency_weights` makes them from the pixels of each class",
        )


def _weights_like(logits: Tensor, class_weights: tuple[float, ...] | None) -> Tensor | None:
    return None if class_weights is None else logits.new_tensor(class_weights)
