"""The form in which a batch travels from a worker: a few large tensors instead of two an image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from trivet.errors import UsageError
from trivet.structures import Batch, BoxTarget, ClassTargets, MaskTargets, Placement, Sample, Targets


@dataclass(frozen=True)
class PackedBatch:
    """A batch as a few arrays, because what processes hand each other costs by the piece."""

    images: UInt8[Tensor, "b 3 h w"]
    boxes_xyxy: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    counts: list[int]
    image_ids: list[int]
    names: tuple[str, ...]
    placements: tuple[Placement, ...]
    masks: UInt8[Tensor, "b h w"] | None = None
    class_labels: Int64[Tensor, " b"] | None = None
    other_labels: Int64[Tensor, " b"] | None = None
    other_share: Float[Tensor, " b"] | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "PackedBatch":
        """Stack samples of one size, leaving crowd regions out.

        Raises:
            UsageError: If there is no sample or their sizes differ.
        """
        if not samples:
            raise UsageError("a batch needs at least one sample, got none")
        for sample in samples:
            if sample.image.shape != samples[0].image.shape:
                raise UsageError(
                    f"a batch's images have one size, got {samples[0].image.shape[:2]} ({samples[0].name}) and "
                    f"{sample.image.shape[:2]} ({sample.name})",
                    "letterbox or augment them to one size_hw first",
                )
        boxes = np.concatenate([sample.boxes_xyxy[~sample.crowd] for sample in samples])
        labels = np.concatenate([sample.labels[~sample.crowd] for sample in samples])
        return cls(
            torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2),
            torch.from_numpy(boxes.astype(np.float32)),
            torch.from_numpy(labels.astype(np.int64)),
            [int((~sample.crowd).sum()) for sample in samples],
            [sample.image_id for sample in samples],
            tuple(sample.name for sample in samples),
            tuple(sample.placement for sample in samples),
            _masks(samples),
            _class_labels(samples),
        )

    def pin_memory(self) -> "PackedBatch":
        """Return it in page-locked memory; torch's loader calls this by name."""
        return replace(
            self,
            images=self.images.pin_memory(),
            boxes_xyxy=self.boxes_xyxy.pin_memory(),
            labels=self.labels.pin_memory(),
            masks=None if self.masks is None else self.masks.pin_memory(),
            class_labels=None if self.class_labels is None else self.class_labels.pin_memory(),
            other_labels=None if self.other_labels is None else self.other_labels.pin_memory(),
            other_share=None if self.other_share is None else self.other_share.pin_memory(),
        )

    def unpack(self) -> Batch:
        """Return the batch itself; its targets are views of this."""
        return Batch(
            self.images,
            self._targets(),
            torch.tensor(self.image_ids, dtype=torch.int64),
            self.names,
            self.placements,
        )

    def _targets(self) -> Targets:
        if self.masks is not None:
            return MaskTargets(self.masks)
        if self.class_labels is not None:
            if self.other_labels is not None and self.other_share is not None:
                return ClassTargets(self.class_labels, self.other_labels, self.other_share)
            return ClassTargets.of(self.class_labels)
        pairs = zip(self.boxes_xyxy.split(self.counts), self.labels.split(self.counts), strict=True)
        return tuple(BoxTarget(boxes, labels) for boxes, labels in pairs)


def _masks(samples: Sequence[Sample]) -> Tensor | None:
    masks = [sample.mask for sample in samples if sample.mask is not None]
    return torch.from_numpy(np.stack(masks)) if masks else None


def _class_labels(samples: Sequence[Sample]) -> Tensor | None:
    labels = [sample.class_label for sample in samples if sample.class_label is not None]
    return torch.tensor(labels, dtype=torch.int64) if labels else None
