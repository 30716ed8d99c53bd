"""Proof that an exported file says what PyTorch says, image by image and as a score."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from trivet.data.dataset import Dataset
from trivet.evaluate.classification import evaluate_classification
from trivet.evaluate.detection import evaluate_detection
from trivet.evaluate.mask_counts import SegmentationCounts
from trivet.evaluate.segmentation import evaluate_segmentation
from trivet.export.compare_boxes import MOST_PIXELS, MOST_SCORE, compare_boxes
from trivet.recipe.backends import Backend, Found
from trivet.recipe.run_folder import AnyTask
from trivet.structures import ClassScores, Detections, MaskScores, PredictionTable
from trivet.tasks.box_task import BoxTask
from trivet.tasks.suppression import HardNms

MOST_LOSS = 1e-4
"""Largest difference of the score on the whole split."""
MOST_PIXEL_SHARE = 1e-4
"""Share of an image's pixels whose label may differ: those where two classes are equally likely within rounding."""

SCORE_NAMES = {"detection": "mAP", "segmentation": "mIoU", "classification": "top-1 accuracy"}


@dataclass
class Differences:
    """What differs between PyTorch and the file, the largest of each over all images.

    Args:
        images: How many were compared.
        objects: Boxes, pixels or images that are equal.
        pixels: Distance of a box's edge, in pixels of the image.
        scores: Difference of a score.
        labels: Share of an image's pixels with another label.
        edge_cases: Boxes that one side has and the other not, because of rounding at a threshold.
        faults: What is not equal, in words; each names its image.
        first_fault: Position of the first image with one.
    """

    images: int = 0
    objects: int = 0
    pixels: float = 0.0
    scores: float = 0.0
    labels: float = 0.0
    edge_cases: int = 0
    faults: list[str] = field(default_factory=list)
    first_fault: int | None = None

    def add(self, index: int, name: str, wanted: Found, found: Found, task: AnyTask) -> None:
        """Compare what the two said of an image."""
        self.images += 1
        if isinstance(wanted, Detections) and isinstance(found, Detections):
            faults = self._add_boxes(wanted, found, task)
        elif isinstance(wanted, MaskScores) and isinstance(found, MaskScores):
            faults = self._add_masks(wanted, found)
        else:
            assert isinstance(wanted, ClassScores), "both are of one task"
            assert isinstance(found, ClassScores), "both are of one task"
            faults = self._add_classes(wanted, found)
        if faults and self.first_fault is None:
            self.first_fault = index
        self.faults += [f"{name}: {fault}" for fault in faults]

    def _add_boxes(self, wanted: Detections, found: Detections, task: AnyTask) -> tuple[str, ...]:
        assert isinstance(task, BoxTask), "boxes are of this task"
        assert isinstance(task.nms, HardNms), "others cannot be exported"
        difference = compare_boxes(
            wanted, found, nms_iou=task.nms.iou, score_threshold=task.score_threshold, most=task.most
        )
        self.objects += difference.pairs
        self.pixels = max(self.pixels, difference.pixels)
        self.scores = max(self.scores, difference.scores)
        self.edge_cases += difference.edge_cases
        return difference.faults

    def _add_masks(self, wanted: MaskScores, found: MaskScores) -> tuple[str, ...]:
        same = wanted.labels == found.labels
        away = float((wanted.scores - found.scores).abs().max())
        other = 1 - float(same.float().mean())
        self.objects += int(same.sum())
        self.scores, self.labels = max(self.scores, away), max(self.labels, other)
        faults = []
        if other > MOST_PIXEL_SHARE:
            faults.append(f"{other:.3%} of the pixels have another label")
        if away > MOST_SCORE:
            faults.append(f"the scores differ by up to {away:.2g}")
        return tuple(faults)

    def _add_classes(self, wanted: ClassScores, found: ClassScores) -> tuple[str, ...]:
        away = float((wanted.scores - found.scores).abs().max())
        self.objects, self.scores = self.objects + 1, max(self.scores, away)
        return (f"the scores differ by up to {away:.2g}",) if away > MOST_SCORE else ()


@dataclass(frozen=True)
class Proof:
    """What was measured of an exported file beside PyTorch.

    Args:
        task: What it predicts.
        split: Where the images are from.
        precision: `fp32` must be equal; `int8` may lose a stated amount of the score.
        differences: Image by image.
        score_torch: mAP, mIoU or top-1 accuracy on the split, 0-1.
        score_file: The same of the file.
        most_loss: What the score may lose.
        ms_torch: Milliseconds an image in memory, median, one at a time.
        ms_file: The same of the file.
        stages: Largest difference at each stage on the way, with what it may be.
        first_stage: The first stage whose difference is too large.
        ms_fp32: Milliseconds of the file before quantisation.
    """

    task: str
    split: str
    precision: str
    differences: Differences
    score_torch: float
    score_file: float
    most_loss: float
    ms_torch: float
    ms_file: float
    stages: tuple[dict[str, Any], ...] = ()
    first_stage: str | None = None
    ms_fp32: float | None = None

    @property
    def loss(self) -> float:
        """What the score lost."""
        return self.score_torch - self.score_file

    @property
    def passed(self) -> bool:
        """Whether the file may be used."""
        if self.precision != "fp32":
            return self.loss <= self.most_loss
        return not self.differences.faults and abs(self.loss) <= self.most_loss

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self) | {"loss": self.loss, "passed": self.passed}

    def text(self) -> str:
        """Return everything in words."""
        found, name = self.differences, SCORE_NAMES[self.task]
        lines = [
            f"{'passed' if self.passed else 'FAILED'}: the file beside PyTorch on {found.images} images ({self.split})",
            f"{name}: {self.score_torch:.6f} PyTorch, {self.score_file:.6f} file"
            f" (loss {self.loss:+.6f}, at most {self.most_loss:g})",
            self._time_text(),
        ]
        if self.precision == "fp32":
            lines.append(self._equality_text())
        if self.stages:
            lines.append("largest difference by stage:")
            lines += [
                f"  {row['stage']}: {row['largest']:.2g} (at most {row['most']:g})" for row in self.stages
            ]
        if self.first_stage is not None:
            lines.append(f"the first that differs too much: {self.first_stage}")
        if self.precision == "fp32":  # an 8-bit file's boxes are others, and its score says what that costs
            lines += found.faults[:20]
            if len(found.faults) > 20:
                lines.append(f"... and {len(found.faults) - 20} more")
        return "\n".join(lines)

    def _time_text(self) -> str:
        told = f"time an image: {self.ms_torch:.1f} ms PyTorch, {self.ms_file:.1f} ms file"
        if self.ms_fp32 is None:
            return told
        told += f", {self.ms_fp32:.1f} ms before quantisation"
        gain = self.ms_fp32 / self.ms_file
        return told + (f": {gain:.1f} times as fast" if gain >= 1.05 else ": it gains no time here")

    def _equality_text(self) -> str:
        found = self.differences
        if self.task == "detection":
            return (
                f"{found.objects} boxes equal: edges within {found.pixels:.4f} px (at most {MOST_PIXELS}), scores within "
                f"{found.scores:.2g} (at most {MOST_SCORE}); {found.edge_cases} decided the other way by rounding"
            )
        if self.task == "segmentation":
            return (
                f"{found.objects} pixels equal; at most {found.labels:.4%} of an image's differ (at most "
                f"{MOST_PIXEL_SHARE:.2%}), scores within {found.scores:.2g} (at most {MOST_SCORE})"
            )
        return f"scores within {found.scores:.2g} (at most {MOST_SCORE})"


def compare_on(
    dataset: Dataset,
    torch_side: Backend,
    file_side: Backend,
    task: AnyTask,
    progress: Callable[[int], None] | None = None,
) -> tuple[Differences, float, float, float, float]:
    """Predict every image of a split with both, by turns.

    Returns:
        The differences, both scores and both medians of milliseconds an image.
    """
    differences = Differences()
    sides = (torch_side, file_side)
    scorers = [_Scorer(dataset) for _ in sides]
    seconds: tuple[list[float], list[float]] = ([], [])
    for index in range(len(dataset)):
        image = dataset.image(index)
        said = []
        for side, scorer, times in zip(sides, scorers, seconds, strict=True):
            begun = time.perf_counter()
            found = side.predict([image])[0]
            times.append(time.perf_counter() - begun)
            scorer.add(index, found)
            said.append(found)
        differences.add(index, dataset.name(index), said[0], said[1], task)
        if progress is not None:
            progress(1)
    first, second = (1000 * float(np.median(times)) for times in seconds)
    return differences, scorers[0].score(), scorers[1].score(), first, second


class _Scorer:
    """Collects one side's predictions and scores them."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.found: list[Found] = []
        self.counts = SegmentationCounts(len(dataset.labels))

    def add(self, index: int, found: Found) -> None:
        if isinstance(found, MaskScores):  # a split's masks would fill the memory
            assert self.dataset.masks is not None, "a data set for segmentation has masks"
            image_id = int(self.dataset.truth.image_ids[index])
            self.counts.add(image_id, found.labels.numpy(), self.dataset.masks[index])
        else:
            self.found.append(found)

    def score(self) -> float:
        """Return mAP, mIoU or top-1 accuracy, 0-1."""
        dataset, labels = self.dataset, self.dataset.labels
        ids = dataset.truth.image_ids
        if dataset.masks is not None:
            return evaluate_segmentation(self.counts, labels, bootstrap=0).miou
        if dataset.class_labels is not None:
            scores = torch.stack([one.scores for one in self.found if isinstance(one, ClassScores)]).numpy()
            return evaluate_classification(ids, dataset.class_labels, scores, labels, bootstrap=0).top1
        boxes = [one for one in self.found if isinstance(one, Detections)]
        table = PredictionTable.from_detections(ids.tolist(), boxes)
        return evaluate_detection(dataset.truth, table, labels, bootstrap=0).map
