"""The detection task: what an anchor head's output costs against the truth, and what it says."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, SizeHW, level_sizes_hw
from trivet.geometry.grid import AnchorGrid
from trivet.structures import AnchorOutput, Batch, Detections, Placement
from trivet.tasks.assign import build_assigner
from trivet.tasks.assign.assignment import Assigner, Assignment
from trivet.tasks.decode import area_of, check_finite, decode_candidates, select_candidates
from trivet.tasks.losses import build_box_loss, build_class_loss
from trivet.tasks.losses.box import BoxLoss, HuberLoss
from trivet.tasks.losses.focal import ClassLoss
from trivet.tasks.suppression import Suppressor, build_suppressor
from trivet.tasks.truth import join_truth


class DetectionTask:
    """Losses and predictions of an anchor head; each part is a name of its table or an object.

    Args:
        classes: Labels are 0 to `classes - 1`; there is no background class.
        anchors: The anchors the head's channels stand for.
        assign: Which anchors train on an object (`tasks.assign.ASSIGNERS`).
        class_loss: Loss of the class logits (`tasks.losses.CLASS_LOSSES`).
        label_smoothing: Smoothing, 0-1, of a class loss given by name.
        box_loss: Loss of the positives' boxes (`tasks.losses.BOX_LOSSES`).
        box_weight: Factor of the box loss beside the class loss; the loss's own when not given.
        nms: How overlapping detections are thinned out (`tasks.suppression.SUPPRESSORS`).
        score_threshold: Predictions have scores above this, in 0-1.
        most: Predictions an image, at most.
        candidates: (anchor, class) pairs an image that are looked at, at most.
        keep_empty_boxes: Predict boxes too that have no area inside the image.

    Raises:
        UsageError: If a name is unknown or a number is out of range.
    """

    prior_count = 1.0

    def __init__(
        self,
        classes: int,
        anchors: AnchorSpec,
        *,
        assign: str | Assigner = "fair_iou",
        class_loss: str | ClassLoss = "focal",
        label_smoothing: float = 0.0,
        box_loss: str | BoxLoss = "huber",
        box_weight: float | None = None,
        nms: str | Suppressor = "hard",
        score_threshold: float = 0.001,
        most: int = 100,
        candidates: int = 5000,
        keep_empty_boxes: bool = False,
    ) -> None:
        if classes < 1 or most < 1 or candidates < 1 or not 0 <= score_threshold < 1:
            raise UsageError(
                "a detection task needs at least one class, prediction and candidate and a score threshold in 0-1, "
                f"got classes={classes}, most={most}, candidates={candidates}, score_threshold={score_threshold}"
            )
        self.classes, self.anchors = classes, anchors
        self.assign = build_assigner(assign)
        self.class_loss = build_class_loss(class_loss, smoothing=label_smoothing)
        self.box_loss = build_box_loss(box_loss)
        self.box_weight = self.box_loss.weight if box_weight is None else box_weight
        self.nms = build_suppressor(nms)
        self.score_threshold, self.most, self.candidates = score_threshold, most, candidates
        self.keep_empty_boxes = keep_empty_boxes

    @classmethod
    def like_effdet(cls, classes: int, anchors: AnchorSpec, **options: Any) -> "DetectionTask":
        """Make the task that agrees with effdet 0.4.1 to the last positive anchor, for comparisons with it.

        Objects may lose all their anchors to a twin or train one they do not touch, box numbers whose target is
        exactly 0 do not train, and boxes without area are predicted.
        """
        parity: dict[str, Any] = {
            "assign": "argmax_iou",
            "box_loss": HuberLoss(skip_zero_targets=True),
            "keep_empty_boxes": True,
        }
        return cls(classes, anchors, **(parity | options))

    def losses(
        self,
        output: AnchorOutput,
        batch: Batch,
        *,
        normaliser: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what a batch costs, as float32 scalars: "loss" (to be differentiated), "class", "box", "positives".

        "loss" is class + `box_weight` * box; both are sums over the batch divided by its positives + 1, so that
        images without objects count, and no more than others.

        Args:
            output: What the model said of `batch.images`.
            batch: Images with their truth.
            normaliser: Turns the batch's count of positives into what the losses are divided by. Several
                processes that average gradients give (positives of all + 1) / processes.

        Raises:
            DataError: If the truth is faulty; the message names the image.
            UsageError: If the output does not fit the anchors or the images.
        """
        height, width = batch.images.shape[-2:]
        grid = self._grid_of(output, (height, width), len(batch))
        device = output.class_logits[0].device
        with torch.no_grad():
            truth = join_truth(batch.box_targets, batch.names, self.classes, device)
            assigned = self.assign(truth, grid)
        positives = torch.tensor(float(len(assigned.anchors)), device=device)
        divisor = positives + 1 if normaliser is None else normaliser(positives)
        class_loss = self._class_loss(output, assigned, grid) / divisor
        box_loss = self._box_loss(output, assigned, grid) / divisor
        total = class_loss + self.box_weight * box_loss
        return {"loss": total, "class": class_loss.detach(), "box": box_loss.detach(), "positives": positives}

    @torch.no_grad()
    def predict(
        self,
        output: AnchorOutput,
        size_hw: SizeHW,
        *,
        placements: Sequence[Placement] | None = None,
    ) -> tuple[Detections, ...]:
        """Return the detections of each image in pixels of the input, best first.

        Args:
            output: What the model said.
            size_hw: Size of the images the model saw.
            placements: Where each original image lies in the input: boxes are cut at its border there rather
                than at that of the input.

        Raises:
            TrainingError: If the output holds NaN or infinite values.
            UsageError: If the output does not fit the anchors or the size.
        """
        images = len(output.class_logits[0])
        grid = self._grid_of(output, size_hw, images)
        check_finite(output)
        placed = [None] * images if placements is None else placements
        return tuple(
            self._predict_one(output, i, grid, area_of(placement, size_hw))
            for i, placement in enumerate(placed)
        )

    def _predict_one(
        self, output: AnchorOutput, image: int, grid: AnchorGrid, area_xyxy: Sequence[float]
    ) -> Detections:
        candidates = select_candidates(
            output,
            image,
            grid,
            classes=self.classes,
            score_threshold=self.score_threshold,
            most=self.candidates,
        )
        found = decode_candidates(candidates, grid, area_xyxy, keep_empty=self.keep_empty_boxes)
        return self.nms(found, score_threshold=self.score_threshold, most=self.most)

    def _class_loss(self, output: AnchorOutput, assigned: Assignment, grid: AnchorGrid) -> Tensor:
        sums = []
        for level, rows in enumerate(grid.by_level(assigned.class_anchors)):
            at = grid.cells(level, assigned.class_anchors[rows])
            channels = at.slot * self.classes + assigned.class_labels[rows]
            sums.append(self.class_loss(output.class_logits[level], (at.image, channels, at.y, at.x)))
        return torch.stack(sums).sum()

    def _box_loss(self, output: AnchorOutput, assigned: Assignment, grid: AnchorGrid) -> Tensor:
        rows_of_level = grid.by_level(assigned.anchors)
        codes = []
        for level, rows in enumerate(rows_of_level):
            at = grid.cells(level, assigned.anchors[rows])
            channels = at.slot[:, None] * 4 + torch.arange(4, device=rows.device)
            codes.append(at.of(output.box_deltas[level], channels).float())
        rows = torch.cat(rows_of_level)
        anchors_xyxy = grid.anchors_xyxy(rows.device)[assigned.anchors[rows] % grid.count]
        return self.box_loss(torch.cat(codes), anchors_xyxy, assigned.boxes_xyxy[rows])

    def _grid_of(self, output: AnchorOutput, size_hw: SizeHW, images: int) -> AnchorGrid:
        """Lay the anchors over an output, or say why they do not fit."""
        wanted = level_sizes_hw(self.anchors, size_hw)
        levels = f"levels {self.anchors.min_level} to {self.anchors.max_level}"
        if len(output.class_logits) != len(wanted):
            raise UsageError(
                f"anchors of {levels} need an output of {len(wanted)} levels, got {len(output.class_logits)}",
                "give the model and the task the same anchors",
            )
        channels = self.anchors.per_cell * self.classes, self.anchors.per_cell * 4
        for level, maps in enumerate(zip(output.class_logits, output.box_deltas, strict=True)):
            for kind, values, count in zip(("class logits", "box deltas"), maps, channels, strict=True):
                given, cells = tuple(values.shape), wanted[level]
                # some backbones round down where others round up: one cell either way is a fit
                near = all(abs(have - want) <= 1 for have, want in zip(given[2:], cells, strict=True))
                if given[:2] != (images, count) or not near or given[2:] != tuple(maps[0].shape[2:]):
                    raise UsageError(
                        f"the {kind} of level {self.anchors.min_level + level} are {given}, but {images} images of "
                        f"{size_hw[0]} x {size_hw[1]} with {self.anchors.per_cell} anchors a cell and "
                        f"{self.classes} classes need {(images, count, *cells)}",
                        "give the model and the task the same anchors and classes, and `size_hw` as (height, width)",
                    )
        sizes = tuple((maps.shape[2], maps.shape[3]) for maps in output.class_logits)
        return AnchorGrid(self.anchors, (int(size_hw[0]), int(size_hw[1])), sizes)
