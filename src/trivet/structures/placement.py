"""Where an original image lies in the image in hand."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError


@dataclass(frozen=True)
class Placement:
    """How an original image was placed into the image in hand: pixel = original * scale + offset, per axis."""

    original_hw: tuple[int, int]
    scale_yx: tuple[float, float] = (1.0, 1.0)
    offset_yx: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.original_hw) < 1 or min(self.scale_yx) <= 0:
            raise UsageError(f"a placement needs a size of at least 1 x 1 and a positive scale, got {self}")

    def from_original(self, boxes_xyxy: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
        """Map boxes from the original image's pixels to the image in hand."""
        scale, offset = self._xyxy(boxes_xyxy)
        return boxes_xyxy * scale + offset

    def to_original(self, boxes_xyxy: Float[Tensor, "n 4"], *, clip: bool = True) -> Float[Tensor, "n 4"]:
        """Map boxes from the image in hand to the original image's pixels, cut at its border when `clip`."""
        scale, offset = self._xyxy(boxes_xyxy)
        boxes = (boxes_xyxy - offset) / scale
        if clip:
            height, width = self.original_hw
            boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        return boxes

    def _xyxy(self, like: Tensor) -> tuple[Tensor, Tensor]:
        (scale_y, scale_x), (offset_y, offset_x) = self.scale_yx, self.offset_yx
        return like.new_tensor([scale_x, scale_y] * 2), like.new_tensor([offset_x, offset_y] * 2)
