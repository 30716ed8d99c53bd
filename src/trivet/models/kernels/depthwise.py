"""Depthwise convolution: padded without a copy, in the channels-last layout."""

from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.kernels.activations import Activation
from trivet.models.kernels.chain import run_chain
from trivet.models.kernels.eligible import eligible
from trivet.models.kernels.library import kernels
from trivet.models.kernels.links import Chain, Link
from trivet.models.kernels.shape import Shape

_MOST_RUN = 32
"""Floats that one row of a stem's kernel reads side by side, at most: above, a convolution is PyTorch's."""


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


def is_known_stem(conv: nn.Conv2d) -> bool:
    """Tell whether the kernels know this convolution in evaluation: one of few channels, as of a picture's three."""
    return (
        conv.groups == 1
        and conv.kernel_size in ((3, 3), (5, 5), (7, 7))
        and conv.stride in ((1, 1), (2, 2))
        and conv.in_channels * conv.kernel_size[0] <= _MOST_RUN
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
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
        and is_known_depthwise(conv)
        and eligible(x, conv.weight)
        and conv.weight.is_contiguous()
        and x.shape[1] == conv.in_channels
        and kernels() is not None
    ):
        return None
    return shape_of_sides(conv, tuple(x.shape), same=same)


def shape_of_sides(conv: nn.Conv2d, sides: tuple[int, ...], *, same: bool) -> Shape | None:
    """Return the sides of a known convolution of an input `[b, c, h, w]` of these; `None` where nothing is left of it."""
    images, channels, height, width = sides
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    found = []
    for side, pad in ((height, int(conv.padding[0])), (width, int(conv.padding[1]))):
        if same:
            out = -(-side // stride)
            found.append((out, max((out - 1) * stride + kernel - side, 0) // 2))
        else:
            found.append(((side + 2 * pad - kernel) // stride + 1, pad))
    (out_height, top), (out_width, left) = found
    if min(out_height, out_width) < 1:
        return None
    return Shape(images, height, width, channels, out_height, out_width, kernel, stride, top, left)


def depthwise(x: Float[Tensor, "b c h w"], weight: Tensor, shape: Shape) -> Float[Tensor, "b c oh ow"]:
    """Convolve each channel with its own kernel; see `shape_of`."""
    return run_chain(Chain((Link(weight, shape=shape),)), x)


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
    return run_chain(Chain((Link(weight, shape=shape, norm=norm, activation=activation),)), x)
