"""The detection task: what an anchor head's output costs against the truth, and what it says."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, AnyAnchors, SizeHW
from trivet.geometry.grid import AnchorGrid
from trivet.structures import AnchorOutput, Batch, Detections, Placement
from trivet.tasks.assign import build_assigner
from trivet.tasks.assign.assignment import Assigner, Assignment
from trivet.tasks.box_task import check_limits, grid_of, predict_boxes
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
    has_objectness = False

    def __init__(
        self,
        classes: int,
        anchors: AnyAnchors,
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
        check_limits(classes, most=most, candidates=candidates, score_threshold=score_threshold)
        if not isinstance(anchors, AnchorSpec):
            raise UsageError(
                f"this task's anchors are an AnchorSpec, got {type(anchors).__name__}",
                "trivet.YoloTask(classes, model.anchor_spec) is for a head with anchors in pixels",
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
    def like_effdet(cls, classes: int, anchors: AnyAnchors, **options: Any) -> "DetectionTask":
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
        grid = grid_of(self, output, (height, width), images=len(batch))
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
        return predict_boxes(self, output, size_hw, placements=placements)

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
