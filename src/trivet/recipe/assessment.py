"""What every task's assessor offers, and what they share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from trivet.data.batching import EvalLoader, eval_loader
from trivet.data.dataset import Dataset
from trivet.evaluate.classification_scores import ClassificationScores
from trivet.evaluate.scores import DetectionScores
from trivet.evaluate.segmentation_scores import SegmentationScores
from trivet.models.model import Model
from trivet.recipe.run_folder import AnyTask, Run
from trivet.report.contents import Picture
from trivet.structures import Batch
from trivet.train.loop import Validation

Scores: TypeAlias = DetectionScores | SegmentationScores | ClassificationScores
GALLERY_EACH = 6
"""So many of the worst and of the typical images are shown."""


@dataclass(frozen=True)
class Assessment:
    """What a model is worth on a split.

    Args:
        scores: The figures.
        gallery: Makes the pictures of the worst and of typical images.
    """

    scores: Scores
    gallery: Callable[[], list[Picture]]


@runtime_checkable
class Assessor(Protocol):
    """How one task's predictions are scored."""

    def validate(self, model: Model, task: AnyTask, batches: Iterable[Batch], dataset: Dataset) -> Validation:
        """Score a model that is in training on every image of a split.

        Returns:
            The score that decides which weights are best, and all figures, named `val_...`.
        """
        ...

    def assess(
        self, run: Run, dataset: Dataset, *, bootstrap: int = 1000, keep: Path | None = None
    ) -> Assessment:
        """Predict every image of a split and score the predictions.

        Args:
            run: The model.
            dataset: The split, with the run's labels.
            bootstrap: Resamples for the intervals; 0 leaves them out.
            keep: A folder to write the predictions into.
        """
        ...

    def assess_file(self, path: Path, dataset: Dataset, *, bootstrap: int = 1000) -> Scores:
        """Score predictions that were made elsewhere.

        Raises:
            UsageError: If the predictions cannot be read or do not fit the data set.
        """
        ...


def run_loader(run: Run, dataset: Dataset) -> EvalLoader:
    """Return a run's loader over every image of a split."""
    return eval_loader(
        dataset,
        size_hw=run.recipe.model.size_hw,
        batch=run.recipe.train.batch,
        workers=run.recipe.data.workers,
        fill_rgb=run.model.fill_rgb,
    )


class MeanLosses:
    """Validation losses: sums over batches, divided by the matches of the whole split, as in training."""

    def __init__(self, prior_count: float) -> None:
        self.sums: dict[str, float] = {}
        self.prior_count = prior_count

    def add(self, losses: dict[str, float]) -> None:
        """Count one batch's sums."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def metrics(self) -> dict[str, float]:
        """Return the losses with `val_` before their names."""
        count = self.sums.get("positives", 0.0) + self.prior_count
        return {
            f"val_{name}": value / max(count, 1e-9)
            for name, value in self.sums.items()
            if name != "positives"
        }
