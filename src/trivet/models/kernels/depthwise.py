"""Depthwise convolution as an autograd function: padded without a copy, in the channels-last layout."""

import ctypes
from dataclasses import astuple, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.kernels.batch_norm import address
from trivet.models.kernels.eligible import eligible
from trivet.models.kernels.library import kernels

PLAIN = -1
"""In place of an activation's number: the convolution reads its input as it is."""


@dataclass(frozen=True)
class Shape:
    """The sides of one depthwise convolution, in the order of `depthwise.c`."""

    images: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    kernel: int
    stride: int
    top: int
    left: int

    def as_longs(self) -> ctypes.Array:
        """Return the sides as C takes them."""
        return (ctypes.c_long * 10)(*astuple(self))

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution by PyTorch's operators."""
        bottom, right = (
            max(0, (out - 1) * self.stride + self.kernel - side - before)
            for out, side, before in (
                (self.out_height, self.height, self.top),
                (self.out_width, self.width, self.left),
            )
        )
        return F.conv2d(
            F.pad(x, (self.left, right, self.top, bottom)), weight, stride=self.stride, groups=self.channels
        )


def is_known_depthwise(conv: nn.Conv2d) -> bool:
    """Tell whether the kernels know this kind of convolution: depthwise 3x3 or 5x5 of stride 1 or 2, without bias."""
    return (
        1 < conv.in_channels == conv.out_channels == conv.groups
        and conv.kernel_size in ((3, 3), (5, 5))
        and conv.stride in ((1, 1), (2, 2))
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.bias is None
        and not isinstance(conv.padding, str)
        and max(conv.padding) < conv.kernel_size[0]
    )


def shape_of(conv: nn.Conv2d, x: Tensor, *, same: bool) -> Shape | None:
    """Return the sides of this convolution of `x`, or `None` where its own forward pass must run.

    Args:
        conv: A convolution of a known kind in training mode.
        x: What it reads.
        same: Whether its padding follows the size as TensorFlow's does (the odd pixel at the right and bottom).
    """
    if not (
        conv.training
        and eligible(x, conv.weight)
        and conv.weight.is_contiguous()
        and x.shape[1] == conv.in_channels
        and kernels() is not None
    ):
        return None
    images, channels, height, width = x.shape
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    sides = []
    for side, pad in ((height, int(conv.padding[0])), (width, int(conv.padding[1]))):
        if same:
            out = -(-side // stride)
            sides.append((out, max((out - 1) * stride + kernel - side, 0) // 2))
        else:
            sides.append(((side + 2 * pad - kernel) // stride + 1, pad))
    (out_height, top), (out_width, left) = sides
    if min(out_height, out_width) < 1:
        return None
    return Shape(images, height, width, channels, out_height, out_width, kernel, stride, top, left)


def depthwise(x: Float[Tensor, "b c h w"], weight: Tensor, shape: Shape) -> Float[Tensor, "b c oh ow"]:
    """Convolve each channel with its own kernel; see `shape_of`."""
    return _Depthwise.apply(x, weight, shape)


def empty_map(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Return an uninitialised channels-last map for as many images."""
    return like.new_empty(like.shape[0], height, width, channels).permute(0, 3, 1, 2)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shape: Shape) -> Tensor:
        library = kernels()
        assert library is not None, "shape_of was asked"
        y = empty_map(x, shape.channels, shape.out_height, shape.out_width)
        failed = library.trivet_depthwise(
            *(shape.as_longs(), x.data_ptr(), weight.data_ptr(), y.data_ptr()),
            *(PLAIN, 0.0, None, None, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the rows of a depthwise convolution")
        ctx.save_for_backward(x, weight)
        ctx.shape = shape
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        shape: Shape = ctx.shape
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            wanted = [tensor for tensor in (x, weight) if tensor.requires_grad]
            y = shape.convolve(x, weight)
            found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
            return *(next(found) if tensor.requires_grad else None for tensor in (x, weight)), None
        library = kernels()
        assert library is not None, "the forward pass had it"
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dweight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        failed = library.trivet_depthwise_backward(
            *(shape.as_longs(), x.data_ptr(), weight.data_ptr(), dy.data_ptr()),
            *(address(dx), address(dweight)),
            *(PLAIN, 0.0, None, None, None, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the rows of a depthwise convolution's gradient")
        return dx, dweight, None
