"""Batch norm, its activation and the depthwise convolution that reads them, as one autograd function.

What lies between the norm and the convolution is never stored: the convolution normalises and activates the rows it
reads, and so does its gradient. In the inverted residual blocks of MobileNet and EfficientNet that map is the largest.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.kernels.activations import Activation
from trivet.models.kernels.batch_norm import Running, address, running_statistics, take_statistics
from trivet.models.kernels.depthwise import Shape, empty_map
from trivet.models.kernels.library import kernels


def norm_depthwise(
    norm: nn.BatchNorm2d, activation: Activation, weight: Tensor, shape: Shape, x: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c oh ow"]:
    """Normalise `x` by the batch's statistics, move the layer's running ones, activate, and convolve.

    Args:
        norm: A layer in training mode; see `can_normalise`.
        activation: What follows the norm.
        weight: The convolution's.
        shape: The convolution's sides; see `shape_of`.
        x: Channels last.
    """
    return _NormDepthwise.apply(
        x, norm.weight, norm.bias, weight, running_statistics(norm), norm.eps, activation, shape
    )


class _NormDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        weight: Tensor,
        running: Running,
        eps: float,
        activation: Activation,
        shape: Shape,
    ) -> Tensor:
        library = kernels()
        assert library is not None, "can_normalise was asked"
        kept = take_statistics(x, scale, shift, running, eps, activation, None)
        y = empty_map(x, shape.channels, shape.out_height, shape.out_width)
        failed = library.trivet_depthwise(
            *(shape.as_longs(), x.data_ptr(), weight.data_ptr(), y.data_ptr()),
            *(activation.kind, activation.slope, kept.data_ptr(), shift.data_ptr(), torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the rows of a depthwise convolution")
        ctx.save_for_backward(x, scale, shift, weight, kept)
        ctx.eps, ctx.activation, ctx.shape = eps, activation, shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, weight, kept = ctx.saved_tensors
        shape, activation, channels = ctx.shape, ctx.activation, x.shape[1]
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            inputs = (x, scale, shift, weight)
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            between = activation(F.batch_norm(x, None, None, scale, shift, training=True, eps=ctx.eps))
            y = shape.convolve(between, weight)
            found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
            return *(next(found) if tensor.requires_grad else None for tensor in inputs), *(None,) * 4
        library = kernels()
        assert library is not None, "the forward pass had it"
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)
        dscale, dshift = torch.empty_like(scale), torch.empty_like(shift)
        sums = torch.empty(2, channels, dtype=torch.float64)
        failed = library.trivet_depthwise_backward(
            *(shape.as_longs(), x.data_ptr(), weight.data_ptr(), dy.data_ptr(), dx.data_ptr()),
            *(address(dweight if ctx.needs_input_grad[3] else None), activation.kind, activation.slope),
            *(kept.data_ptr(), shift.data_ptr(), sums.data_ptr(), torch.get_num_threads()),
        ) or library.trivet_batch_norm_finish(
            *(x.data_ptr(), dx.data_ptr(), x.numel() // channels, channels, kept.data_ptr()),
            *(
                shift.data_ptr(),
                sums.data_ptr(),
                dscale.data_ptr(),
                dshift.data_ptr(),
                torch.get_num_threads(),
            ),
        )
        if failed:
            raise MemoryError("no memory for the gradient of a batch norm and depthwise convolution")
        return dx, dscale, dshift, dweight if ctx.needs_input_grad[3] else None, *(None,) * 4
