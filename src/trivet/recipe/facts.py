"""A data set's facts as a page shows them."""

import numpy as np

from trivet.data.dataset import Dataset, Splits
from trivet.data.mask_check import label_counts
from trivet.data.mask_shapes import ShapeMasks
from trivet.data.order_dependence import contested_picture, order_dependence
from trivet.errors import DataError
from trivet.recipe.fingerprint import boxes_at_input
from trivet.report.contents import Contested, DataFacts

MOST_MASKS = 2000
"""Pixels are counted in up to so many masks, evenly spread over a split."""
MOST_CONTESTED = 6
"""So many images are shown of those whose masks depend most on the order of their outlines."""


def data_facts(splits: Splits, size_hw: tuple[int, int]) -> DataFacts:
    """Sum up a data set for people.

    Args:
        splits: The data set.
        size_hw: Size of the network's input, at which box sizes are shown.
    """
    there = {dataset.split: dataset for dataset in splits.given}
    rows = {"format": splits.format, "splits": splits.made or "as given"}
    rows |= {f"{name} images": f"{len(dataset):,}" for name, dataset in there.items()}
    if splits.task == "detection":
        rows |= {"objects": f"{sum(len(dataset.truth.labels) for dataset in there.values()):,}"}
        empty = sum(int((np.diff(dataset.truth.offsets) == 0).sum()) for dataset in there.values())
        rows |= {"images without objects": f"{empty:,}"}
    rows |= {f"note {number}": note for number, note in enumerate(splits.notes, 1)}
    if splits.task == "segmentation":
        return _mask_facts(splits, rows)
    counts = {
        name: np.bincount(_labels(dataset), minlength=len(splits.labels)).tolist()
        for name, dataset in there.items()
    }
    if splits.task == "classification":
        return DataFacts(rows, counts, counted="images")
    sides = boxes_at_input(splits.train.truth, size_hw).prod(dim=1).sqrt().numpy()
    return DataFacts(rows, counts, sides)


def _labels(dataset: Dataset) -> np.ndarray:
    return dataset.truth.labels if dataset.class_labels is None else dataset.class_labels


def _mask_facts(splits: Splits, rows: dict[str, str]) -> DataFacts:
    """Count the pixels of each class and those that several outlines claim; faulty masks count for nothing."""
    counts = {dataset.split: _pixels(dataset, len(splits.labels)) for dataset in splits.given}
    pairs: dict[tuple[str, str], float] = {}
    pictures: list[tuple[float, Contested]] = []
    outlined = [
        split
        for split in splits.given
        if isinstance(split.masks, ShapeMasks) and len(split) <= MOST_MASKS and split.path(0).is_file()
    ]
    total = sum(int(split.truth.sizes_hw.astype(np.int64).prod(axis=1).sum()) for split in outlined)
    for split in outlined:
        found = order_dependence(split)
        for (one, other), pixels in found.by_pair.items():
            pair = (splits.labels.names[one], splits.labels.names[other])
            pairs[pair] = pairs.get(pair, 0.0) + pixels / max(total, 1)
        for image in found.worst(MOST_CONTESTED):
            share = float(found.contested[image] / found.pixels[image])
            caption = f"{split.name(image)}: {share:.2%} of the pixels"
            pictures.append((share, Contested(contested_picture(split, image), caption)))
    pictures.sort(key=lambda item: -item[0])
    shown = tuple(picture for _, picture in pictures[:MOST_CONTESTED])
    return DataFacts(rows, counts, counted="pixels", order_dependent=pairs, contested=shown)


def _pixels(dataset: Dataset, classes: int) -> list[int]:
    assert dataset.masks is not None, "a data set for segmentation has masks"
    counts = np.zeros(classes, np.int64)
    for image in np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), MOST_MASKS)).astype(np.int64)):
        try:
            counts += label_counts(dataset.masks[int(image)])[:classes]
        except DataError:
            continue
    return [int(count) for count in counts]
