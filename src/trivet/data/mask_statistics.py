"""Numbers about the masks of a data set."""

from collections.abc import Sequence

import numpy as np

from trivet.data.dataset import Dataset, Splits
from trivet.data.mask_survey import MaskSurvey
from trivet.structures import IGNORE_LABEL


def label_shares(survey: MaskSurvey, classes: int) -> np.ndarray:
    """Return float64 `[classes]`: each class's share (0-1) of the labelled pixels."""
    counts = survey.counts[:, :classes].sum(axis=0)
    return np.asarray(counts / max(int(counts.sum()), 1))


def ignored_share(survey: MaskSurvey) -> float:
    """Return the share (0-1) of pixels that are ignored."""
    return float(survey.counts[:, IGNORE_LABEL].sum() / max(int(survey.counts.sum()), 1))


def describe_masks(splits: Splits, surveys: Sequence[MaskSurvey]) -> dict[str, object]:
    """Return what there is to know of a data set of masks as plain data, the form of `audit --json`.

    Args:
        splits: The data set.
        surveys: What the masks of `splits.given` hold, in that order.
    """
    pairs = list(zip(splits.given, surveys, strict=True))
    shares = {split.split: label_shares(survey, len(splits.labels)) for split, survey in pairs}
    images = {split.split: (survey.counts > 0).sum(axis=0) for split, survey in pairs}
    return {
        "format": splits.format,
        "task": splits.task,
        "splits": {split.split: _split(split, survey) for split, survey in pairs},
        "classes": [
            {
                **row,
                "pixel_share": {name: round(float(of_class[label]), 6) for name, of_class in shares.items()},
                "images": {name: int(of_class[label]) for name, of_class in images.items()},
            }
            for label, row in enumerate(splits.labels.to_json())
        ],
        "made": splits.made,
        "notes": list(splits.notes),
    }


def _split(dataset: Dataset, survey: MaskSurvey) -> dict[str, object]:
    return {
        "images": len(dataset),
        "pixels": int(survey.counts.sum()),
        "unlabelled_share": round(ignored_share(survey), 6),
        "unusable_masks": len(survey.faults),
    }
