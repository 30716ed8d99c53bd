"""Validation while training: losses and AP of one pass over the validation split."""

from collections.abc import Iterable

import torch

from trivet.evaluate.detection import quick_scores
from trivet.models.model import Model
from trivet.structures import Batch, Detections, LabelMap, PredictionTable, TruthTable
from trivet.tasks.detection import DetectionTask
from trivet.train.loop import Validation


@torch.inference_mode()
def validate_detector(
    model: Model, task: DetectionTask, batches: Iterable[Batch], truth: TruthTable, labels: LabelMap
) -> Validation:
    """Score a detector on every image of a split; `score` is COCO AP.

    Returns:
        `val_map` and `val_map50` (0-1), and the losses with `val_` before their names, each divided by the
        matches of the whole split, as in training.
    """
    model.eval()
    device = model.mean.device
    found: list[Detections] = []
    ids: list[int] = []
    sums: dict[str, float] = {}
    for batch in batches:
        images = model.normalise(batch.images.to(device, non_blocking=True))
        output = model(images)
        for name, value in task.losses(output, batch.to(device), normaliser=torch.ones_like).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        predictions = task.predict(output, (images.shape[2], images.shape[3]), placements=batch.placements)
        found += [item.to_original(place) for item, place in zip(predictions, batch.placements, strict=True)]
        ids += batch.image_ids.tolist()
    positives = sums.pop("positives", 0.0)
    scores = quick_scores(truth, PredictionTable.from_detections(ids, found), labels)
    losses = {f"val_{name}": value / (positives + 1) for name, value in sums.items()}
    return Validation(scores.map, {"val_map": scores.map, "val_map50": scores.map50, **losses})
