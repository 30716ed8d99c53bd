"""Images of any size for parts that want multiples."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pad_to_multiple(images: Float[Tensor, "b c h w"], multiple: int) -> Float[Tensor, "b c h2 w2"]:
    """Return normalised images with zeros (the mean colour) at the right and bottom, sides multiples of `multiple`."""
    bottom, right = (-side % multiple for side in images.shape[-2:])
    return F.pad(images, (0, right, 0, bottom)) if bottom or right else images


def cut_back(output: Any, size_hw: tuple[int, int], padded_hw: tuple[int, int]) -> Any:
    """Return a dense output, or a tuple of them, without the cells that see nothing but padding.

    Args:
        output: `[b, channels, h, w]` at any stride, or a tuple of such tensors.
        size_hw: The images' size before padding.
        padded_hw: And after it.
    """
    if not isinstance(output, Tensor):
        return tuple(cut_back(part, size_hw, padded_hw) for part in output)
    sides = zip(output.shape[-2:], size_hw, padded_hw, strict=True)
    height, width = (-(-cells * side // padded) for cells, side, padded in sides)
    return output[..., :height, :width]
