"""The sides of one depthwise convolution."""

import ctypes
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


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
        return (ctypes.c_long * 10)(
            *(self.images, self.height, self.width, self.channels, self.out_height, self.out_width),
            *(self.kernel, self.stride, self.top, self.left),
        )

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
