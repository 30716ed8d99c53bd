"""Scoring detectors."""

from collections.abc import Iterable
from pathlib import Path

import torch

from trivet.data.dataset import Dataset
from trivet.evaluate.coco_results import read_coco_results, write_coco_results
from trivet.evaluate.detection import evaluate_detection, quick_scores
from trivet.evaluate.predict import predict_dataset
from trivet.evaluate.scores import DetectionScores
from trivet.models.model import Model
from trivet.recipe.assessment import GALLERY_EACH, Assessment, MeanLosses, run_loader
from trivet.recipe.run_folder import AnyTask, Run
from trivet.report.contents import Picture
from trivet.report.sentences import image_words
from trivet.structures import Batch, BoxTarget, Detections, PredictionTable
from trivet.tasks.box_task import BoxTask
from trivet.train.loop import Validation


class DetectionAssessor:
    """Boxes: COCO AP."""

    @torch.inference_mode()
    def validate(self, model: Model, task: AnyTask, batches: Iterable[Batch], dataset: Dataset) -> Validation:
        """Return COCO AP as the score, with `val_map`, `val_map50` (0-1) and the losses."""
        assert isinstance(task, BoxTask), "the caller takes the assessor of its task"
        model.eval()
        device = model.mean.device
        found: list[Detections] = []
        ids: list[int] = []
        losses = MeanLosses(task.prior_count)
        for batch in batches:
            images = model.normalise(batch.images.to(device, non_blocking=True))
            output = model(images)
            sums = task.losses(output, batch.to(device), normaliser=torch.ones_like)
            losses.add({name: float(value) for name, value in sums.items()})
            predictions = task.predict(
                output, (images.shape[2], images.shape[3]), placements=batch.placements
            )
            found += [
                item.to_original(place) for item, place in zip(predictions, batch.placements, strict=True)
            ]
            ids += batch.image_ids.tolist()
        scores = quick_scores(dataset.truth, PredictionTable.from_detections(ids, found), dataset.labels)
        metrics = {"val_map": scores.map, "val_map50": scores.map50, **losses.metrics()}
        return Validation(scores.map, metrics)

    def assess(
        self, run: Run, dataset: Dataset, *, bootstrap: int = 1000, keep: Path | None = None
    ) -> Assessment:
        """Score a detector; the predictions are kept as COCO results in `predictions.json`."""
        assert isinstance(run.task, BoxTask), "the caller takes the assessor of its task"
        device = torch.device(run.recipe.machine.accelerator)
        predictions = predict_dataset(run.model, run.task, run_loader(run, dataset), device=device)
        scores = evaluate_detection(dataset.truth, predictions, run.labels, bootstrap=bootstrap)
        if keep is not None:
            write_coco_results(keep / "predictions.json", predictions, run.labels)
        return Assessment(scores, lambda: _gallery(dataset, predictions, scores))

    def assess_file(self, path: Path, dataset: Dataset, *, bootstrap: int = 1000) -> DetectionScores:
        """Score COCO results."""
        predictions = read_coco_results(path, dataset.truth, dataset.labels)
        return evaluate_detection(dataset.truth, predictions, dataset.labels, bootstrap=bootstrap)


def _gallery(dataset: Dataset, predictions: PredictionTable, scores: DetectionScores) -> list[Picture]:
    """The images with the most mistakes, then those nearest the median."""
    worst = scores.worst[:GALLERY_EACH]
    typical = [item for item in scores.typical if item not in worst][:GALLERY_EACH]
    index = {int(image_id): number for number, image_id in enumerate(dataset.truth.image_ids)}
    least = scores.confusion_at.score
    return [
        _picture(
            dataset, predictions, index[item.image_id], caption=image_words(item), kind=kind, least=least
        )
        for items, kind in ((worst, "worst"), (typical, "typical"))
        for item in items
    ]


def _picture(
    dataset: Dataset, predictions: PredictionTable, number: int, *, caption: str, kind: str, least: float
) -> Picture:
    rows = dataset.truth.rows(number)
    mine = (predictions.image_ids == dataset.truth.image_ids[number]) & (predictions.scores >= least)
    truth = BoxTarget(
        torch.from_numpy(dataset.truth.boxes_xyxy[rows]), torch.from_numpy(dataset.truth.labels[rows])
    )
    found = Detections(
        torch.from_numpy(predictions.boxes_xyxy[mine]),
        torch.from_numpy(predictions.scores[mine]),
        torch.from_numpy(predictions.labels[mine]),
    )
    return Picture(dataset.image(number), f"{dataset.name(number)}: {caption}", kind, truth, found)  # type: ignore[arg-type]
