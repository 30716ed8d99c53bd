"""Scoring classifiers."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from trivet.data.dataset import Dataset
from trivet.errors import UsageError
from trivet.evaluate.classification import evaluate_classification
from trivet.evaluate.classification_scores import ClassificationScores
from trivet.models.kernels import held
from trivet.models.model import Model
from trivet.recipe.assessment import GALLERY_EACH, Assessment, MeanLosses, run_loader
from trivet.recipe.run_folder import AnyTask, Run, write_json
from trivet.report.contents import Picture
from trivet.structures import Batch, ClassScores, LabelMap
from trivet.tasks.classification import ClassificationTask
from trivet.train.loop import Validation

KEPT = 5
"""Classes of each image that a predictions file keeps."""


class ClassificationAssessor:
    """Classes: top-1 accuracy."""

    @torch.inference_mode()
    def validate(self, model: Model, task: AnyTask, batches: Iterable[Batch], dataset: Dataset) -> Validation:  # noqa: ARG002
        """Return top-1 accuracy as the score, with `val_top1` (0-1) and the losses."""
        assert isinstance(task, ClassificationTask), "the caller takes the assessor of its task"
        model.eval()
        device = model.mean.device
        losses, hits, images_seen = MeanLosses(task.prior_count), 0, 0
        for batch in batches:
            output = model(model.normalise(batch.images.to(device, non_blocking=True)))
            sums = task.losses(output, batch.to(device), normaliser=torch.ones_like)
            losses.add({name: float(value) for name, value in sums.items()})
            hits += int((output.argmax(1).cpu() == batch.class_targets.labels).sum())
            images_seen += len(batch)
        top1 = hits / max(images_seen, 1)
        return Validation(top1, {"val_top1": top1, **losses.metrics()})

    def assess(
        self, run: Run, dataset: Dataset, *, bootstrap: int = 1000, keep: Path | None = None
    ) -> Assessment:
        """Score a classifier; the likeliest five classes of each image are kept in `predictions.json`."""
        assert dataset.class_labels is not None, "a data set for classification has class labels"
        found = torch.stack([item.scores for item in predicted_classes(run, dataset)]).numpy()
        scores = evaluate_classification(
            dataset.truth.image_ids, dataset.class_labels, found, run.labels, bootstrap=bootstrap
        )
        if keep is not None:
            write_json(keep / "predictions.json", _rows(dataset, found, run.labels))
        return Assessment(scores, lambda: _gallery(dataset, found, scores))

    def assess_file(self, path: Path, dataset: Dataset, *, bootstrap: int = 1000) -> ClassificationScores:
        """Score a `predictions.json` of a classification run, or one like it."""
        assert dataset.class_labels is not None, "a data set for classification has class labels"
        found = _read_rows(path, dataset)
        return evaluate_classification(
            dataset.truth.image_ids, dataset.class_labels, found, dataset.labels, bootstrap=bootstrap
        )


@torch.inference_mode()
def predicted_classes(run: Run, dataset: Dataset) -> Iterator[ClassScores]:
    """Yield the prediction for each image of a split, in its order."""
    assert isinstance(run.task, ClassificationTask), "the caller takes the assessor of its task"
    device = torch.device(run.recipe.machine.accelerator)
    model = run.model.to(device).to(memory_format=torch.channels_last).eval()
    with held(model):
        for batch in run_loader(run, dataset):
            images = model.normalise(batch.images.to(device, memory_format=torch.channels_last))
            size_hw = (images.shape[2], images.shape[3])
            for found in run.task.predict(model(images), size_hw, placements=batch.placements):
                yield ClassScores(found.scores.cpu())


def _rows(dataset: Dataset, scores: np.ndarray, labels: LabelMap) -> list[dict[str, object]]:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
    return [
        {
            "image_id": int(dataset.truth.image_ids[index]),
            "image": dataset.name(index),
            "classes": [
                {"name": labels.names[label], "score": round(float(scores[index, label]), 6)}
                for label in best[index].tolist()
            ],
        }
        for index in range(len(dataset))
    ]


def _read_rows(path: Path, dataset: Dataset) -> np.ndarray:
    """Return the scores [n, classes] of a predictions file; classes it does not name score 0."""
    label_of = {name: label for label, name in enumerate(dataset.labels.names)}
    scores = np.zeros((len(dataset), len(label_of)), np.float32)
    try:
        rows = {row["image"]: row["classes"] for row in json.loads(path.read_text())}
        for index in range(len(dataset)):
            for item in rows[dataset.name(index)]:
                scores[index, label_of[item["name"]]] = float(item["score"])
    except OSError as fault:
        raise UsageError(f"cannot read {path}: {fault.strerror}") from fault
    except KeyError as fault:
        raise UsageError(f"{path} has no prediction for, or the data set has no class, {fault}") from fault
    except (ValueError, TypeError, AttributeError) as fault:
        raise UsageError(
            f"{path} holds no predictions of classes: {fault}",
            'a list of {"image": NAME, "classes": [{"name": CLASS, "score": 0-1}]}',
        ) from fault
    return scores


def _gallery(dataset: Dataset, found: np.ndarray, scores: ClassificationScores) -> list[Picture]:
    """The most confident mistakes, then images nearest the median."""
    position = {int(image_id): number for number, image_id in enumerate(dataset.truth.image_ids)}
    shown = [(item, "worst") for item in scores.worst[: 2 * GALLERY_EACH]]
    shown += [(item, "typical") for item in scores.typical[:GALLERY_EACH]]
    return [
        Picture(
            dataset.image(position[item.image_id]),
            dataset.name(position[item.image_id]),
            kind,  # type: ignore[arg-type]
            item.truth,
            ClassScores(torch.from_numpy(found[position[item.image_id]])),
        )
        for item, kind in shown
    ]
