"""A segmenter's scores from counts of its pixels.

mIoU comes from one confusion matrix of all images, never from a mean over batches or images; classes that are
in neither truth nor prediction have no IoU and are left out of it (`SegmentationScores.absent` names them).
"""

import numpy as np
from jaxtyping import Float64

from trivet.errors import UsageError
from trivet.evaluate.mask_counts import SegmentationCounts, iou_of, mean_of_known
from trivet.evaluate.resampling import image_weights, interval95
from trivet.evaluate.scores import Interval
from trivet.evaluate.segmentation_scores import ClassIou, Confused, ImageMask, SegmentationScores
from trivet.structures import LabelMap

__all__ = [
    "ClassIou",
    "Confused",
    "ImageMask",
    "SegmentationCounts",
    "SegmentationScores",
    "evaluate_segmentation",
]


def evaluate_segmentation(
    counts: SegmentationCounts,
    labels: LabelMap,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    gallery: int = 24,
) -> SegmentationScores:
    """Score a segmenter.

    Args:
        counts: What was counted in every image.
        labels: The classes.
        bootstrap: How many resamples of the images the intervals are made of; 0 leaves them out.
        seed: Of the resamples.
        gallery: How many of the worst and of the typical images to name.

    Raises:
        UsageError: If the label map has another number of classes than were counted.
    """
    if len(labels) != counts.classes:
        raise UsageError(f"{counts.classes} classes were counted, and the label map has {len(labels)}")
    boundary_f1 = counts.boundary_f1()
    images = _images(counts)
    return SegmentationScores(
        miou=counts.miou(),
        pixel_accuracy=counts.pixel_accuracy(),
        boundary_f1=_mean(mean_of_known(boundary_f1)),
        boundary_tolerance=counts.tolerance,
        per_class=_class_scores(counts, labels, boundary_f1),
        interval95=_intervals(counts, boundary_f1, resamples=bootstrap, seed=seed),
        confusion=counts.confusion.copy(),
        worst=_worst(images, gallery),
        typical=_typical(images, gallery),
        images=len(counts),
        pixels=int(counts.confusion.sum()),
        void=counts.void,
    )


def _class_scores(
    counts: SegmentationCounts, labels: LabelMap, boundary_f1: Float64[np.ndarray, "images classes"]
) -> tuple[ClassIou, ...]:
    hits, truth, predicted = np.diag(counts.confusion), counts.confusion.sum(1), counts.confusion.sum(0)
    pixels = max(int(truth.sum()), 1)
    iou = iou_of(hits[None], truth[None], predicted[None])[0]
    images = (counts.per_image()[1] > 0).sum(axis=0)
    by_class = mean_of_known(np.ascontiguousarray(boundary_f1.T))
    return tuple(
        ClassIou(
            name,
            iou=float(iou[label]),
            accuracy=_share(hits[label], truth[label]),
            precision=_share(hits[label], predicted[label]),
            boundary_f1=float(by_class[label]),
            share=int(truth[label]) / pixels,
            predicted_share=int(predicted[label]) / pixels,
            images=int(images[label]),
        )
        for label, name in enumerate(labels.names)
    )


def _intervals(
    counts: SegmentationCounts,
    boundary_f1: Float64[np.ndarray, "images classes"],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Return the intervals of what the scores would be on other images of the same kind."""
    hits, truth, predicted = counts.per_image()
    by_image = mean_of_known(boundary_f1)
    compared = ~np.isnan(by_image)
    samples: dict[str, list[np.ndarray]] = {"miou": [], "pixel_accuracy": [], "boundary_f1": []}
    for weights in image_weights(len(counts), resamples=resamples, seed=seed):
        right, there, found = weights @ hits, weights @ truth, weights @ predicted
        samples["miou"].append(mean_of_known(iou_of(right, there, found)))
        samples["pixel_accuracy"].append(_ratio(right.sum(axis=1), there.sum(axis=1)))
        samples["boundary_f1"].append(
            _ratio(weights[:, compared] @ by_image[compared], weights[:, compared].sum(axis=1))
        )
    return {name: interval95(np.concatenate(values)) for name, values in samples.items() if values}


def _images(counts: SegmentationCounts) -> list[ImageMask]:
    hits, truth, predicted = counts.per_image()
    iou = mean_of_known(iou_of(hits, truth, predicted))
    return [
        ImageMask(
            image_id,
            iou=float(iou[index]),
            pixel_accuracy=int(hits[index].sum()) / int(truth[index].sum()),
            confused=counts.confused(index),
            pixels=int(truth[index].sum()),
        )
        for index, image_id in enumerate(counts.image_ids)
        if truth[index].any()
    ]


def _worst(images: list[ImageMask], most: int) -> tuple[ImageMask, ...]:
    faulty = [image for image in images if image.iou < 1]
    return tuple(sorted(faulty, key=lambda image: (image.iou, image.pixel_accuracy, image.image_id))[:most])


def _typical(images: list[ImageMask], most: int) -> tuple[ImageMask, ...]:
    if not images:
        return ()
    median = float(np.median([image.iou for image in images]))
    return tuple(sorted(images, key=lambda image: (abs(image.iou - median), image.image_id))[:most])


def _mean(values: Float64[np.ndarray, " n"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _share(part: np.integer, whole: np.integer) -> float:
    return int(part) / int(whole) if whole else float("nan")


def _ratio(part: np.ndarray, whole: np.ndarray) -> Float64[np.ndarray, " n"]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
