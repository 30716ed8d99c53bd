"""Proposes anchors in pixels for the boxes of a data set: the centres of clusters of like shapes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.pixel_anchors import Shape

_ROUNDS = 100
_MOST_BOXES = 20_000


@dataclass(frozen=True)
class ShapeProposal:
    """Anchors that suit a data set's boxes.

    Args:
        shapes: (width, height) in pixels, the smallest area first; those given, where others are hardly better.
        before: Mean over boxes of the best IoU of shapes with the anchors given, 0-1.
        after: The same with the proposed ones.
    """

    shapes: tuple[Shape, ...]
    before: float
    after: float

    @property
    def reason(self) -> str:
        """The proposal in a sentence for people."""
        text = f"the published anchors match the boxes' shapes with a mean IoU of {self.before:.2f}"
        return text if self.after == self.before else f"{text}, clusters of the boxes with {self.after:.2f}"


def propose_shapes(
    boxes_wh: Float[Tensor, "n 2"], shapes: tuple[Shape, ...], *, least_gain: float = 0.05
) -> ShapeProposal:
    """Look for as many anchors as given whose shapes match a data set's boxes better.

    K-means with 1 - IoU as the distance (YOLOv2, section 2), boxes and anchors laid centre on centre. Nothing is random:
    it starts from evenly spread boxes in the order of their areas.

    Args:
        boxes_wh: Widths and heights in pixels of the network's input, above 0.
        shapes: Anchors to improve on, (width, height) in pixels.
        least_gain: Change them only for a mean IoU that is better by so much, in 0-1: pretrained heads know theirs.

    Raises:
        UsageError: If there are no boxes, or a side is not finite and above 0.
    """
    if not len(boxes_wh) or not bool(((boxes_wh > 0) & boxes_wh.isfinite()).all()):
        shown = (
            f"{len(boxes_wh)} boxes with the least side {float(boxes_wh.min())}" if len(boxes_wh) else "none"
        )
        raise UsageError(f"anchors are proposed from finite widths and heights above 0, got {shown}")
    sample = _sample(boxes_wh.double())
    before = _mean_best(sample, torch.tensor(shapes, dtype=torch.float64))
    found = _clusters(sample, len(shapes))
    after = _mean_best(sample, found)
    if after < before + least_gain:
        return ShapeProposal(shapes, before, before)
    ordered = found[found.prod(dim=1).argsort(stable=True)]
    return ShapeProposal(tuple((round(w, 1), round(h, 1)) for w, h in ordered.tolist()), before, after)


def shape_iou(first_wh: Float[Tensor, "n 2"], second_wh: Float[Tensor, "m 2"]) -> Float[Tensor, "n m"]:
    """Return intersection over union, in 0-1, of every pair of boxes laid centre on centre."""
    shared = torch.minimum(first_wh[:, None], second_wh[None]).prod(dim=-1)
    return shared / (first_wh.prod(dim=-1)[:, None] + second_wh.prod(dim=-1)[None] - shared)


def _mean_best(boxes_wh: Tensor, shapes_wh: Tensor) -> float:
    return float(shape_iou(boxes_wh, shapes_wh).amax(dim=1).mean())


def _sample(boxes_wh: Tensor) -> Tensor:
    """Return the boxes in the order of their areas, evenly spread ones where there are very many."""
    ordered = boxes_wh[boxes_wh.prod(dim=1).argsort(stable=True)]
    if len(ordered) <= _MOST_BOXES:
        return ordered
    return ordered[torch.linspace(0, len(ordered) - 1, _MOST_BOXES).round().long()]


def _clusters(boxes_wh: Tensor, count: int) -> Tensor:
    """Return the centres of clusters; one that no box is nearest to stays where it was."""
    spread = (torch.arange(count) + 0.5) / count * len(boxes_wh)
    centres = boxes_wh[spread.long()]
    nearest = torch.full((len(boxes_wh),), -1)
    for _ in range(_ROUNDS):
        now = shape_iou(boxes_wh, centres).argmax(dim=1)
        if torch.equal(now, nearest):
            break
        nearest = now
        sums = torch.zeros_like(centres).index_add(0, nearest, boxes_wh)
        counts = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres
