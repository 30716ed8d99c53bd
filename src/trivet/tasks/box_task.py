"""What the tasks of detection share: how an output fits the anchors, and how boxes are read from it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnyAnchors, SizeHW, level_sizes_hw
from trivet.geometry.grid import AnchorGrid
from trivet.structures import AnchorOutput, Detections, Placement
from trivet.tasks.decode import (
    area_of,
    check_finite,
    decode_candidates,
    select_candidates,
    with_objectness,
)
from trivet.tasks.suppression import Suppressor


@runtime_checkable
class BoxTask(Protocol):
    """A task whose predictions are boxes.

    Attributes:
        classes: Labels are 0 to `classes - 1`.
        anchors: The anchors the head's channels stand for.
        nms: How overlapping detections are thinned out.
        score_threshold: Predictions have scores above this, in 0-1.
        most: Predictions an image, at most.
        candidates: (anchor, class) pairs an image that are looked at, at most.
        keep_empty_boxes: Predict boxes too that have no area inside the image.
        prior_count: Added to the positives that losses are divided by.
    """

    classes: int
    nms: Suppressor
    score_threshold: float
    most: int
    candidates: int
    keep_empty_boxes: bool
    prior_count: float

    @property
    def anchors(self) -> AnyAnchors:
        """The anchors the head's channels stand for."""

    @property
    def has_objectness(self) -> bool:
        """Whether the head says apart from the classes if there is an object."""


def check_limits(classes: int, *, most: int, candidates: int, score_threshold: float) -> None:
    """Refuse numbers that leave nothing to predict.

    Raises:
        UsageError: If one is out of range.
    """
    if classes < 1 or most < 1 or candidates < 1 or not 0 <= score_threshold < 1:
        raise UsageError(
            "a detection task needs at least one class, prediction and candidate and a score threshold in 0-1, "
            f"got classes={classes}, most={most}, candidates={candidates}, score_threshold={score_threshold}"
        )


def grid_of(task: BoxTask, output: AnchorOutput, size_hw: SizeHW, *, images: int) -> AnchorGrid:
    """Lay a task's anchors over an output.

    Args:
        task: Its classes and anchors.
        output: What the model said.
        size_hw: Size of the images the model saw.
        images: How many.

    Raises:
        UsageError: If they do not fit.
    """
    anchors = task.anchors
    wanted = level_sizes_hw(anchors, size_hw)
    levels = f"levels {anchors.min_level} to {anchors.max_level}"
    if len(output.class_logits) != len(wanted):
        raise UsageError(
            f"anchors of {levels} need an output of {len(wanted)} levels, got {len(output.class_logits)}",
            "give the model and the task the same anchors",
        )
    if bool(output.objectness) != task.has_objectness:
        raise UsageError(
            f"the head's output {'has' if output.objectness else 'lacks'} objectness, and "
            f"{type(task).__name__} wants one {'with' if task.has_objectness else 'without'}",
            "give the task the model's own anchors, model.anchor_spec",
        )
    kinds = [("class logits", output.class_logits, anchors.per_cell * task.classes)]
    kinds.append(("box deltas", output.box_deltas, anchors.per_cell * 4))
    if output.objectness:
        kinds.append(("objectness logits", output.objectness, anchors.per_cell))
    for level, cells in enumerate(wanted):
        for kind, maps, count in kinds:
            given, first = tuple(maps[level].shape), tuple(output.class_logits[level].shape[2:])
            # some backbones round down where others round up: one cell either way is a fit
            near = all(abs(have - want) <= 1 for have, want in zip(given[2:], cells, strict=True))
            if given[:2] != (images, count) or not near or given[2:] != first:
                raise UsageError(
                    f"the {kind} of level {anchors.min_level + level} are {given}, but {images} images of "
                    f"{size_hw[0]} x {size_hw[1]} with {anchors.per_cell} anchors a cell and "
                    f"{task.classes} classes need {(images, count, *cells)}",
                    "give the model and the task the same anchors and classes, and `size_hw` as (height, width)",
                )
    sizes = tuple((maps.shape[2], maps.shape[3]) for maps in output.class_logits)
    return AnchorGrid(anchors, (int(size_hw[0]), int(size_hw[1])), sizes)


@torch.no_grad()
def predict_boxes(
    task: BoxTask,
    output: AnchorOutput,
    size_hw: SizeHW,
    *,
    placements: Sequence[Placement] | None = None,
) -> tuple[Detections, ...]:
    """Return the detections of each image in pixels of the input, best first; see `DetectionTask.predict`.

    Raises:
        TrainingError: If the output holds NaN or infinite values.
        UsageError: If the output does not fit the anchors or the size.
    """
    images = len(output.class_logits[0])
    grid = grid_of(task, output, size_hw, images=images)
    check_finite(output)
    scored = with_objectness(output)
    placed = [None] * images if placements is None else placements
    return tuple(
        _predict_one(task, scored, i, grid, area_of(placement, size_hw)) for i, placement in enumerate(placed)
    )


def _predict_one(
    task: BoxTask, scored: AnchorOutput, image: int, grid: AnchorGrid, area_xyxy: Sequence[float]
) -> Detections:
    candidates = select_candidates(
        scored,
        image,
        grid,
        classes=task.classes,
        score_threshold=task.score_threshold,
        most=task.candidates,
    )
    found = decode_candidates(candidates, grid, area_xyxy, keep_empty=task.keep_empty_boxes)
    return task.nms(found, score_threshold=task.score_threshold, most=task.most)
