"""Tables to score, and COCO's own evaluator fed from them."""

import contextlib
import io
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trivet.structures import LabelMap, PredictionTable, TruthTable


def xywh(boxes_xyxy):
    boxes = boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def coco_truth(truth: TruthTable, classes: int) -> dict:
    images = truth.image_ids[truth.image_index()]
    rows = zip(images, truth.labels, xywh(truth.boxes_xyxy), truth.areas, truth.crowd, strict=True)
    annotations = [
        {
            "id": number,
            "image_id": int(image),
            "category_id": int(label) + 1,
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for number, (image, label, box, area, crowd) in enumerate(rows, start=1)
    ]
    return {
        "info": {},
        "images": [{"id": int(i)} for i in truth.image_ids],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
    }


def coco_results(predictions: PredictionTable) -> list[dict]:
    rows = zip(
        predictions.image_ids,
        predictions.labels,
        xywh(predictions.boxes_xyxy),
        predictions.scores,
        strict=True,
    )
    return [
        {"image_id": int(image), "category_id": int(label) + 1, "bbox": box.tolist(), "score": float(score)}
        for image, label, box, score in rows
    ]


def coco_eval(truth: TruthTable, predictions: PredictionTable, classes: int) -> COCOeval:
    """Return pycocotools' finished evaluation: `stats` has its 12 figures, `eval` its arrays."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = coco_truth(truth, classes)
        coco.createIndex()
        results = coco_results(predictions)
        # pycocotools cannot load an empty list of results.
        found = coco.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {"images": coco.dataset["images"], "categories": [], "annotations": []}
            found.createIndex()
        return _evaluated(coco, found)


def coco_eval_files(truth: Path, results: Path) -> COCOeval:
    """Return the evaluation of files."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        return _evaluated(coco, coco.loadRes(str(results)))


def _evaluated(truth: COCO, found: COCO) -> COCOeval:
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def truth_of(images: dict[int, list[tuple]], *, crowd: set[int] = frozenset()) -> TruthTable:
    """Make a table of `{image id: [(label, x1, y1, x2, y2), ...]}`; `crowd` are rows."""
    rows = [row for boxes in images.values() for row in boxes]
    boxes = np.array([row[1:] for row in rows], np.float32).reshape(len(rows), 4)
    count = len(rows)
    return TruthTable(
        np.array(list(images), np.int64),
        np.full((len(images), 2), 100, np.int32),
        np.cumsum([0, *map(len, images.values())]).astype(np.int64),
        boxes,
        np.array([row[0] for row in rows], np.int64),
        np.isin(np.arange(count), list(crowd)),
        (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
    )


def predictions_of(rows: list[tuple]) -> PredictionTable:
    """Make a table of `[(image id, label, score, x1, y1, x2, y2), ...]`."""
    return PredictionTable(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[3:] for row in rows], np.float32).reshape(len(rows), 4),
        np.array([row[2] for row in rows], np.float32),
        np.array([row[1] for row in rows], np.int64),
    )


def jittered(
    truth: TruthTable, classes: int, draws: np.random.Generator, *, per_image: float = 20, ties: bool = False
) -> PredictionTable:
    """Predict what a middling detector would: most objects moved and some relabelled, and some boxes of nothing."""
    count = int(draws.poisson(per_image * len(truth)))
    image = draws.integers(0, len(truth), count) if len(truth) else np.zeros(0, np.int64)
    objects = np.diff(truth.offsets)[image]
    real = (objects > 0) & (draws.random(count) < 0.7)
    row = np.where(real, truth.offsets[image] + (draws.random(count) * objects).astype(np.int64), 0)
    corner = draws.uniform(0, 500, (count, 2))
    boxes = np.concatenate([corner, corner + np.exp(draws.uniform(1, 5.5, (count, 2)))], axis=1)
    labels = draws.integers(0, classes, count)
    if len(truth.labels):
        size = truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2]
        moved = truth.boxes_xyxy[row] + draws.normal(0, 0.1, (count, 4)) * np.tile(size, 2)[row]
        boxes = np.where(real[:, None], moved, boxes)
        labels = np.where(real & (draws.random(count) < 0.85), truth.labels[row], labels)
    ordered = np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )
    scores = draws.random(count) * np.where(real, 1, 0.7)
    if ties:
        scores = np.round(scores, 1)
    return PredictionTable(
        truth.image_ids[image], ordered.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64)
    )


def random_tables(
    *,
    images: int = 40,
    classes: int = 3,
    per_image: float = 6,
    predictions: float = 20,
    crowd: float = 0.05,
    ties: bool = False,
    seed: int = 0,
) -> tuple[TruthTable, PredictionTable, LabelMap]:
    """Make truth with objects of all sizes, crowd regions and unordered image ids, and predictions for it."""
    draws = np.random.default_rng(seed)
    counts = draws.poisson(per_image, images)
    total = int(counts.sum())
    corner = draws.uniform(0, 500, (total, 2))
    size = np.exp(draws.uniform(1, 5.5, (total, 2)))
    truth = TruthTable(
        draws.permutation(images * 3)[:images].astype(np.int64),
        np.full((images, 2), 800, np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        draws.integers(0, classes, total),
        draws.random(total) < crowd,
        (size.prod(axis=1) * draws.uniform(0.5, 1, total)).astype(np.float32),
    )
    found = jittered(truth, classes, draws, per_image=predictions, ties=ties)
    return truth, found, LabelMap.from_names([f"class {label}" for label in range(classes)])
