"""What convolutions on a CPU allocate while they run.

oneDNN keeps weights in an order of its own: a convolution makes a copy of its weights in it, and its backward pass one
of the weights and one of their gradient. Depthwise convolutions have small weights and hardly matter.
"""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def cpu_scratch(func: Any, args: tuple) -> int:
    """Return the bytes an operator allocates and releases while it runs on a CPU."""
    if func is aten.convolution.default:
        return _bytes(args[1])
    if func is aten.convolution_backward.default:
        return 2 * _bytes(args[2])
    return 0


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
