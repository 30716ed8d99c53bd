"""COCO's own evaluator, fed from tables."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trivet.structures import PredictionTable, TruthTable


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
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
