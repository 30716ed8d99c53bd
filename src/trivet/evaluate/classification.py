"""A classifier's scores from the probabilities it gives each image."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from trivet.errors import UsageError
from trivet.evaluate.calibration import ReliabilityBin, expected_calibration_error, reliability
from trivet.evaluate.classification_scores import (
    ClassAccuracy,
    ClassificationScores,
    ConfusedPair,
    ImageClass,
)
from trivet.evaluate.resampling import image_weights, interval95
from trivet.evaluate.scores import Interval
from trivet.structures import LabelMap

__all__ = [
    "ClassAccuracy",
    "ClassificationScores",
    "ConfusedPair",
    "ImageClass",
    "ReliabilityBin",
    "evaluate_classification",
]

_ROWS_AT_ONCE = 4096
_ROUNDING = 0.01  # of probabilities in half precision and in files


def evaluate_classification(
    image_ids: Sequence[int] | Int64[np.ndarray, " images"],
    class_labels: Int64[np.ndarray, " n"],
    scores: Float32[np.ndarray, "rows classes"],
    labels: LabelMap,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    gallery: int = 24,
) -> ClassificationScores:
    """Score a classifier.

    Args:
        image_ids: The images' ids in their data set.
        class_labels: The label of each image.
        scores: Each image's probabilities of the classes, which sum to 1, or to less where only the
            likeliest are known; of equal ones the first label counts
            as the likelier.
        labels: The classes.
        bootstrap: How many resamples of the images the intervals are made of; 0 leaves them out.
        seed: Of the resamples.
        gallery: How many of the worst and of the typical images, and of the confused pairs, to name.

    Raises:
        UsageError: If the shapes do not fit each other, a label is no class or a row is not probabilities.
    """
    ids = np.asarray(image_ids, np.int64)
    _check(ids, class_labels, scores, labels)
    classes = len(labels)
    predicted, rank = _ranks(scores, class_labels)
    rows = np.arange(len(ids))
    confidence, truth_score = scores[rows, predicted], scores[rows, class_labels]
    right = rank == 0
    confusion = np.bincount(class_labels * classes + predicted, minlength=classes**2).reshape(
        classes, classes
    )
    bins = reliability(confidence, right)
    in_top5 = rank < 5 if classes > 5 else None
    images = [
        ImageClass(*row)
        for row in zip(
            ids.tolist(),
            class_labels.tolist(),
            predicted.tolist(),
            confidence.tolist(),
            truth_score.tolist(),
            strict=True,
        )
    ]
    return ClassificationScores(
        top1=_mean(right),
        top5=float("nan") if in_top5 is None else _mean(in_top5),
        balanced_accuracy=_balanced(np.diag(confusion), confusion.sum(axis=1)),
        per_class=_class_scores(confusion, labels),
        interval95=_intervals(class_labels, right, in_top5, resamples=bootstrap, seed=seed),
        confusion=confusion,
        confused=_confused(confusion, gallery),
        ece=expected_calibration_error(bins),
        confidence=_mean(confidence),
        reliability=bins,
        worst=_worst(images, gallery),
        typical=_typical(images, gallery),
        images=len(ids),
    )


def _ranks(
    scores: Float32[np.ndarray, "n classes"], class_labels: Int64[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return each image's likeliest label, and how many labels are likelier than its true one."""
    predicted, rank = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    place = np.arange(scores.shape[1])
    for start in range(0, len(scores), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        rows, truth = scores[part], class_labels[part, None]
        own = np.take_along_axis(rows, truth, axis=1)
        predicted[part] = rows.argmax(axis=1)
        rank[part] = ((rows > own) | ((rows == own) & (place < truth))).sum(axis=1)
    return predicted, rank


def _class_scores(
    confusion: Int64[np.ndarray, "classes classes"], labels: LabelMap
) -> tuple[ClassAccuracy, ...]:
    hits, images, predictions = (
        column.tolist() for column in (np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
    )
    return tuple(
        ClassAccuracy(
            name,
            accuracy=hits[label] / images[label] if images[label] else float("nan"),
            precision=hits[label] / predictions[label] if predictions[label] else float("nan"),
            images=images[label],
            predictions=predictions[label],
        )
        for label, name in enumerate(labels.names)
    )


def _intervals(
    class_labels: Int64[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    in_top5: Bool[np.ndarray, " n"] | None,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Return the intervals of what the scores would be on other images of the same kind."""
    images = len(class_labels)
    samples: dict[str, list[np.ndarray]] = {}
    order = np.argsort(class_labels, kind="stable")
    first = np.unique(class_labels[order], return_index=True)[1]
    for weights in image_weights(images, resamples=resamples, seed=seed):
        samples.setdefault("top1", []).append(weights @ right / images)
        if in_top5 is not None:
            samples.setdefault("top5", []).append(weights @ in_top5 / images)
        by_class = weights[:, order]
        there = np.add.reduceat(by_class, first, axis=1)
        hits = np.add.reduceat(by_class * right[order], first, axis=1)
        drawn = there > 0
        accuracy = np.where(drawn, hits / np.maximum(there, 1), 0.0)
        samples.setdefault("balanced_accuracy", []).append(accuracy.sum(axis=1) / drawn.sum(axis=1))
    return {name: interval95(np.concatenate(values)) for name, values in samples.items()}


def _confused(confusion: Int64[np.ndarray, "classes classes"], most: int) -> tuple[ConfusedPair, ...]:
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    images = confusion.sum(axis=1)
    pairs = [divmod(int(cell), len(confusion)) for cell in order]
    return tuple(
        ConfusedPair(
            truth, predicted, int(wrong[truth, predicted]), int(wrong[truth, predicted]) / int(images[truth])
        )
        for truth, predicted in pairs
        if wrong[truth, predicted]
    )


def _worst(images: list[ImageClass], most: int) -> tuple[ImageClass, ...]:
    wrong = [image for image in images if image.predicted != image.truth]
    return tuple(sorted(wrong, key=lambda image: (-image.score, image.image_id))[:most])


def _typical(images: list[ImageClass], most: int) -> tuple[ImageClass, ...]:
    if not images:
        return ()
    median = float(np.median([image.truth_score for image in images]))
    return tuple(sorted(images, key=lambda image: (abs(image.truth_score - median), image.image_id))[:most])


def _balanced(hits: Int64[np.ndarray, " classes"], images: Int64[np.ndarray, " classes"]) -> float:
    return _mean(hits[images > 0] / images[images > 0])


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")


def _check(ids: np.ndarray, class_labels: np.ndarray, scores: np.ndarray, labels: LabelMap) -> None:
    if not len(ids) == len(class_labels) == len(scores):
        raise UsageError(
            f"scoring needs one label and one row of scores an image, got {len(ids)} images, {len(class_labels)} labels and {len(scores)} rows"
        )
    if scores.ndim != 2 or scores.shape[1] != len(labels):
        raise UsageError(f"scores are [images, {len(labels)}] for {len(labels)} classes, got {scores.shape}")
    unknown = (class_labels < 0) | (class_labels >= len(labels))
    if unknown.any():
        row = int(unknown.argmax())
        raise UsageError(f"image {ids[row]} has label {class_labels[row]}, wanted 0 to {len(labels) - 1}")
    # Not finite is caught too: no comparison with NaN holds. Less than 1 is what a file of the likeliest few has.
    total = scores.sum(axis=1, dtype=np.float64)
    bad = ~((scores >= 0).all(axis=1) & (total > 0) & (total <= 1 + _ROUNDING))
    if bad.any():
        row = int(bad.argmax())
        raise UsageError(
            f"image {ids[row]}: scores are probabilities that sum to 1, got {scores[row, :5].tolist()} (sum {scores[row].sum():.4g})",
            "take the softmax of the logits",
        )
