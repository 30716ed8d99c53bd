"""Batch norm in training mode and the activation after it."""

from typing import TypeGuard

from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.kernels.activations import Activation
from trivet.models.kernels.chain import run_chain
from trivet.models.kernels.eligible import all_plain, eligible
from trivet.models.kernels.library import kernels
from trivet.models.kernels.links import Chain, End


def is_ready(norm: nn.Module, *, training: bool = True) -> TypeGuard[nn.BatchNorm2d]:
    """Tell whether the kernels may do what this layer does: a batch norm in float32.

    In training mode, or in evaluation with running statistics.
    """
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.training == training
        and (training or (norm.running_mean is not None and norm.running_var is not None))
        and norm.weight is not None
        and norm.bias is not None
        and all_plain(norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )


def can_normalise(norm: nn.Module, x: Tensor) -> TypeGuard[nn.BatchNorm2d]:
    """Tell whether `batch_norm` may stand in for this layer's own forward pass on `x`."""
    return (
        is_ready(norm)
        and eligible(x)
        and x.numel() > x.shape[1] == norm.num_features
        and kernels() is not None
    )


def batch_norm(
    norm: nn.BatchNorm2d, x: Float[Tensor, "b c h w"], activation: Activation
) -> Float[Tensor, "b c h w"]:
    """Normalise by the batch's statistics, move the layer's running ones, and activate.

    Args:
        norm: A layer in training mode; see `can_normalise`.
        x: Channels last.
        activation: What follows the norm.
    """
    return run_chain(Chain((), End(norm, activation)), x)
