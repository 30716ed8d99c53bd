"""From a segmenter's logits at the input's stride to the pixels of the original image."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.structures import Placement

_AT_ONCE = 1 << 22  # values of a strip: a large picture with many classes never stands in memory as a whole


def strips_at_original(
    logits: Float[Tensor, "classes _ _"], size_hw: tuple[int, int], placement: Placement
) -> Iterator[tuple[slice, Float[Tensor, "classes _ w"]]]:
    """Yield the logits of an original image's pixels, some rows at a time, with the rows they are.

    Bilinear, as `interpolate(align_corners=False)` does it, between the centres of the logits' cells; padding
    around the image is thereby left out.

    Args:
        logits: Of one input.
        size_hw: The input's size in pixels.
        placement: Where the original image lies in the input.
    """
    classes, *cells = logits.shape
    (top, bottom, share_y), (left, right, share_x) = (
        _taps(placement, axis, cells[axis], size_hw[axis], logits) for axis in (0, 1)
    )
    rows = max(1, _AT_ONCE // (classes * placement.original_hw[1]))
    for start in range(0, placement.original_hw[0], rows):
        part = slice(start, min(start + rows, placement.original_hw[0]))
        lines = torch.lerp(logits[:, top[part]], logits[:, bottom[part]], share_y[part, None])
        yield part, torch.lerp(lines[:, :, left], lines[:, :, right], share_x)


def _taps(
    placement: Placement, axis: int, cells: int, size: int, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells around each original pixel of an axis, and how much the second one counts."""
    pixels = torch.arange(placement.original_hw[axis], dtype=torch.float64, device=like.device)
    in_input = (pixels + 0.5) * placement.scale_yx[axis] + placement.offset_yx[axis]
    at = (in_input * (cells / size) - 0.5).clamp(0, cells - 1)
    first = at.floor().long()
    return first, (first + 1).clamp(max=cells - 1), (at - first).to(like.dtype)
