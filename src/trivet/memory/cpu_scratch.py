"""What convolutions on a CPU allocate while they run.

oneDNN keeps weights in an order of its own: a convolution makes a copy of its weights in it, and its backward pass one
of the weights and one of their gradient. Depthwise convolutions have small weights and hardly matter, but for 5 x 5 ones:
for their gradients oneDNN takes each channel for a block of 16 x 16.
"""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
_BLOCK = 16
"""Channels that oneDNN keeps side by side."""
_SMALL_KERNEL = 3
"""Up to this side it has depthwise kernels for the gradients."""
_MAP_BYTES = 18
"""Measured, for each number of the two maps in bfloat16: what a block leaves empty."""


def cpu_scratch(func: Any, args: tuple) -> int:
    """Return the bytes an operator allocates and releases while it runs on a CPU."""
    if func is aten.convolution.default:
        return _bytes(args[1])
    if func is aten.convolution_backward.default:
        return 2 * _bytes(args[2]) + _in_blocks(*args[:3])
    return 0


def _in_blocks(upstream: Tensor, x: Tensor, weight: Tensor) -> int:
    """Return what the gradients of a large depthwise convolution take: its weights, in bfloat16 in two precisions."""
    inputs, *sides = weight.shape[1:]
    if inputs > 1 or x.shape[1] == 1 or max(sides) <= _SMALL_KERNEL:
        return 0
    blocks = weight.numel() * _BLOCK * _BLOCK
    if weight.dtype == torch.float32:
        return 4 * blocks
    return (4 + weight.element_size()) * blocks + _MAP_BYTES * (x.numel() + upstream.numel())


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
