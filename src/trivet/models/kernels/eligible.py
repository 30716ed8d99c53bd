"""When a kernel may stand in for PyTorch's operators."""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from trivet.models.kernels.library import STAND_IN


def eligible(x: Tensor, *parameters: Tensor | None, training: bool = True) -> bool:
    """Tell whether a training step on these tensors may use the kernels, or an evaluation.

    It may for plain float32 tensors on the CPU whose map is in the channels-last layout, where gradients are wanted (in
    evaluation: not wanted) and nothing looks at PyTorch's operators as they run (autocast, compilers, tracers, function
    transforms).
    """
    return (
        torch.is_grad_enabled() == training
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and all_plain(*parameters)
        and readable(x)
    )


def readable(*tensors: Tensor) -> bool:
    """Tell whether a kernel may read these plain tensors itself: nothing looks at PyTorch's operators as they run."""
    if STAND_IN.get() is not None:
        fake = all(isinstance(tensor, FakeTensor) for tensor in tensors)
        return fake and all_plain(*tensors) and not torch.is_autocast_enabled("cpu")
    for tensor in tensors:  # asked for every layer: no generator
        if type(tensor) is not Tensor or not _plain(tensor):
            return False
    return not _watched()


def all_plain(*tensors: Tensor | None) -> bool:
    """Tell whether these are float32 tensors in the processor's memory, those that are there."""
    return all(_plain(tensor) for tensor in tensors if tensor is not None)


def _plain(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.layout == torch.strided


def _watched() -> bool:
    return (
        torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )
