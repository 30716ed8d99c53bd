"""What convolutions on a CPU allocate while they run.

oneDNN keeps weights in an order of its own: a convolution makes a copy of its weights in it, and its backward pass one
of the weights and one of their gradient. Maps that are not in channels-last layout are copied too: forward the input and
then the output, where the larger counts (a transposed convolution's output twice), backward the input beside the
output's gradient. (With one thread and fewer than 16 examples PyTorch takes 1 x 1 convolutions without.) Depthwise
convolutions have small weights and hardly matter, but for 5 x 5 ones: for their gradients oneDNN takes each channel for
a block of 16 x 16.
"""

from typing import Any

import torch
from torch import Tensor

from trivet.memory.layout import layout_of

aten = torch.ops.aten
_BLOCK = 16
"""Channels that oneDNN keeps side by side."""
_SMALL_KERNEL = 3
"""Up to this side it has depthwise kernels for the gradients."""
_MAP_BYTES = 18
"""Measured, for each number of the two maps in bfloat16: what a block leaves empty."""


def cpu_scratch(func: Any, args: tuple, out: Any) -> int:
    """Return the bytes an operator allocates and releases while it runs on a CPU, besides what it returns.

    Args:
        func: The operator.
        args: Its arguments by place.
        out: What it returned.
    """
    if func is aten.convolution.default:
        x, weight = args[:2]
        copies = 0 if _lie_in_channels(x, weight) else _copied_forward(x, weight, out, transposed=args[6])
        return max(_bytes(weight), copies)
    if func is aten.convolution_backward.default:
        upstream, x, weight = args[:3]
        copies = 0 if _lie_in_channels(x, weight) else _bytes(x) + _bytes(upstream)
        return max(2 * _bytes(weight), copies) + _in_blocks(upstream, x, weight)
    return 0


def _lie_in_channels(x: Tensor, weight: Tensor) -> bool:
    """Tell whether oneDNN reads and writes the maps as they lie."""
    return torch.channels_last in (layout_of(x), layout_of(weight))


def _copied_forward(x: Tensor, weight: Tensor, out: Tensor, *, transposed: bool) -> int:
    """Return what a convolution takes for its weights and maps in oneDNN's order."""
    most = max(_bytes(x) + _bytes(weight), _bytes(out))
    return most + _bytes(out) if transposed else most


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
