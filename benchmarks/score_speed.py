"""Seconds to score 5,000 synthetic images with 80 classes: Trivet beside pycocotools and faster-coco-eval.

    python benchmarks/score_speed.py [--images 5000] [--classes 80] [--predictions 100]

All three get the same 36,000 objects and 100 predictions an image in one process and on one thread, and
their twelve figures are compared. What counts is the time from data in memory (tables here, lists of dicts
there) to figures, in seconds of processor time, as other work on the machine does not change it. Results are recorded in `score_speed.md`.
"""

import argparse
import contextlib
import io
import os
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval

from trivet.evaluate.bootstrap import bootstrap_intervals
from trivet.evaluate.detection import evaluate_detection, quick_scores
from trivet.evaluate.matching import EVERY_SIZE, SIZES, match
from trivet.evaluate.mistakes import error_budget, find_mistakes, image_pairs
from trivet.evaluate.precision import average_precision
from trivet.evaluate.ranking import rank_predictions, rank_truth
from trivet.structures import LabelMap, PredictionTable, TruthTable


def synthetic(images: int, classes: int, predictions: int) -> tuple[TruthTable, PredictionTable, LabelMap]:
    """Make images with about 7 objects each, and predictions of which half stray from one of them."""
    draws = np.random.default_rng(0)
    counts = draws.poisson(7.3, images)
    total = int(counts.sum())
    corner, size = draws.uniform(0, 500, (total, 2)), np.exp(draws.uniform(2, 5.5, (total, 2)))
    truth = TruthTable(
        np.arange(images),
        np.full((images, 2), 640, np.int32),
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        draws.integers(0, classes, total),
        draws.random(total) < 0.01,
        (size.prod(axis=1) * draws.uniform(0.5, 1, total)).astype(np.float32),
    )
    image = np.repeat(np.arange(images), predictions)
    near = (draws.random(len(image)) < 0.5) & (counts[image] > 0)
    row = np.where(near, truth.offsets[image] + (draws.random(len(image)) * counts[image]).astype(int), 0)
    corner, extent = draws.uniform(0, 500, (len(image), 2)), np.exp(draws.uniform(2, 5.5, (len(image), 2)))
    anywhere = np.concatenate([corner, corner + extent], axis=1)
    boxes = truth.boxes_xyxy[row] + draws.normal(0, 0.1, (len(image), 4)) * np.tile(size[row], 2)
    boxes = np.where(near[:, None], boxes, anywhere)
    boxes = np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )
    right_label = near & (draws.random(len(image)) < 0.8)
    table = PredictionTable(
        image,
        boxes.astype(np.float32),
        (draws.random(len(image)) * np.where(near, 1, 0.6)).astype(np.float32),
        np.where(right_label, truth.labels[row], draws.integers(0, classes, len(image))),
    )
    return truth, table, LabelMap.from_names([str(label) for label in range(classes)])


def as_coco(truth: TruthTable, predictions: PredictionTable, classes: int) -> tuple[dict, list[dict]]:
    """Return both as the dicts COCO's evaluators take."""

    def xywh(boxes: np.ndarray) -> list:
        wide = boxes.astype(np.float64)
        return np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1).tolist()

    rows = zip(
        truth.image_index().tolist(),
        truth.labels.tolist(),
        xywh(truth.boxes_xyxy),
        truth.areas.tolist(),
        truth.crowd.tolist(),
        strict=True,
    )
    data = {
        "info": {},
        "images": [{"id": i, "height": 640, "width": 640} for i in range(len(truth))],
        "categories": [{"id": label, "name": str(label)} for label in range(classes)],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": label,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for i, (image, label, box, area, crowd) in enumerate(rows, start=1)
        ],
    }
    columns = (predictions.image_ids, predictions.labels, predictions.scores.astype(np.float64))
    found = zip(*(column.tolist() for column in columns), xywh(predictions.boxes_xyxy), strict=True)
    return data, [{"image_id": i, "category_id": c, "score": s, "bbox": box} for i, c, s, box in found]


def with_pycocotools(data: dict, results: list[dict]) -> np.ndarray:
    coco = pycocotools.coco.COCO()
    coco.dataset = data
    coco.createIndex()
    return _summary(pycocotools.cocoeval.COCOeval(coco, coco.loadRes(results), "bbox"))


def with_faster_coco_eval(data: dict, results: list[dict]) -> np.ndarray:
    coco = faster_coco_eval.COCO(data)
    return _summary(faster_coco_eval.COCOeval_faster(coco, coco.loadRes(results), "bbox"))


def _summary(evaluation: Any) -> np.ndarray:
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return np.array(evaluation.stats[:12])


def with_trivet(truth: TruthTable, predictions: PredictionTable, labels: LabelMap) -> np.ndarray:
    """Return COCO's twelve figures, by way of everything that is not an interval."""
    scores = evaluate_detection(truth, predictions, labels, bootstrap=0)
    figures = [scores.map, scores.map50, scores.map75, *scores.by_size.values()]
    return np.array([*figures, *scores.ar.values(), *scores.ar_by_size.values()])


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        result = work(*arguments, **options)
    return result, time.process_time() - started


def steps(truth: TruthTable, predictions: PredictionTable, labels: LabelMap) -> dict[str, float]:
    """Time the parts of `evaluate_detection`."""
    seconds = {}
    objects, seconds["order truth"] = timed(rank_truth, truth, labels)
    found, seconds["order predictions"] = timed(rank_predictions, predictions, truth, labels, most=100)
    matches, seconds["match"] = timed(match, found, objects, sizes={**EVERY_SIZE, **SIZES})
    classes = len(labels)
    _, seconds["AP and AR"] = timed(
        average_precision, found, objects, matches, classes=classes, limits=(1, 10, 100)
    )
    pairs, seconds["overlaps of any class"] = timed(image_pairs, found, objects)
    mistakes, seconds["kinds of mistakes"] = timed(find_mistakes, found, objects, matches, pairs)
    _, seconds["error budget"] = timed(error_budget, found, objects, matches, mistakes, classes=classes)
    _, seconds["100 resamples"] = timed(
        bootstrap_intervals,
        found,
        objects,
        matches,
        images=len(truth),
        classes=classes,
        resamples=100,
        seed=0,
    )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--predictions", type=int, default=100, help="an image")
    given = parser.parse_args()
    tables = synthetic(given.images, given.classes, given.predictions)
    as_dicts = as_coco(tables[0], tables[1], given.classes)
    print(f"{given.images} images, {len(tables[0].labels)} objects, {len(tables[1])} predictions")
    ours, seconds = timed(with_trivet, *tables)
    _, quick = timed(quick_scores, *tables)
    print(f"{'Trivet, all but intervals':30} {seconds:8.2f} s")
    print(f"{'Trivet, quick_scores':30} {quick:8.2f} s")
    for name, seconds_of in steps(*tables).items():
        print(f"    {name:26} {seconds_of:8.2f} s")
    for name, work in (("faster-coco-eval", with_faster_coco_eval), ("pycocotools", with_pycocotools)):
        figures, theirs = timed(work, *as_dicts)
        apart = np.abs(figures - ours).max()
        print(
            f"{name:30} {theirs:8.2f} s, {theirs / seconds:.1f} x Trivet's (quick {theirs / quick:.1f} x), "
            f"figures differ by at most {apart:.1e}"
        )


if __name__ == "__main__":
    main()
