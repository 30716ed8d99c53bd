"""Images with their truth: decoded one by one, and as a loader yields them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from trivet.errors import UsageError
from trivet.structures.placement import Placement


@dataclass(frozen=True)
class Sample:
    """One decoded image with its truth, as NumPy arrays, in the pixels of `image`.

    Args:
        image: uint8 `[h, w, 3]`, RGB.
        boxes_xyxy: float32 `[n, 4]`; `n` is 0 for an image without objects.
        labels: int64 `[n]`, from 0.
        crowd: bool `[n]`; a crowd region is never a training target and absorbs predictions in scoring.
        image_id: The image's id in its data set.
        name: The image's path relative to the data set, for messages.
        placement: Where the original image lies in `image`.
        mask: uint8 `[h, w]`, the label of each pixel, 255 = ignore; `None` where masks are not the truth.
        class_label: The label of the whole image; `None` where it is not the truth.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    image_id: int
    name: str
    placement: Placement
    mask: np.ndarray | None = None
    class_label: int | None = None

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise UsageError(
                f"{self.name}: a sample's image is uint8 [h, w, 3], got {self.image.dtype} {self.image.shape}"
            )
        count = len(self.labels)
        if self.boxes_xyxy.shape != (count, 4) or self.crowd.shape != (count,):
            raise UsageError(
                f"{self.name}: a sample needs one box, label and crowd flag an object, got boxes {self.boxes_xyxy.shape}, "
                f"labels {self.labels.shape}, crowd {self.crowd.shape}"
            )
        if self.mask is not None and self.mask.shape != self.image.shape[:2]:
            raise UsageError(
                f"{self.name}: the mask is {self.mask.shape} but the image is {self.image.shape[:2]}"
            )

    @classmethod
    def of_image(
        cls,
        image: np.ndarray,
        *,
        image_id: int,
        name: str,
        mask: np.ndarray | None = None,
        class_label: int | None = None,
    ) -> "Sample":
        """Make the sample of an image as it was decoded, without boxes."""
        boxes, labels, crowd = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
        place = Placement((image.shape[0], image.shape[1]))
        return cls(image, boxes, labels, crowd, image_id, name, place, mask, class_label)


@dataclass(frozen=True)
class BoxTarget:
    """The truth of one image for a detector: no background class, crowd regions already left out."""

    boxes_xyxy: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]

    def __post_init__(self) -> None:
        if (
            self.boxes_xyxy.ndim != 2
            or self.boxes_xyxy.shape[1] != 4
            or len(self.boxes_xyxy) != len(self.labels)
        ):
            raise UsageError(
                f"a box target needs boxes_xyxy [n, 4] and labels [n], got {tuple(self.boxes_xyxy.shape)} and {tuple(self.labels.shape)}"
            )

    def to(self, device: torch.device | str) -> "BoxTarget":
        """Return the same truth on another device."""
        return BoxTarget(
            self.boxes_xyxy.to(device, non_blocking=True), self.labels.to(device, non_blocking=True)
        )


@dataclass(frozen=True)
class MaskTargets:
    """The truth of a batch for a segmenter.

    Args:
        masks: uint8 `[b, h, w]`, the label of each pixel; 255 neither trains nor counts.
    """

    masks: UInt8[Tensor, "b h w"]

    def __len__(self) -> int:
        return len(self.masks)

    def to(self, device: torch.device | str) -> "MaskTargets":
        """Return the same truth on another device."""
        return MaskTargets(self.masks.to(device, non_blocking=True))


@dataclass(frozen=True)
class ClassTargets:
    """The truth of a batch for a classifier; an image may be a mixture of two (MixUp, CutMix).

    Args:
        labels: int64 `[b]`, from 0.
        other_labels: int64 `[b]`, the second image's label; equal to `labels` where nothing was mixed.
        other_share: float32 `[b]`, how much of the image the second label holds for, 0-1.
    """

    labels: Int64[Tensor, " b"]
    other_labels: Int64[Tensor, " b"]
    other_share: Float[Tensor, " b"]

    def __post_init__(self) -> None:
        if not (self.labels.shape == self.other_labels.shape == self.other_share.shape):
            raise UsageError(
                f"class targets need as many labels, other labels and shares, got {tuple(self.labels.shape)}, "
                f"{tuple(self.other_labels.shape)} and {tuple(self.other_share.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, labels: Int64[Tensor, " b"]) -> "ClassTargets":
        """Make the truth of images that are not mixed."""
        return cls(labels, labels, torch.zeros(len(labels)))

    def to(self, device: torch.device | str) -> "ClassTargets":
        """Return the same truth on another device."""
        return ClassTargets(
            self.labels.to(device, non_blocking=True),
            self.other_labels.to(device, non_blocking=True),
            self.other_share.to(device, non_blocking=True),
        )


Targets: TypeAlias = tuple[BoxTarget, ...] | MaskTargets | ClassTargets


@dataclass(frozen=True)
class Batch:
    """What a loader yields: images of one size with their truth.

    Args:
        images: uint8 `[b, 3, h, w]`, RGB, 0-255; the model normalises them with its own mean and std.
        targets: The truth of the batch's task, in pixels of `images`: one `BoxTarget` an image, `MaskTargets` or
            `ClassTargets`.
        image_ids: int64 `[b]`.
        names: The images' names, for messages.
        placements: Where each original image lies.
    """

    images: UInt8[Tensor, "b 3 h w"]
    targets: Targets
    image_ids: Int64[Tensor, " b"]
    names: tuple[str, ...]
    placements: tuple[Placement, ...]

    def __post_init__(self) -> None:
        count = len(self.images)
        if {len(self.targets), len(self.image_ids), len(self.names), len(self.placements)} != {count}:
            raise UsageError(
                f"a batch of {count} images needs as many targets, ids, names and placements, got {len(self.targets)}, "
                f"{len(self.image_ids)}, {len(self.names)} and {len(self.placements)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def box_targets(self) -> tuple[BoxTarget, ...]:
        """The truth for a detector.

        Raises:
            UsageError: If the batch holds another task's truth; so do the next two.
        """
        if not isinstance(self.targets, tuple):
            raise self._other_truth("boxes")
        return self.targets

    @property
    def mask_targets(self) -> MaskTargets:
        """The truth for a segmenter."""
        if not isinstance(self.targets, MaskTargets):
            raise self._other_truth("masks")
        return self.targets

    @property
    def class_targets(self) -> ClassTargets:
        """The truth for a classifier."""
        if not isinstance(self.targets, ClassTargets):
            raise self._other_truth("classes")
        return self.targets

    def _other_truth(self, wanted: str) -> UsageError:
        held = "BoxTarget" if isinstance(self.targets, tuple) else type(self.targets).__name__
        return UsageError(
            f"this task learns from {wanted}, and the batch holds {held}", "read the data set for this task"
        )

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch with images and truth on another device."""
        return Batch(
            self.images.to(device, non_blocking=True),
            tuple(target.to(device) for target in self.targets)
            if isinstance(self.targets, tuple)
            else self.targets.to(device),
            self.image_ids,
            self.names,
            self.placements,
        )
