"""What a model says, raw and decoded."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from trivet.errors import UsageError
from trivet.structures.placement import Placement


class AnchorOutput(NamedTuple):
    """The raw result of an anchor head, one entry a level, finest first.

    A named tuple rather than a dataclass: distributed wrappers, compilers and exporters look into tuples.

    Args:
        class_logits: Per level `[b, anchors * classes, h, w]`, anchor-major (all classes of anchor 0 first).
        box_deltas: Per level `[b, anchors * 4, h, w]`, each anchor's four as (ty, tx, th, tw).
        objectness: Per level `[b, anchors, h, w]`, the logit of there being an object of whatever class; a score is
            then the product of both probabilities. Empty where the class logits alone say it.
    """

    class_logits: tuple[Float[Tensor, "b _ _ _"], ...]
    box_deltas: tuple[Float[Tensor, "b _ _ _"], ...]
    objectness: tuple[Float[Tensor, "b _ _ _"], ...] = ()


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
class MaskScores:
    """The decoded prediction of a segmenter for one image, in the original image's pixels.

    Args:
        labels: uint8 `[h, w]`, the likeliest label of each pixel.
        scores: float32 `[h, w]`, its probability, 0-1.
    """

    labels: UInt8[Tensor, "h w"]
    scores: Float[Tensor, "h w"]

    def __post_init__(self) -> None:
        if self.labels.shape != self.scores.shape:
            raise UsageError(
                f"a mask prediction needs a label and a score a pixel, got {tuple(self.labels.shape)} and {tuple(self.scores.shape)}"
            )


@dataclass(frozen=True)
class ClassScores:
    """The decoded prediction of a classifier for one image.

    Args:
        scores: float32 `[classes]`, probabilities, 0-1.
    """

    scores: Float[Tensor, " classes"]

    @property
    def label(self) -> int:
        """The likeliest label."""
        return int(self.scores.argmax())

    def top(self, count: int) -> list[tuple[int, float]]:
        """Return the `count` likeliest labels with their probabilities, best first."""
        best = self.scores.topk(min(count, len(self.scores)))
        return [(int(label), float(score)) for score, label in zip(best.values, best.indices, strict=True)]
