"""Are two lists of detections the same? Nearly equal ones are paired; what is left must lie at a decision's edge.

A box whose overlap with a better one is 0.5 within rounding may be dropped by one side and kept by the other, and so
may what it had suppressed in turn; likewise a score at the threshold, or at the end of a list that is full.
"""

from dataclasses import dataclass

import numpy as np

from trivet.geometry.boxes import pairwise_iou
from trivet.structures import Detections

MOST_PIXELS = 0.5
"""Farthest that an edge of an equal box may be away."""
MOST_SCORE = 1e-3
"""Largest difference of an equal score."""
EDGE_IOU = 0.01
"""Overlaps this near the suppressor's threshold may be decided either way."""


@dataclass(frozen=True)
class BoxComparison:
    """How two lists of detections differ.

    Args:
        pairs: Boxes that are in both.
        pixels: Largest distance of an edge among the pairs.
        scores: Largest difference of scores among the pairs.
        edge_cases: Boxes that only one side has, for a reason that is rounding.
        faults: Boxes that only one side has, in words.
    """

    pairs: int
    pixels: float
    scores: float
    edge_cases: int
    faults: tuple[str, ...]


def compare_boxes(
    wanted: Detections,
    found: Detections,
    *,
    nms_iou: float | None,
    score_threshold: float,
    most: int,
) -> BoxComparison:
    """Compare detections of one image.

    Args:
        wanted: PyTorch's.
        found: The exported file's.
        nms_iou: The suppressor's threshold; `None` before suppression.
        score_threshold: Where both lists end.
        most: How long they may be.
    """
    pairs, pixels, scores = _paired(wanted, found)
    sides = (wanted, found)
    left = [sorted(set(range(len(side))) - {pair[at] for pair in pairs}) for at, side in enumerate(sides)]
    open_ = {(at, row) for at, rows in enumerate(left) for row in rows}
    edge: set[tuple[int, int]] = set()
    while True:
        reached = {
            item for item in open_ - edge if _at_edge(item, sides, edge, nms_iou, score_threshold, most)
        }
        if not reached:
            break
        edge |= reached
    faults = tuple(_words(sides[at], row, at) for at, row in sorted(open_ - edge))
    return BoxComparison(len(pairs), pixels, scores, len(edge), faults)


def _paired(wanted: Detections, found: Detections) -> tuple[list[tuple[int, int]], float, float]:
    """Pair equal boxes, nearest first; returns the pairs and their largest differences in pixels and score."""
    if not len(wanted) or not len(found):
        return [], 0.0, 0.0
    pixels = np.abs(wanted.boxes_xyxy.numpy()[:, None] - found.boxes_xyxy.numpy()[None]).max(2)
    scores = np.abs(wanted.scores.numpy()[:, None] - found.scores.numpy()[None])
    cost = np.maximum(pixels / MOST_PIXELS, scores / MOST_SCORE)
    cost[wanted.labels.numpy()[:, None] != found.labels.numpy()[None]] = np.inf
    rows, columns = np.nonzero(cost <= 1)
    order = np.argsort(cost[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used[0] and column not in used[1]:
            pairs.append((row, column))
            used[0].add(row)
            used[1].add(column)
    if not pairs:
        return [], 0.0, 0.0
    at = tuple(np.array(pairs).T)
    return pairs, float(pixels[at].max()), float(scores[at].max())


def _at_edge(
    item: tuple[int, int],
    sides: tuple[Detections, Detections],
    edge: set[tuple[int, int]],
    nms_iou: float | None,
    score_threshold: float,
    most: int,
) -> bool:
    at, row = item
    mine, other = sides[at], sides[1 - at]
    score = float(mine.scores[row])
    if score <= score_threshold + MOST_SCORE:
        return True
    if len(other) >= most and score <= float(other.scores.min()) + MOST_SCORE:
        return True
    if nms_iou is None:
        return False
    for which, side in enumerate(sides):
        same = (side.labels == mine.labels[row]).nonzero()[:, 0]
        overlaps = pairwise_iou(mine.boxes_xyxy[row][None], side.boxes_xyxy[same])[0]
        for index, overlap in zip(same.tolist(), overlaps.tolist(), strict=True):
            if (which, index) != item and abs(overlap - nms_iou) <= EDGE_IOU:
                return True
            if (which, index) in edge and which != at and overlap >= nms_iou - EDGE_IOU:
                return True
    return False


def _words(found: Detections, row: int, at: int) -> str:
    box = ", ".join(f"{edge:.1f}" for edge in found.boxes_xyxy[row].tolist())
    side = "PyTorch" if at == 0 else "the file"
    return (
        f"only {side} has label {int(found.labels[row])} with score {float(found.scores[row]):.4f} at ({box})"
    )
