"""A model: backbone, neck, head."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, AnyAnchors
from trivet.geometry.pixel_anchors import PixelAnchors
from trivet.models.kernels.pixels import normalise_rows
from trivet.models.padding import cut_back, pad_to_multiple
from trivet.models.spec import ModelSpec
from trivet.structures import TASKS, TaskName


class Model(nn.Module):
    """Three parts in a row, and what they need to know of pictures.

    Args:
        backbone: Images -> feature maps.
        neck: Feature maps -> pyramid.
        head: Pyramid -> output.
        spec: Plain data from which `build_model` makes the same model again.

    Attributes:
        mean: Mean of the images the backbone was trained on, `[3]`, in 0-1; not in the state dict.
        std: Their standard deviation, `[3]`, in 0-1; not in the state dict.
        fill_rgb: The colour, 0-255, that letterboxing pads with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module, *, spec: ModelSpec) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std), persistent=False)
        self.fill_rgb = spec.fill_rgb

    @property
    def task(self) -> TaskName:
        """What the head's output is for.

        Raises:
            UsageError: If the head does not say.
        """
        task = getattr(self.head, "task", None)
        if task not in TASKS:
            raise UsageError(
                f"the head {type(self.head).__name__} does not say what it is for (task={task!r})",
                f"give it a `task`: {', '.join(TASKS)}",
            )
        return task

    @property
    def anchor_spec(self) -> AnyAnchors:
        """Which anchors the head's output is relative to.

        Raises:
            UsageError: If the head has none.
        """
        spec = getattr(self.head, "anchor_spec", None)
        if not isinstance(spec, AnchorSpec | PixelAnchors):
            raise UsageError(
                f"the head {type(self.head).__name__} has no anchors", "give it an `anchor_spec`"
            )
        return spec

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Any:
        """Return the head's output for normalised images of any size.

        A head that wants sides of a `multiple` gets them: images are padded at the right and bottom, and its dense
        output is cut back.
        """
        padded = pad_to_multiple(images, getattr(self.head, "multiple", 1))
        output = self.head(self.neck(self.backbone(padded)))
        if padded is images:
            return output
        height, width = images.shape[-2:]
        return cut_back(output, (height, width), (padded.shape[-2], padded.shape[-1]))

    def normalise(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return 0-255 images as `forward` takes them: float32, mean 0, in the memory format they came in."""
        mean, std = self.mean * 255, self.std * 255
        last = images.permute(0, 2, 3, 1)
        if last.is_contiguous():  # whole rows at a time: three channels are too few for a loop of their own
            count, height, width, _ = last.shape
            rows = last.reshape(count * height, -1)
            pixels = normalise_rows(rows, mean.repeat(width), std.repeat(width))
            return pixels.view(last.shape).permute(0, 3, 1, 2)
        return images.float().sub_(mean.view(1, 3, 1, 1)).div_(std.view(1, 3, 1, 1))
