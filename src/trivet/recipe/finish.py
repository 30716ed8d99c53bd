"""After training: predictions, scores and the page."""

import json
import shlex
from collections.abc import Sequence

import torch

from trivet.data.batching import eval_loader
from trivet.data.dataset import Dataset, Splits
from trivet.doctor.finding import Finding
from trivet.evaluate.coco_results import write_coco_results
from trivet.evaluate.detection import evaluate_detection
from trivet.evaluate.predict import predict_dataset
from trivet.evaluate.scores import DetectionScores
from trivet.recipe.facts import data_facts
from trivet.recipe.run_folder import Run, RunFolder, load_run, write_json
from trivet.report.contents import Choice, Picture, ReportContents
from trivet.report.page import write_report
from trivet.report.sentences import image_words
from trivet.structures import BoxTarget, Detections, PredictionTable
from trivet.train.history import Row, read_history

GALLERY_EACH = 6


def predict_split(run: Run, dataset: Dataset) -> PredictionTable:
    """Predict every image of a split with a run's best weights."""
    loader = eval_loader(
        dataset,
        size_hw=run.recipe.model.size_hw,
        batch=run.recipe.train.batch,
        workers=run.recipe.data.workers,
        fill_rgb=run.model.fill_rgb,
    )
    return predict_dataset(run.model, run.task, loader, device=torch.device(run.recipe.machine.accelerator))


def finish_run(folder: RunFolder, splits: Splits, findings: Sequence[Finding] = ()) -> DetectionScores:
    """Score a run's best weights on the validation split and write predictions, scores, findings and the page."""
    run = load_run(folder.path)
    assert splits.val is not None, "a run is prepared with a validation split"
    predictions = predict_split(run, splits.val)
    scores = evaluate_detection(splits.val.truth, predictions, run.labels)
    write_coco_results(folder.predictions, predictions, run.labels)
    write_json(folder.scores, scores.to_json())
    write_report(folder.report, _contents(run, splits, predictions, scores, findings))
    return scores


def _contents(
    run: Run,
    splits: Splits,
    predictions: PredictionTable,
    scores: DetectionScores,
    findings: Sequence[Finding],
) -> ReportContents:
    environment = json.loads(run.folder.environment.read_text())
    command = environment.pop("command", "")
    return ReportContents(
        title=splits.train.root.name,
        task="detection",
        names=run.labels.names,
        scores=scores,
        history=[_numbers(row) for row in read_history(run.folder.history)],
        choices=_choices(run),
        facts=data_facts(splits, run.recipe.model.size_hw),
        problems=splits.problems,
        findings=findings,
        gallery=_gallery(splits.val or splits.train, predictions, scores),
        environment=environment,
        command=command or shlex.join(["trivet", "fit", run.recipe.data.path]),
    )


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if not isinstance(value, str)}


def _choices(run: Run) -> list[Choice]:
    values = {
        f"{section}.{name}": value
        for section, content in run.recipe.model_dump(mode="json", exclude={"chosen"}).items()
        for name, value in content.items()
    }
    return [
        Choice(key, str(values[key]), "automatic" if who.by == "automatic" else "given", who.why)
        for key, who in run.recipe.chosen.items()
        if key in values
    ]


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
