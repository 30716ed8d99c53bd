"""Where on the way from pixels to predictions a file and PyTorch begin to differ."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from trivet.data.batching import collate
from trivet.data.letterbox import letterbox
from trivet.export.assemble import Stages
from trivet.export.compare_boxes import compare_boxes
from trivet.export.facts import IMAGE
from trivet.export.network import network_outputs
from trivet.geometry.grid import AnchorGrid
from trivet.recipe.run_folder import Run
from trivet.structures import AnchorOutput, Detections, Sample
from trivet.tasks.box_task import BoxTask
from trivet.tasks.decode import area_of, decode_candidates, select_candidates

MOST_LEVELS = 1.0
"""A letterboxed pixel may be rounded the other way."""
MOST_OUTPUT = 4e-3
"""Of a logit: a quarter of it is the most that a score changes."""
LOOKED_AT = 300
"""Best candidates that are compared before suppression."""


@torch.inference_mode()
def compare_stages(run: Run, session: Any, stages: Stages, image: np.ndarray) -> tuple[dict[str, Any], ...]:
    """Return the largest difference at each stage for one image, and what it may be.

    Args:
        run: The run, on the CPU.
        session: ONNX Runtime's, of a file with its stages as outputs.
        stages: Their names.
        image: uint8 RGB `[h, w, 3]`.

    Returns:
        One `{"stage", "largest", "most"}` a stage, in order; before suppression and after it, boxes that have no
        counterpart are counted.
    """
    names = list(stages.names())
    theirs = dict(zip(names, session.run(names, {IMAGE: image[None]}), strict=True))
    size_hw = run.recipe.model.size_hw
    sample = Sample.of_image(image, image_id=0, name="image")
    batch = collate([letterbox(sample, size_hw=size_hw, fill_rgb=run.model.fill_rgb)])
    normalised = run.model.normalise(batch.images)
    outputs = network_outputs(run.model, normalised)
    rows = [
        ("letterboxed image", _away(theirs[stages.letterboxed], batch.images), MOST_LEVELS),
        (
            "normalised image",
            _away(theirs[stages.normalised], normalised),
            1.01 * MOST_LEVELS / float(255 * run.model.std.min()),
        ),
    ]
    for number, (name, wanted) in enumerate(zip(stages.outputs, outputs, strict=True)):
        rows.append((_output_name(run, number, len(outputs)), _away(theirs[name], wanted), MOST_OUTPUT))
    if isinstance(run.task, BoxTask):
        wanted_boxes = _candidates(run.task, outputs, size_hw, area_of(batch.placements[0], size_hw))
        found = Detections(*(torch.tensor(theirs[name][0]) for name in stages.candidates))
        seen = (found.scores > run.task.score_threshold).nonzero()[:LOOKED_AT, 0]
        first = Detections(found.boxes_xyxy[seen], found.scores[seen], found.labels[seen])
        difference = compare_boxes(
            wanted_boxes, first, nms_iou=None, score_threshold=run.task.score_threshold, most=LOOKED_AT
        )
        rows.append(("decoded boxes without a counterpart", float(len(difference.faults)), 0.0))
    return tuple({"stage": stage, "largest": largest, "most": most} for stage, largest, most in rows)


def worst_of(tables: list[tuple[dict[str, Any], ...]]) -> tuple[dict[str, Any], ...]:
    """Return the stages with the largest difference of several images."""
    return tuple(max(rows, key=lambda row: row["largest"]) for rows in zip(*tables, strict=True))


def first_beyond(stages: tuple[dict[str, Any], ...]) -> str | None:
    """Return the first stage whose difference is larger than it may be."""
    return next((row["stage"] for row in stages if not row["largest"] <= row["most"]), None)


def _away(found: np.ndarray, wanted: torch.Tensor) -> float:
    return float(np.abs(found.astype(np.float64) - wanted.numpy()).max(initial=0.0))


def _output_name(run: Run, number: int, count: int) -> str:
    if not isinstance(run.task, BoxTask):
        return "the network's logits"
    level = run.task.anchors.min_level + number % (count // 2)
    return f"{'class logits' if number < count // 2 else 'box deltas'} of p{level}"


def _candidates(
    task: BoxTask,
    outputs: tuple[torch.Tensor, ...],
    size_hw: tuple[int, int],
    area_xyxy: tuple[float, float, float, float],
) -> Detections:
    """Return PyTorch's best boxes before suppression."""
    levels = len(outputs) // 2
    output = AnchorOutput(outputs[:levels], outputs[levels:])
    sizes = tuple(_sizes(outputs[:levels]))
    grid = AnchorGrid(task.anchors, size_hw, sizes)
    chosen = select_candidates(
        output, 0, grid, classes=task.classes, score_threshold=task.score_threshold, most=task.candidates
    )
    found = decode_candidates(chosen, grid, area_xyxy, keep_empty=task.keep_empty_boxes)
    return Detections(*(column[:LOOKED_AT] for column in (found.boxes_xyxy, found.scores, found.labels)))


def _sizes(maps: tuple[torch.Tensor, ...]) -> Iterator[tuple[int, int]]:
    for one in maps:
        yield int(one.shape[2]), int(one.shape[3])
