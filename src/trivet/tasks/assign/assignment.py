"""What an assigner takes and gives: the truth of a batch in one piece, and which anchors train on what."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trivet.geometry.grid import AnchorGrid


@dataclass(frozen=True)
class JoinedTruth:
    """The objects of a whole batch as columns.

    Args:
        boxes_xyxy: In pixels of the input.
        labels: From 0.
        image: For each object, the position of its image in the batch.
        images: Images in the batch.
    """

    boxes_xyxy: Float[Tensor, "t 4"]
    labels: Int64[Tensor, " t"]
    image: Int64[Tensor, " t"]
    images: int


@dataclass(frozen=True)
class Assignment:
    """The positive anchors of a batch; all others are negatives of every class.

    Anchors are numbered through the batch, see `geometry.grid`.

    Args:
        anchors: The positive anchors, each once.
        boxes_xyxy: The object whose box each of them learns.
        class_anchors: With `class_labels`, the positive (anchor, label) pairs, each once; an anchor may have
            several labels.
        class_labels: From 0.
    """

    anchors: Int64[Tensor, " p"]
    boxes_xyxy: Float[Tensor, "p 4"]
    class_anchors: Int64[Tensor, " q"]
    class_labels: Int64[Tensor, " q"]


@runtime_checkable
class Assigner(Protocol):
    """Chooses the anchors that train on each object."""

    def __call__(self, truth: JoinedTruth, grid: AnchorGrid) -> Assignment:
        """Return the positives of a batch; objects without area inside the input may be left out."""


def best_of_each(keys: Int64[Tensor, " n"], scores: Float[Tensor, " n"]) -> Int64[Tensor, " k"]:
    """Return one position a distinct key: where its score is highest, the first of them in a tie."""
    order = scores.argsort(descending=True, stable=True)
    order = order[keys[order].argsort(stable=True)]
    ordered = keys[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]
