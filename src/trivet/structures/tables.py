"""The truth and the predictions of many images as columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trivet.errors import UsageError
from trivet.structures.outputs import Detections


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
