"""The values that cross a layer: small, frozen, checked when they are made.

Conventions, everywhere: images are RGB; `boxes_xyxy` are (left, top, right, bottom) in pixels of the image in
hand, with the right and bottom edges exclusive (a box that covers one pixel is 1 wide); labels count from 0
and there is no background class; sizes are `(height, width)`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from trivet.errors import UsageError


@dataclass(frozen=True)
class FeatureSpec:
    """What a part publishes of one feature map: its channels and its stride in input pixels."""

    channels: int
    stride: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise UsageError(f"a feature map needs at least one channel, got channels={self.channels}")
        if self.stride < 1 or self.stride & (self.stride - 1):
            raise UsageError(f"a feature map's stride is a power of two, got stride={self.stride}")

    @property
    def level(self) -> int:
        """The pyramid level k of `p<k>`, where stride = 2^k."""
        return int(math.log2(self.stride))


@dataclass(frozen=True)
class LabelMap:
    """Ids in a file <-> class names <-> training labels (the position in `names`).

    Args:
        names: Class names; a name's position is its training label. No two are equal.
        file_ids: The id each class has in the annotation files, in the same order: COCO's category ids,
            YOLO's indices, or the names themselves where a format (VOC) has no ids.
    """

    names: tuple[str, ...]
    file_ids: tuple[int | str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise UsageError("a label map needs at least one class, got none")
        if len(self.names) != len(self.file_ids):
            raise UsageError(
                f"a label map needs one file id a name, got {len(self.names)} names and {len(self.file_ids)} ids"
            )
        for kind, values in (("name", self.names), ("file id", self.file_ids)):
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise UsageError(
                    f"a label map has the {kind} {twice[0]!r} more than once",
                    f"give every class its own {kind}",
                )

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "LabelMap":
        """Make the map of a format whose ids are the positions 0, 1, 2... themselves."""
        return cls(tuple(names), tuple(range(len(names))))

    def __len__(self) -> int:
        return len(self.names)

    def label_of_file_id(self) -> dict[int | str, int]:
        """Return file id -> training label."""
        return {file_id: label for label, file_id in enumerate(self.file_ids)}

    def to_json(self) -> list[dict[str, int | str]]:
        """Return `[{"label": 0, "name": ..., "file_id": ...}, ...]`, the form of `labels.json`."""
        return [
            {"label": i, "name": n, "file_id": f}
            for i, (n, f) in enumerate(zip(self.names, self.file_ids, strict=True))
        ]

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, int | str]]) -> "LabelMap":
        """Read what `to_json` wrote.

        Raises:
            UsageError: If a key is missing or the labels are not 0, 1, 2...
        """
        try:
            ordered = sorted(rows, key=lambda row: int(row["label"]))
            labels = [int(row["label"]) for row in ordered]
            result = cls(tuple(str(row["name"]) for row in ordered), tuple(row["file_id"] for row in ordered))
        except (KeyError, TypeError) as fault:
            raise UsageError(
                f"a label map's rows need 'label', 'name' and 'file_id', got {rows!r}"
            ) from fault
        if labels != list(range(len(labels))):
            raise UsageError(f"a label map's labels count 0, 1, 2..., got {labels}")
        return result


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
        mask: int64 `[h, w]` semantic mask, 255 = ignore, or `None`.
        placement: Where the original image lies in `image`.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    image_id: int
    name: str
    placement: Placement
    mask: np.ndarray | None = None

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
class Batch:
    """What a loader yields: images of one size with their truth.

    Args:
        images: uint8 `[b, 3, h, w]`, RGB, 0-255; the model normalises them with its own mean and std.
        targets: One `BoxTarget` an image, in pixels of `images`.
        image_ids: int64 `[b]`.
        names: The images' names, for messages.
        placements: Where each original image lies.
    """

    images: UInt8[Tensor, "b 3 h w"]
    targets: tuple[BoxTarget, ...]
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

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch with images and truth on another device."""
        return Batch(
            self.images.to(device, non_blocking=True),
            tuple(target.to(device) for target in self.targets),
            self.image_ids,
            self.names,
            self.placements,
        )


class AnchorOutput(NamedTuple):
    """The raw result of an anchor head, one entry a level, finest first.

    A named tuple rather than a dataclass: distributed wrappers, compilers and exporters look into tuples.

    Args:
        class_logits: Per level `[b, anchors * classes, h, w]`, anchor-major (all classes of anchor 0 first).
        box_deltas: Per level `[b, anchors * 4, h, w]`, each anchor's four as (ty, tx, th, tw).
    """

    class_logits: tuple[Float[Tensor, "b _ _ _"], ...]
    box_deltas: tuple[Float[Tensor, "b _ _ _"], ...]


@dataclass(frozen=True)
class Detections:
    """The decoded prediction for one image, best score first.

    Args:
        boxes_xyxy: float32 `[n, 4]`.
        scores: float32 `[n]`, in 0-1.
        labels: int64 `[n]`, from 0.
    """

    boxes_xyxy: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    labels: Int64[Tensor, " n"]

    def __post_init__(self) -> None:
        if not (len(self.boxes_xyxy) == len(self.scores) == len(self.labels)):
            raise UsageError(
                f"detections need as many boxes, scores and labels, got {len(self.boxes_xyxy)}, {len(self.scores)} and {len(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> "Detections":
        """Return the prediction of an image in which nothing was found."""
        return cls(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))

    def to_original(self, placement: Placement) -> "Detections":
        """Return the same detections in the original image's pixels, cut at its border."""
        return Detections(placement.to_original(self.boxes_xyxy), self.scores, self.labels)


@dataclass(frozen=True)
class TruthTable:
    """The boxes of many images as columns: ten million boxes are six arrays, not ten million objects.

    Image i's boxes are rows `offsets[i]` to `offsets[i + 1]`. Boxes are in the original image's pixels.

    Args:
        image_ids: int64 `[n]`, all different.
        sizes_hw: int32 `[n, 2]`, the original sizes; 0 where not known.
        offsets: int64 `[n + 1]`.
        boxes_xyxy: float32 `[m, 4]`.
        labels: int64 `[m]`.
        crowd: bool `[m]`.
        areas: float32 `[m]`, pixels; the format's own (COCO's polygon area) or width x height.
    """

    image_ids: np.ndarray
    sizes_hw: np.ndarray
    offsets: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray

    def __post_init__(self) -> None:
        images, boxes = len(self.image_ids), len(self.labels)
        shapes = {
            "sizes_hw": (images, 2),
            "offsets": (images + 1,),
            "boxes_xyxy": (boxes, 4),
            "crowd": (boxes,),
            "areas": (boxes,),
        }
        for column, shape in shapes.items():
            if getattr(self, column).shape != shape:
                raise UsageError(
                    f"a truth table's {column} is {shape} here, got {getattr(self, column).shape}"
                )
        if images and int(self.offsets[-1]) != boxes:
            raise UsageError(f"a truth table's offsets end at its {boxes} boxes, got {int(self.offsets[-1])}")

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, index: int) -> slice:
        """Return the rows of image number `index` (its position, not its id)."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def image_index(self) -> np.ndarray:
        """Return int64 `[m]`: for each box, the position of its image."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    def take(self, indices: Sequence[int] | np.ndarray) -> "TruthTable":
        """Return the table of the images at these positions, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        counts = np.diff(self.offsets)[indices]
        rows = np.concatenate(
            [np.arange(self.offsets[i], self.offsets[i + 1]) for i in indices]
            or [np.zeros(0, dtype=np.int64)]
        )
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return TruthTable(
            self.image_ids[indices],
            self.sizes_hw[indices],
            offsets,
            self.boxes_xyxy[rows],
            self.labels[rows],
            self.crowd[rows],
            self.areas[rows],
        )


@dataclass(frozen=True)
class PredictionTable:
    """Detections of many images as columns, in the original images' pixels.

    Args:
        image_ids: int64 `[k]`, the image each row belongs to.
        boxes_xyxy: float32 `[k, 4]`.
        scores: float32 `[k]`, in 0-1.
        labels: int64 `[k]`, from 0.
    """

    image_ids: np.ndarray
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        if (
            self.boxes_xyxy.shape != (count, 4)
            or self.scores.shape != (count,)
            or self.labels.shape != (count,)
        ):
            raise UsageError(
                f"a prediction table needs one id, box, score and label a row, got {self.image_ids.shape}, {self.boxes_xyxy.shape}, "
                f"{self.scores.shape} and {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def from_detections(cls, image_ids: Sequence[int], detections: Sequence[Detections]) -> "PredictionTable":
        """Join the detections of single images, given in the same order as their ids."""
        counts = [len(found) for found in detections]
        if not counts:
            return cls(
                np.zeros(0, np.int64),
                np.zeros((0, 4), np.float32),
                np.zeros(0, np.float32),
                np.zeros(0, np.int64),
            )
        return cls(
            np.repeat(np.asarray(image_ids, dtype=np.int64), counts),
            torch.cat([found.boxes_xyxy for found in detections]).cpu().numpy().astype(np.float32),
            torch.cat([found.scores for found in detections]).cpu().numpy().astype(np.float32),
            torch.cat([found.labels for found in detections]).cpu().numpy().astype(np.int64),
        )
