"""From the raw maps of an anchor head to scored boxes, before overlapping ones are thinned out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from trivet.errors import TrainingError
from trivet.geometry.grid import AnchorGrid
from trivet.models.kernels.above import all_finite, positions_above
from trivet.structures import AnchorOutput, Detections, Placement


@dataclass(frozen=True)
class Candidates:
    """The best (anchor, class) pairs of one image.

    Args:
        anchors: Positions in the grid's anchors.
        labels: From 0.
        logits: Their class logits, best first.
        box_deltas: Their anchors' box codes.
    """

    anchors: Int64[Tensor, " n"]
    labels: Int64[Tensor, " n"]
    logits: Float[Tensor, " n"]
    box_deltas: Float[Tensor, "n 4"]


def check_finite(output: AnchorOutput) -> None:
    """Refuse an output from which nothing can be decoded.

    Raises:
        TrainingError: If any of its values is NaN or infinite.
    """
    maps = [*output.class_logits, *output.box_deltas, *output.objectness]
    if maps[0].device.type == "cpu":
        fine = all(map(all_finite, maps))
    else:  # one pass without temporaries and one wait for the device
        fine = bool(torch.stack([values.sum(dtype=torch.float32) for values in maps]).isfinite().all())
    if fine:
        return
    bad = [int((~values.isfinite()).sum()) for values in maps]
    if any(bad):
        levels = len(output.class_logits)
        objectness = f" and {bad[2 * levels :]} objectness logits" if output.objectness else ""
        raise TrainingError(
            f"the model's output is not finite: by level, {bad[:levels]} class logits and "
            f"{bad[levels : 2 * levels]} box deltas{objectness} are NaN or infinite",
            "its weights have diverged; go back to earlier weights and train with a lower learning rate",
        )


def with_objectness(output: AnchorOutput) -> AnchorOutput:
    """Return an output whose class logits are those of the scores, in float32: what `objectness` said is in them.

    A score is sigmoid(o) sigmoid(c); its logit is -log(exp(-o) + exp(-c) + exp(-o - c)), which neither overflows nor
    rounds a score to 0 or 1.
    """
    if not output.objectness:
        return output
    levels = zip(output.class_logits, output.objectness, strict=True)
    return AnchorOutput(tuple(_joined(c.float(), o.float()) for c, o in levels), output.box_deltas)


def _joined(class_logits: Tensor, objectness: Tensor) -> Tensor:
    no_class = -class_logits.unflatten(1, (objectness.shape[1], -1))  # (b, anchors, classes, h, w)
    no_object = -objectness[:, :, None]
    return -_log_add(_log_add(no_object, no_class), no_object + no_class).flatten(1, 2)


def _log_add(first: Tensor, second: Tensor) -> Tensor:
    """Return log(exp(first) + exp(second)), written with operators that every runtime computes without overflow."""
    return torch.maximum(first, second) + F.softplus(-(first - second).abs())


def select_candidates(
    output: AnchorOutput, image: int, grid: AnchorGrid, *, classes: int, score_threshold: float, most: int
) -> Candidates:
    """Return the (anchor, class) pairs of an image with a score above the threshold, at most `most`, best first."""
    threshold = math.log(score_threshold / (1 - score_threshold)) if score_threshold > 0 else -math.inf
    found = []
    for level, (logits, deltas) in enumerate(zip(output.class_logits, output.box_deltas, strict=True)):
        values, positions = _above(_by_pixel(logits[image]).flatten(), threshold, most)
        anchors, label = positions // classes, positions % classes
        codes = _by_pixel(deltas[image]).reshape(-1, 4)[anchors]
        found.append((grid.starts[level] + anchors, label, values.float(), codes.float()))
    anchors, labels, values, codes = (torch.cat(column) for column in zip(*found, strict=True))
    best = values.argsort(descending=True, stable=True)[:most]
    return Candidates(anchors[best], labels[best], values[best], codes[best])


def _by_pixel(level: Tensor) -> Tensor:
    """Return a map `[c, h, w]` in the order of the anchors; nothing is moved where it lies channels last."""
    return level.permute(1, 2, 0)


def _above(values: Tensor, threshold: float, most: int) -> tuple[Tensor, Tensor]:
    """Return the `most` highest values above a threshold and their positions, in no certain order."""
    positions = positions_above(values, threshold)
    if positions is None:  # an untrained head: sorting out few first would only cost
        values, positions = values.topk(min(most, len(values)), sorted=False)
        rows = (values > threshold).nonzero()[:, 0]
        return values[rows], positions[rows]
    values = values[positions]
    if len(values) > most:
        values, rows = values.topk(most, sorted=False)
        positions = positions[rows]
    return values, positions


def decode_candidates(
    candidates: Candidates, grid: AnchorGrid, area_xyxy: Sequence[float], *, keep_empty: bool = False
) -> Detections:
    """Return the candidates as detections, cut at an area of the input; those outside it go.

    Args:
        candidates: The best pairs of one image.
        grid: The anchors of the input.
        area_xyxy: Where the image lies in the input, in pixels.
        keep_empty: Keep boxes that have no area in there.
    """
    boxes_xyxy = grid.decode(candidates.box_deltas, candidates.anchors)
    left, top, right, bottom = area_xyxy
    boxes_xyxy = boxes_xyxy.maximum(boxes_xyxy.new_tensor([left, top, left, top]))
    boxes_xyxy = boxes_xyxy.minimum(boxes_xyxy.new_tensor([right, bottom, right, bottom]))
    scores, labels = candidates.logits.sigmoid(), candidates.labels
    if not keep_empty:
        x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
        seen = ((x2 > x1) & (y2 > y1)).nonzero()[:, 0]
        boxes_xyxy, scores, labels = boxes_xyxy[seen], scores[seen], labels[seen]
    return Detections(boxes_xyxy, scores, labels)


def area_of(placement: Placement | None, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return where the image lies in the input, as (left, top, right, bottom) pixels: all of it without a placement."""
    height, width = size_hw
    if placement is None:
        return 0.0, 0.0, float(width), float(height)
    original = torch.tensor([[0.0, 0.0, placement.original_hw[1], placement.original_hw[0]]])
    left, top, right, bottom = placement.from_original(original)[0].tolist()
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
