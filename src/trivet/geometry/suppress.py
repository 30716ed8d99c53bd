"""Suppression: of boxes that overlap and say the same class, keep the best (hard) or fade the others (soft)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.ops import batched_nms

from trivet.geometry.boxes import matched_iou


def hard_nms(
    boxes_xyxy: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    groups: Int64[Tensor, " n"],
    *,
    iou: float = 0.5,
    most: int | None = None,
) -> Int64[Tensor, " k"]:
    """Return which boxes stay, best first: those that no better box of their group overlaps by more than `iou`.

    Args:
        boxes_xyxy: Boxes in any unit.
        scores: The higher, the better.
        groups: Only boxes of one group suppress each other: the label, or all zeros to ignore classes.
        iou: Overlap in 0-1 above which the worse box goes.
        most: How many boxes stay at most.
    """
    return batched_nms(boxes_xyxy, scores, groups, iou)[:most]


def soft_nms(
    boxes_xyxy: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    groups: Int64[Tensor, " n"],
    *,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    most: int = 100,
) -> tuple[Int64[Tensor, " k"], Float[Tensor, " k"]]:
    """Return which boxes stay, best first, and their faded scores (gaussian Soft-NMS, Bodla et al. 2017, eq. 3).

    Scores only ever fall, so the first `most` picks are final and the rest need not be looked at.

    Args:
        boxes_xyxy: Boxes in any unit.
        scores: In 0-1.
        groups: Only boxes of one group fade each other: the label, or all zeros to ignore classes.
        sigma: Width of the gaussian: a box that overlaps a better one by `o` is multiplied by exp(-o^2 / sigma).
        score_threshold: Boxes whose score is not above this go.
        most: How many boxes stay at most.
    """
    left = scores.clone()
    picks = torch.zeros(min(most, len(scores)), dtype=torch.int64, device=scores.device)
    picked_scores = scores.new_zeros(len(picks))
    for turn in range(len(picks)):  # no `.item()` in here: on a GPU nothing waits
        score, best = left.max(dim=0)
        picks[turn], picked_scores[turn] = best, score
        overlap = matched_iou(boxes_xyxy[best][None], boxes_xyxy)
        fade = torch.exp(-(overlap**2) / sigma)
        left *= torch.where(groups == groups[best], fade, torch.ones_like(fade))
        left[best] = -1
    stay = picked_scores > score_threshold
    return picks[stay], picked_scores[stay]
