"""The detection task of a YOLOv4 head: what its output costs against the truth, and what it says.

Bochkovskiy et al. 2020 (arXiv:2004.10934), section 3.4; where the paper is silent, the authors' darknet.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trivet.errors import UsageError, look_up
from trivet.geometry.anchors import AnyAnchors, SizeHW
from trivet.geometry.boxes import matched_ciou, matched_giou, matched_iou
from trivet.geometry.grid import AnchorGrid
from trivet.geometry.pixel_anchors import PixelAnchors
from trivet.structures import AnchorOutput, Batch, Detections, Placement
from trivet.tasks.assign.assignment import Assignment, JoinedTruth
from trivet.tasks.assign.shape_iou import ShapeIou
from trivet.tasks.box_task import check_limits, grid_of, predict_boxes
from trivet.tasks.suppression import Suppressor, build_suppressor
from trivet.tasks.truth import join_truth

OVERLAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ciou": matched_ciou, "giou": matched_giou}

# A box at most 62.5 times its anchor: beyond, exp() of an untrained head overflows.
_MOST_LOG = math.log(1000 / 16)
_MOST_PAIRS = 1 << 19  # (anchor, object) pairs compared at once: 4 MB for each corner of as many


class YoloTask:
    """Losses and predictions of a head with objectness and anchors in pixels.

    Args:
        classes: Labels are 0 to `classes - 1`; there is no background class.
        anchors: The anchors the head's channels stand for.
        match_threshold: IoU of the shapes, in 0-1, above which an anchor trains on an object beside the best one
            (`iou_thresh` of yolov4.cfg).
        ignore_threshold: A box that overlaps an object by more than this IoU, 0-1, though its anchor trains on none, is
            no false alarm: its objectness costs nothing (`ignore_thresh`).
        ignore_score: Only boxes with a class of at least this probability, 0-1, are let off so (0.25 in darknet).
        box_loss: `ciou` (1 - CIoU) or `giou`, a name of `OVERLAPS`.
        box_weight: Factor of the box loss. Not darknet's `iou_normalizer` of 0.07, which scales a gradient that is taken
            by the box's place in the image, without the slopes of sigmoid and cell: at 608 pixels its pull on centres is
            that of a weight of 5 (coarsest level) to 18 (finest).
        class_weight: Factor of the class loss (`cls_normalizer`).
        objectness_weight: Factor of the objectness loss (`obj_normalizer`).
        label_smoothing: Of the class targets, 0-1: e becomes the target e / 2 or 1 - e / 2.
        nms: How overlapping detections are thinned out (`tasks.suppression.SUPPRESSORS`).
        score_threshold: Predictions have scores above this, in 0-1.
        most: Predictions an image, at most.
        candidates: (anchor, class) pairs an image that are looked at, at most.
        keep_empty_boxes: Predict boxes too that have no area inside the image.

    Raises:
        UsageError: If a name is unknown or a number is out of range.
    """

    prior_count = 1.0
    has_objectness = True

    def __init__(
        self,
        classes: int,
        anchors: AnyAnchors,
        *,
        match_threshold: float = 0.213,
        ignore_threshold: float = 0.7,
        ignore_score: float = 0.25,
        box_loss: str = "ciou",
        box_weight: float = 5.0,
        class_weight: float = 1.0,
        objectness_weight: float = 1.0,
        label_smoothing: float = 0.0,
        nms: str | Suppressor = "hard",
        score_threshold: float = 0.001,
        most: int = 100,
        candidates: int = 5000,
        keep_empty_boxes: bool = False,
    ) -> None:
        check_limits(classes, most=most, candidates=candidates, score_threshold=score_threshold)
        if not isinstance(anchors, PixelAnchors):
            raise UsageError(
                f"this task's anchors are PixelAnchors, got {type(anchors).__name__}",
                "trivet.DetectionTask(classes, model.anchor_spec) is for a head without objectness",
            )
        shares = {
            "ignore_threshold": ignore_threshold,
            "ignore_score": ignore_score,
            "label_smoothing": label_smoothing,
        }
        weights = {
            "box_weight": box_weight,
            "class_weight": class_weight,
            "objectness_weight": objectness_weight,
        }
        for name, value in {**shares, **weights}.items():
            if not 0 <= value <= (1 if name in shares else math.inf) or value == math.inf:
                raise UsageError(
                    f"{name} is {'in 0-1' if name in shares else '0 or more and finite'}, got {value}"
                )
        self.classes, self.anchors = classes, anchors
        self.assign = ShapeIou(match_threshold)
        self.ignore_threshold, self.ignore_score = ignore_threshold, ignore_score
        self.overlap = look_up("box loss", box_loss, OVERLAPS)
        self.box_weight, self.class_weight, self.objectness_weight = (
            box_weight,
            class_weight,
            objectness_weight,
        )
        self.label_smoothing = label_smoothing
        self.nms = build_suppressor(nms)
        self.score_threshold, self.most, self.candidates = score_threshold, most, candidates
        self.keep_empty_boxes = keep_empty_boxes

    def losses(
        self,
        output: AnchorOutput,
        batch: Batch,
        *,
        normaliser: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what a batch costs, as float32 scalars: "loss" (to be differentiated), "class", "box", "objectness", "positives".

        "loss" is the weighted sum of the three, each a sum over the batch divided by its positives + 1: binary cross
        entropy of every anchor's objectness but those let off, of the positives' classes, and 1 - CIoU of their boxes.

        Args:
            output: What the model said of `batch.images`.
            batch: Images with their truth.
            normaliser: Turns the batch's count of positives into what the losses are divided by; see
                `DetectionTask.losses`.

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
            let_off = self.let_off(output, truth, grid)
        positives = torch.tensor(float(len(assigned.anchors)), device=device)
        divisor = positives + 1 if normaliser is None else normaliser(positives)
        objectness = _objectness_loss(output, assigned, let_off) / divisor
        classes = self._class_loss(output, assigned, grid) / divisor
        boxes = self._box_loss(output, assigned, grid) / divisor
        total = self.objectness_weight * objectness + self.class_weight * classes + self.box_weight * boxes
        return {
            "loss": total,
            "class": classes.detach(),
            "box": boxes.detach(),
            "objectness": objectness.detach(),
            "positives": positives,
        }

    def predict(
        self,
        output: AnchorOutput,
        size_hw: SizeHW,
        *,
        placements: Sequence[Placement] | None = None,
    ) -> tuple[Detections, ...]:
        """Return the detections of each image in pixels of the input, best first.

        A score is the probability of there being an object times that of the class.

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

    @torch.no_grad()
    def let_off(self, output: AnchorOutput, truth: JoinedTruth, grid: AnchorGrid) -> Tensor:
        """Return bool `[b, a]`: the anchors whose box, if it has a likely class, overlaps an object well enough.

        Nothing is selected by what the model says, only weighed: the work depends on the number of objects alone.
        """
        classes = [
            _in_grid_order(logits.unflatten(1, (grid.spec.per_cell, -1)).amax(dim=2)[:, :, None])
            for logits in output.class_logits
        ]
        likely = torch.cat(classes, dim=1)[..., 0].float().sigmoid() > self.ignore_score  # (b, a)
        codes = [_in_grid_order(deltas.unflatten(1, (grid.spec.per_cell, 4))) for deltas in output.box_deltas]
        box_deltas = torch.cat(codes, dim=1).float()  # (b, a, 4)
        numbers = torch.arange(box_deltas.shape[:2].numel(), device=box_deltas.device)
        boxes = grid.decode(box_deltas.flatten(0, 1), numbers, most_log=_MOST_LOG).view_as(box_deltas)
        met = torch.zeros_like(likely)
        counts = torch.bincount(truth.image, minlength=truth.images).tolist()  # objects lie image by image
        for image, objects in enumerate(truth.boxes_xyxy.split(counts)):
            if len(objects):
                met[image] = _best_iou(boxes[image], objects) > self.ignore_threshold
        return met & likely

    def _class_loss(self, output: AnchorOutput, assigned: Assignment, grid: AnchorGrid) -> Tensor:
        """Return the sum over the positive anchors and all classes."""
        rows, logits = _at(output.class_logits, assigned.anchors, grid, self.classes)
        ordered, order = assigned.anchors[rows].sort()
        targets = torch.full_like(logits, self.label_smoothing / 2)
        place = order[torch.searchsorted(ordered, assigned.class_anchors)]
        targets[place, assigned.class_labels] = 1 - self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")

    def _box_loss(self, output: AnchorOutput, assigned: Assignment, grid: AnchorGrid) -> Tensor:
        """Return the sum over the positive anchors."""
        rows, codes = _at(output.box_deltas, assigned.anchors, grid, 4)
        boxes = grid.decode(codes, assigned.anchors[rows], most_log=_MOST_LOG)
        return (1 - self.overlap(boxes, assigned.boxes_xyxy[rows])).sum()


def _objectness_loss(output: AnchorOutput, assigned: Assignment, let_off: Tensor) -> Tensor:
    """Return the sum over all anchors: those that train on an object are to say so, others, but those let off, not."""
    logits = torch.cat([_in_grid_order(maps[:, :, None])[..., 0] for maps in output.objectness], dim=1)
    targets = torch.zeros_like(logits, dtype=torch.float32).flatten()
    targets[assigned.anchors] = 1
    targets = targets.view_as(logits)
    costs = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return torch.where(let_off & (targets == 0), 0.0, costs).sum()


def _in_grid_order(maps: Tensor) -> Tensor:
    """Return a level's maps `[b, slots, k, h, w]` as `[b, cells * slots, k]`, as anchors are numbered."""
    return maps.permute(0, 3, 4, 1, 2).flatten(1, 3)


def _at(maps: Sequence[Tensor], anchors: Tensor, grid: AnchorGrid, count: int) -> tuple[Tensor, Tensor]:
    """Return float32 `[p, count]`, what the maps hold of each anchor, level by level, and which rows those are."""
    rows_of_level = grid.by_level(anchors)
    found = []
    for level, rows in enumerate(rows_of_level):
        at = grid.cells(level, anchors[rows])
        channels = at.slot[:, None] * count + torch.arange(count, device=rows.device)
        found.append(at.of(maps[level], channels).float())
    return torch.cat(rows_of_level), torch.cat(found)


def _best_iou(boxes_xyxy: Tensor, objects_xyxy: Tensor) -> Tensor:
    """Return the highest IoU of each box with any of the objects, in 0-1."""
    parts = objects_xyxy.split(max(1, _MOST_PAIRS // len(boxes_xyxy)))
    best = [matched_iou(boxes_xyxy[:, None], part[None]).amax(dim=1) for part in parts]
    return torch.stack(best).amax(dim=0)
