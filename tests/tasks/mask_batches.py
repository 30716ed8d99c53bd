"""Batches of masks and of classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trivet.structures import Batch, ClassTargets, MaskTargets, Placement
from trivet.structures.samples import Targets


def batch_of(
    targets: Targets, size_hw: tuple[int, int], placements: Sequence[Placement] | None = None
) -> Batch:
    count = len(targets)
    return Batch(
        torch.zeros(count, 3, *size_hw, dtype=torch.uint8),
        targets,
        torch.arange(count),
        tuple(f"image-{i}.jpg" for i in range(count)),
        tuple(placements or [Placement(size_hw)] * count),
    )


def mask_batch(masks: Tensor) -> Batch:
    return batch_of(MaskTargets(masks), (masks.shape[1], masks.shape[2]))


def random_masks(images: int, size_hw: tuple[int, int], classes: int, *, ignored: float = 0.1) -> Tensor:
    masks = torch.randint(0, classes, (images, *size_hw), dtype=torch.uint8)
    masks[torch.rand(masks.shape) < ignored] = 255
    return masks


def class_batch(labels: Tensor, other: Tensor | None = None, share: Tensor | None = None) -> Batch:
    if other is None or share is None:
        return batch_of(ClassTargets.of(labels), (8, 8))
    return batch_of(ClassTargets(labels, other, share), (8, 8))
