"""Contents of pages of the other two tasks: street scenes or drawn blocks, small pictures of ten classes."""

import numpy as np
import torch

from trivet.evaluate.classification import ClassificationScores, evaluate_classification
from trivet.evaluate.segmentation import SegmentationCounts, SegmentationScores, evaluate_segmentation
from trivet.report.contents import DataFacts, Picture, ReportContents
from trivet.report.sentences import classification_words, segmentation_words
from trivet.structures import ClassScores, LabelMap

STREET = ("sky", "building", "road", "car", "tram")
THINGS = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse")


def mask_pairs(images: int = 6, size_hw: tuple[int, int] = (120, 160)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make predicted and true masks of blocks, with void at the top; the last class is in neither."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(images):
        truth = np.kron(rng.integers(0, 4, (6, 8)), np.ones((size_hw[0] // 6, size_hw[1] // 8))).astype(
            np.uint8
        )
        predicted = np.roll(truth, rng.integers(-6, 7, 2), (0, 1))
        truth[:3] = 255
        pairs.append((predicted, truth))
    return pairs


def segmentation_scores(pairs: list[tuple[np.ndarray, np.ndarray]] | None = None) -> SegmentationScores:
    counts = SegmentationCounts(len(STREET))
    for image_id, (predicted, truth) in enumerate(pairs or mask_pairs()):
        counts.add(image_id, predicted, truth)
    return evaluate_segmentation(counts, LabelMap.from_names(STREET), bootstrap=100)


def segmentation_contents() -> ReportContents:
    pairs = mask_pairs()
    scores = segmentation_scores(pairs)
    rng = np.random.default_rng(1)
    shown = [(image, "worst") for image in scores.worst[:2]] + [
        (image, "typical") for image in scores.typical[:2]
    ]
    return ReportContents(
        title="Streets",
        task="segmentation",
        names=STREET,
        scores=scores,
        history=history("val_miou"),
        facts=DataFacts(
            {"format": "mask folders"},
            {"train": [50, 30, 15, 5, 0], "val": [40, 40, 15, 5, 0]},
            counted="pixels",
            order_dependent={("car", "road"): 0.0031, ("tram", "car"): 0.0104},
        ),
        gallery=[
            Picture(
                rng.integers(60, 200, (120, 160, 3), dtype=np.uint8),
                f"{image.image_id}.png: {segmentation_words(image, STREET)}",
                kind,
                pairs[image.image_id][1],
                pairs[image.image_id][0],
            )
            for image, kind in shown
        ],
    )


def class_table(images: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, images)
    logits = rng.normal(0, 1, (images, 8))
    logits[np.arange(images), labels] += 2
    return labels, torch.from_numpy(logits).softmax(1).float().numpy()


def classification_scores() -> ClassificationScores:
    labels, scores = class_table()
    return evaluate_classification(
        np.arange(len(labels)), labels, scores, LabelMap.from_names(THINGS), bootstrap=100
    )


def classification_contents() -> ReportContents:
    scores, (_, table) = classification_scores(), class_table()
    rng = np.random.default_rng(1)
    shown = [(image, "worst") for image in scores.worst[:9]] + [
        (image, "typical") for image in scores.typical[:4]
    ]
    return ReportContents(
        title="Small pictures",
        task="classification",
        names=THINGS,
        scores=scores,
        history=history("val_top1"),
        facts=DataFacts({"format": "class folders"}, {"train": [100] * 8, "val": [25] * 8}, counted="images"),
        gallery=[
            Picture(
                rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
                f"{image.image_id}.png: {classification_words(image, THINGS)}",
                kind,
                image.truth,
                ClassScores(torch.from_numpy(table[image.image_id])),
            )
            for image, kind in shown
        ],
    )


def history(metric: str) -> list[dict[str, float]]:
    return [
        {"epoch": e, "step": 10 * e, "lr": 0.1 / e, "loss": 2.0 / e, "val_loss": 2.5 / e, metric: 1 - 1 / e}
        for e in range(1, 9)
    ]
