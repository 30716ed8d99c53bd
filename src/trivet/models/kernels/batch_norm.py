"""Batch norm in training mode and the activation after it, as one autograd function."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.kernels.activations import Activation
from trivet.models.kernels.eligible import eligible
from trivet.models.kernels.library import kernels


def can_normalise(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Tell whether `batch_norm` may stand in for this layer's own forward pass on `x`."""
    return (
        norm.training
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
    momentum = 0.0 if norm.momentum is None else norm.momentum
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    running = (norm.running_mean, norm.running_var) if norm.track_running_stats else (None, None)
    return _BatchNorm.apply(x, norm.weight, norm.bias, running, momentum, norm.eps, activation)


class _BatchNorm(torch.autograd.Function):
    """Keeps `x` and three numbers a channel; the activation's gradient is computed again from `x`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor | None, Tensor | None],
        momentum: float,
        eps: float,
        activation: Activation,
    ) -> Tensor:
        library, channels = kernels(), x.shape[1]
        assert library is not None, "can_normalise was asked"
        y = torch.empty_like(x)
        kept = x.new_empty(3, channels)  # mean, scale, 1 / standard deviation
        failed = library.trivet_batch_norm(
            *(activation.kind, activation.slope, x.data_ptr(), y.data_ptr()),
            *(x.numel() // channels, channels, weight.data_ptr(), bias.data_ptr(), eps, momentum),
            *(None if value is None else value.data_ptr() for value in running),
            *(kept.data_ptr(), torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the sums of a batch norm")
        ctx.save_for_backward(x, weight, bias, kept)
        ctx.activation, ctx.eps = activation, eps
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, kept = ctx.saved_tensors
        activation = ctx.activation
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            return (*_differentiable(x, weight, bias, dy, ctx.eps, activation), None, None, None, None)
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
        return dx, dweight, dbias, None, None, None, None


def _differentiable(
    x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor, eps: float, activation: Activation
) -> tuple[Tensor, ...]:
    """Return the gradients by PyTorch's operators, so that they can be differentiated again."""
    y = activation(F.batch_norm(x, None, None, weight, bias, training=True, eps=eps))
    wanted = [tensor for tensor in (x, weight, bias) if tensor.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in (x, weight, bias))
