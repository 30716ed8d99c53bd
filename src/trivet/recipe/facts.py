"""A data set's facts as a page shows them."""

import numpy as np

from trivet.data.dataset import Dataset, Splits
from trivet.recipe.fingerprint import boxes_at_input
from trivet.report.contents import DataFacts


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
        return DataFacts(rows)
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
