"""The losses of a batch of masks, image by image: the memory of one image at the masks' size, not of a batch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from trivet.structures import IGNORE_LABEL
from trivet.tasks.losses.pixels import PixelLoss


def sum_over_images(
    logits: Float[Tensor, "b classes _ _"],
    masks: UInt8[Tensor, "b h w"],
    losses: Sequence[tuple[PixelLoss, float]],
) -> tuple[Float[Tensor, ""], Float[Tensor, " parts"]]:
    """Return the weighted sum of losses over all images, and each loss's own sum, which carries no gradient.

    Logits are resized bilinearly to the masks. The gradient is computed on the way, so that at no time more than
    one image's logits exist at the masks' size. Images without a pixel that counts cost nothing.

    Args:
        logits: At any stride.
        masks: Truth, 255 where ignored.
        losses: Losses with their weights.
    """
    total, parts = _SumOverImages.apply(logits, masks, tuple(losses))
    return total, parts


class _SumOverImages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, masks: Tensor, losses: tuple[tuple[PixelLoss, float], ...]
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(logits.dtype, torch.float32)
        weights = torch.tensor([weight for _, weight in losses], dtype=dtype, device=logits.device)
        parts, slope = torch.zeros_like(weights), torch.zeros_like(logits, dtype=dtype)
        counted = (masks != IGNORE_LABEL).flatten(1).any(dim=1).tolist()
        with torch.autocast(logits.device.type, enabled=False):
            for i in (i for i, any_pixel in enumerate(counted) if any_pixel):
                parts += _one_image(
                    logits[i].to(dtype), masks[i], losses, slope[i] if ctx.needs_input_grad[0] else None
                )
        ctx.save_for_backward(slope)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(parts)
        return (weights * parts).sum(), parts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * upstream).to(ctx.dtype), None, None


def _one_image(
    logits: Tensor, mask: Tensor, losses: Sequence[tuple[PixelLoss, float]], slope: Tensor | None
) -> Tensor:
    """Return one image's losses; the gradient of their weighted sum by its logits goes into `slope`."""
    with torch.set_grad_enabled(slope is not None):
        logits = logits.contiguous().detach().requires_grad_(slope is not None)
        pixels, labels = _counted_pixels(logits, mask)
        values = torch.stack([loss(pixels, labels) for loss, _ in losses])
        if slope is not None:
            weights = values.new_tensor([weight for _, weight in losses])
            slope.copy_(torch.autograd.grad((weights * values).sum(), logits)[0])
    return values.detach()


def _counted_pixels(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits `[classes, n]` and labels `[n]` of an image's pixels that count."""
    if logits.shape[1:] != mask.shape:
        size_hw = (mask.shape[0], mask.shape[1])
        logits = F.interpolate(logits[None], size=size_hw, mode="bilinear", align_corners=False)[0]
    pixels, labels = logits.flatten(1), mask.flatten()
    counted = (labels != IGNORE_LABEL).nonzero()[:, 0]
    if len(counted) < len(labels):
        pixels, labels = pixels.index_select(1, counted), labels[counted]
    return pixels, labels.long()
