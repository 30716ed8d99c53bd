"""What every check of the audit is given, and the words they share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trivet.data.dataset import Dataset, Splits
from trivet.data.fingerprints import Fingerprints
from trivet.data.mask_survey import MaskSurvey
from trivet.geometry.anchors import AnyAnchors

MOST_EXAMPLES = 10


@dataclass(frozen=True)
class AuditContext:
    """A data set under audit.

    Args:
        splits: What was read.
        size_hw: Size of the network's input.
        anchors: The anchors coverage is measured for.
        prints: Fingerprints of each split's images, in the order of `splits.given`; `None` when not looked at.
        surveys: What each split's masks hold, in the same order; `None` where masks are not the truth.
    """

    splits: Splits
    size_hw: tuple[int, int]
    anchors: AnyAnchors
    prints: tuple[Fingerprints, ...] | None = None
    surveys: tuple[MaskSurvey, ...] | None = None


def examples_of(dataset: Dataset, rows: Sequence[int] | np.ndarray) -> list[str]:
    """Return the first few of these boxes in words: image, class and corners."""
    truth = dataset.truth
    told = []
    for row in list(rows)[:MOST_EXAMPLES]:
        image = int(np.searchsorted(truth.offsets, row, side="right")) - 1
        corners = ", ".join(f"{value:.6g}" for value in truth.boxes_xyxy[row])
        told.append(f"{dataset.name(image)}: {dataset.labels.names[truth.labels[row]]} ({corners})")
    return told


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `1 box`, `2 boxes`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
