"""Focal loss of negatives and its gradient, computed in one reading of the logits."""

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.models.kernels.eligible import readable
from trivet.models.kernels.library import kernels


def can_sum_focal(logits: Tensor, slope: Tensor) -> bool:
    """Tell whether `focal_sum` may read and write these: float32 on the CPU, in one piece of memory each."""
    return (
        logits.is_contiguous() and slope.is_contiguous() and readable(logits, slope) and kernels() is not None
    )


def focal_sum(
    logits: Float[Tensor, " n"], slope: Float[Tensor, " n"], *, gamma: float, smoothing: float
) -> Float[Tensor, ""]:
    """Return the sum of `p^gamma * (softplus(x) - smoothing / 2 * x)`, `p = sigmoid(x)`; see `can_sum_focal`.

    Args:
        logits: `x`.
        slope: Receives the gradient of each logit.
        gamma: The exponent.
        smoothing: Label smoothing, 0-1.
    """
    library, total = kernels(), logits.new_empty((), dtype=torch.float64)
    assert library is not None, "can_sum_focal was asked"
    failed = library.trivet_focal(
        *(logits.data_ptr(), slope.data_ptr(), logits.numel(), gamma, smoothing, total.data_ptr()),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError("no memory for the sums of a focal loss")
    return total.to(logits.dtype)
