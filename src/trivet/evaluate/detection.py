"""A detector's scores from its predictions and the truth.

The AP and AR figures are COCO's (equal to pycocotools' within rounding); what is beside them, the interval,
the error budget, the confusion and the worst images, follows from the same matches.
"""

import math
from collections.abc import Mapping

import numpy as np

from trivet.errors import UsageError
from trivet.evaluate.bootstrap import bootstrap_intervals
from trivet.evaluate.confusion import (
    confusion_matrix,
    image_mistakes,
    pair_up,
    typical_images,
    worst_images,
)
from trivet.evaluate.curves import best_threshold, class_rankings, pooled_ranking, pr_curves
from trivet.evaluate.matching import EVERY_SIZE, SIZES, Matches, match
from trivet.evaluate.mistakes import FOREGROUND_IOU, error_budget, find_mistakes, image_pairs
from trivet.evaluate.precision import Figures, average_precision, mean
from trivet.evaluate.ranking import RankedBoxes, rank_predictions, rank_truth
from trivet.evaluate.scores import ClassScore, DetectionScores, Operation, QuickScores
from trivet.structures import LabelMap, PredictionTable, TruthTable


def evaluate_detection(
    truth: TruthTable,
    predictions: PredictionTable,
    labels: LabelMap,
    *,
    sizes: Mapping[str, tuple[float, float]] = SIZES,
    most: int = 100,
    score: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    gallery: int = 24,
) -> DetectionScores:
    """Score a detector.

    Args:
        truth: The objects of every image that was predicted on.
        predictions: What the detector found, in the original images' pixels.
        labels: The classes of both.
        sizes: The size ranges of `by_size`: least and greatest area in square pixels, both inclusive.
        most: How many predictions of each image and class count, best first.
        score: The threshold for the confusion matrix and the worst images; `None` takes the one with the
            highest F1 over all classes together, .5 when nothing is right.
        bootstrap: How many resamples the intervals are made of; 0 leaves them out.
        seed: Of the resamples.
        gallery: How many of the worst and of the typical images to name.

    Raises:
        UsageError: If a row of a table cannot be scored; the message names it.
    """
    _check_sizes(sizes)
    objects = rank_truth(truth, labels)
    found = rank_predictions(predictions, truth, labels, most=most)
    matches = match(found, objects, sizes={**EVERY_SIZE, **sizes})
    classes, images, limits = len(labels), len(truth), (1, 10, most)
    figures = average_precision(found, objects, matches, classes=classes, limits=limits)
    ap, recall = figures.ap, figures.recall
    rankings = class_rankings(found, objects, matches, classes=classes)
    if score is None:
        score = best_threshold("all", pooled_ranking(found, matches)).score
    at = Operation(0.5 if math.isnan(score) else score, FOREGROUND_IOU)
    pairs = image_pairs(found, objects)
    mistakes = find_mistakes(found, objects, matches, pairs)
    pairing = pair_up(found, matches, pairs, score=at.score)
    per_image = image_mistakes(found, objects, pairing, pairs, np.sort(truth.image_ids))
    return DetectionScores(
        map=mean(ap[:, 0]),
        map50=mean(ap[:, 0, 0]),
        map75=mean(ap[:, 0, 5]),
        by_size={name: mean(ap[:, i]) for i, name in enumerate(sizes, start=1)},
        ar={str(limit): mean(recall[:, 0, :, i]) for i, limit in enumerate(limits)},
        ar_by_size={name: mean(recall[:, i, :, -1]) for i, name in enumerate(sizes, start=1)},
        per_class=_class_scores(labels, figures, found, objects, matches),
        interval95=bootstrap_intervals(
            found, objects, matches, images=images, classes=classes, resamples=bootstrap, seed=seed
        ),
        curves=pr_curves(rankings),
        confusion=confusion_matrix(found, objects, pairing, classes=classes),
        confusion_at=at,
        errors=error_budget(found, objects, matches, mistakes, classes=classes),
        worst=worst_images(per_image, gallery),
        typical=typical_images(per_image, gallery),
        best_threshold=tuple(map(best_threshold, labels.names, rankings)),
        images=images,
        boxes=int((~objects.crowd).sum()),
    )


def quick_scores(
    truth: TruthTable, predictions: PredictionTable, labels: LabelMap, *, most: int = 100
) -> QuickScores:
    """Return COCO's AP and AP50 alone, as validation during training needs them.

    Args:
        truth: The objects of every image that was predicted on.
        predictions: What the detector found, in the original images' pixels.
        labels: The classes of both.
        most: How many predictions of each image and class count.

    Raises:
        UsageError: If a row of a table cannot be scored; the message names it.
    """
    objects = rank_truth(truth, labels)
    found = rank_predictions(predictions, truth, labels, most=most)
    ap = average_precision(found, objects, match(found, objects), classes=len(labels)).ap
    return QuickScores(mean(ap), mean(ap[:, :, 0]))


def _class_scores(
    labels: LabelMap, figures: Figures, found: RankedBoxes, objects: RankedBoxes, matches: Matches
) -> tuple[ClassScore, ...]:
    predictions = np.bincount(found.labels, minlength=len(labels)).tolist()
    truths = np.bincount(objects.labels[matches.counted[:, 0]], minlength=len(labels)).tolist()
    return tuple(
        ClassScore(
            name,
            ap=mean(figures.ap[label, 0]),
            ap50=float(figures.ap[label, 0, 0]),
            ap75=float(figures.ap[label, 0, 5]),
            ar100=mean(figures.recall[label, 0, :, -1]),
            truths=truths[label],
            predictions=predictions[label],
        )
        for label, name in enumerate(labels.names)
    )


def _check_sizes(sizes: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in sizes.items():
        if name in EVERY_SIZE or not 0 <= low <= high:
            raise UsageError(
                f"size range {name!r} is {low} to {high}, wanted another name than 'all' and 0 <= least <= greatest",
                f"COCO's are {SIZES}",
            )
