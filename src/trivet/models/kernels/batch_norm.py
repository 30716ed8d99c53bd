"""Batch norm in training mode and the activation after it, as one autograd function."""

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.kernels.activations import Activation
from trivet.models.kernels.eligible import eligible
from trivet.models.kernels.library import kernels


def can_normalise(norm: nn.Module, x: Tensor) -> TypeGuard[nn.BatchNorm2d]:
    """Tell whether `batch_norm` may stand in for this layer's own forward pass on `x`."""
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.training
        and norm.weight is not None
        and norm.bias is not None
        and eligible(x, norm.weight, norm.bias, norm.running_mean, norm.running_var)
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
    return _BatchNorm.apply(x, norm.weight, norm.bias, running_statistics(norm), norm.eps, activation)


@dataclass(frozen=True)
class Running:
    """A layer's running statistics, where it keeps them, and the share of the new batch in them."""

    mean: Tensor | None
    var: Tensor | None
    momentum: float


def running_statistics(norm: nn.BatchNorm2d) -> Running:
    """Count one more batch and return what it must move."""
    momentum = 0.0 if norm.momentum is None else norm.momentum
    if not norm.track_running_stats:
        return Running(None, None, momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    return Running(norm.running_mean, norm.running_var, momentum)


def take_statistics(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running: Running,
    eps: float,
    activation: Activation,
    y: Tensor | None,
) -> Tensor:
    """Take the batch's statistics, move the running ones, and write the normalised and activated `x` to `y` if given.

    Returns:
        Mean, scale and 1 / standard deviation of each channel, `[3, c]`.
    """
    library, channels = kernels(), x.shape[1]
    assert library is not None, "can_normalise was asked"
    kept = x.new_empty(3, channels)
    failed = library.trivet_batch_norm(
        *(activation.kind, activation.slope, x.data_ptr(), address(y), x.numel() // channels, channels),
        *(weight.data_ptr(), bias.data_ptr(), eps, running.momentum),
        *(address(running.mean), address(running.var), kept.data_ptr(), torch.get_num_threads()),
    )
    if failed:
        raise MemoryError("no memory for the sums of a batch norm")
    return kept


def address(tensor: Tensor | None) -> int | None:
    """Return where a tensor lies, for C."""
    return None if tensor is None else tensor.data_ptr()


class _BatchNorm(torch.autograd.Function):
    """Keeps `x` and three numbers a channel; the activation's gradient is computed again from `x`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: Running,
        eps: float,
        activation: Activation,
    ) -> Tensor:
        y = torch.empty_like(x)
        kept = take_statistics(x, weight, bias, running, eps, activation, y)
        ctx.save_for_backward(x, weight, bias, kept)
        ctx.activation, ctx.eps = activation, eps
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, kept = ctx.saved_tensors
        activation = ctx.activation
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            return (*_differentiable(x, weight, bias, dy, ctx.eps, activation), None, None, None)
        library, channels = kernels(), x.shape[1]
        assert library is not None, "the forward pass had it"
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
        failed = library.trivet_batch_norm_backward(
            *(activation.kind, activation.slope, x.data_ptr(), dy.data_ptr(), dx.data_ptr()),
            *(x.numel() // channels, channels, kept.data_ptr(), bias.data_ptr()),
            *(dweight.data_ptr(), dbias.data_ptr(), torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the sums of a batch norm's gradient")
        return dx, dweight, dbias, None, None, None


def _differentiable(
    x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor, eps: float, activation: Activation
) -> tuple[Tensor | None, ...]:
    """Return the gradients by PyTorch's operators, so that they can be differentiated again."""
    y = activation(F.batch_norm(x, None, None, weight, bias, training=True, eps=eps))
    wanted = [tensor for tensor in (x, weight, bias) if tensor.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in (x, weight, bias))
