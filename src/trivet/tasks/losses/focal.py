"""Focal loss over all logits of a head, computed in one pass together with its gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from trivet.errors import UsageError
from trivet.models.kernels.focal import can_sum_focal, focal_sum

CACHED = 1 << 16
"""Logits at a time on a CPU: what fits in its cache halves the time."""
LARGE = 1 << 22
"""Logits at a time elsewhere: five maps of so many, instead of all of a level, are there beside the gradient."""
_piece: ContextVar[int | None] = ContextVar("piece", default=None)


@contextmanager
def as_elsewhere() -> Iterator[None]:
    """Take the logits of CPU tensors in pieces as another device would."""
    token = _piece.set(LARGE)
    try:
        yield
    finally:
        _piece.reset(token)


@runtime_checkable
class ClassLoss(Protocol):
    """The loss of one level's class logits."""

    def __call__(
        self, logits: Float[Tensor, "b c h w"], positives: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> Float[Tensor, ""]:
        """Return the sum over all logits; the target is 1 at `positives` (image, channel, row, column) and else 0."""


@dataclass(frozen=True)
class FocalLoss:
    """Focal loss (Lin et al. 2017, section 3.2) with EfficientDet's defaults.

    Logits need not be copied, moved or compared with a tensor of targets: the sum is that of "all negative",
    corrected at the few positives. Computed in float32 or better. Without smoothing it is also what is called the
    legacy variant elsewhere, which differs in rounding only.

    Args:
        alpha: Weight of positives, in 0-1, both excluded; negatives weigh 1 - alpha.
        gamma: Exponent that fades what is already right; at least 1.
        smoothing: Label smoothing in 0-1, applied to the cross entropy and not to the fading factor.
    """

    alpha: float = 0.25
    gamma: float = 1.5
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not self.gamma >= 1 or not 0 <= self.smoothing < 1:
            raise UsageError(
                "a focal loss needs alpha in 0-1 (both excluded), gamma of at least 1 and smoothing in 0-1, "
                f"got alpha={self.alpha}, gamma={self.gamma}, smoothing={self.smoothing}"
            )

    def __call__(
        self,
        logits: Float[Tensor, "b c h w"],
        positives: tuple[Int64[Tensor, " p"], Int64[Tensor, " p"], Int64[Tensor, " p"], Int64[Tensor, " p"]],
    ) -> Float[Tensor, ""]:
        """Return the sum over all logits of a level."""
        total: Tensor = _FocalSum.apply(logits, positives, self.alpha, self.gamma, self.smoothing)
        return total


class _FocalSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        positives: tuple[Tensor, ...],
        alpha: float,
        gamma: float,
        smoothing: float,
    ) -> Tensor:
        slope = torch.empty_like(logits, dtype=torch.promote_types(logits.dtype, torch.float32))
        total = _negative_into(slope, logits, gamma, smoothing).mul_(1 - alpha)
        # A positive logit x is a negative one at -x; what the sum holds for it as a negative goes out again.
        at = logits[positives].to(slope.dtype)
        as_negative, _ = _negative(at, gamma, smoothing)
        as_positive, positive_slope = _negative(-at, gamma, smoothing)
        total += alpha * as_positive.sum() - (1 - alpha) * as_negative.sum()
        slope[positives] = positive_slope * (-alpha / (1 - alpha))
        ctx.save_for_backward(slope)
        ctx.scale, ctx.dtype = 1 - alpha, logits.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * (upstream * ctx.scale)).to(ctx.dtype), None, None, None, None


def _negative_into(slope: Tensor, logits: Tensor, gamma: float, smoothing: float) -> Tensor:
    """Write the gradient of the negatives' loss into `slope` and return the loss's sum."""
    source, target = _in_memory_order(logits), _in_memory_order(slope)
    if can_sum_focal(source, target):
        return focal_sum(source, target, gamma=gamma, smoothing=smoothing)
    sums, size = [], _piece.get() or (CACHED if logits.device.type == "cpu" else LARGE)
    for piece, out in zip(source.split(size), target.split(size), strict=True):
        values, gradient = _negative(piece.to(slope.dtype), gamma, smoothing)
        out.copy_(gradient)
        sums.append(values.sum())
    return torch.stack(sums).sum()


def _negative(logits: Tensor, gamma: float, smoothing: float) -> tuple[Tensor, Tensor]:
    """Return loss and gradient of negatives, without their weight: p^gamma * (softplus(x) - smoothing / 2 * x)."""
    probability = torch.sigmoid(logits)
    fade = _power(probability, gamma)
    loss = F.softplus(logits)
    if smoothing:
        loss.sub_(logits, alpha=smoothing / 2)
    loss.mul_(fade)
    # d/dx = gamma * loss * (1 - p) + fade * (p - smoothing / 2), rearranged to reuse what is in the cache
    slope = fade.sub(loss, alpha=gamma).mul_(probability).add_(loss, alpha=gamma)
    if smoothing:
        slope.sub_(fade, alpha=smoothing / 2)
    return loss, slope


def _power(probability: Tensor, gamma: float) -> Tensor:
    """Return probability^gamma; square roots and products are many times quicker than `pow`."""
    if gamma == 1.5:
        return probability.sqrt().mul_(probability)
    if gamma == 2:
        return probability.square()
    return probability.pow(gamma)


def _in_memory_order(values: Tensor) -> Tensor:
    """Return all values as one axis, without a copy for the two layouts that convolutions have."""
    if values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last):
        return values.permute(0, 2, 3, 1).flatten()
    return values.flatten()
