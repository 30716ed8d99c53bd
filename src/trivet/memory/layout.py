"""The order of a tensor's numbers in memory."""

import torch
from torch import Tensor


def layout_of(tensor: Tensor) -> torch.memory_format:
    """Return whether a tensor's channels lie last or its sides in order."""
    last = (
        tensor.dim() == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )
    return torch.channels_last if last else torch.contiguous_format
