"""What a competition's board would say of a submission: its faults and its score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from trivet.evaluate.detection import quick_scores
from trivet.evaluate.mask_counts import SegmentationCounts
from trivet.evaluate.submissions import Fault, read_box_rows, read_mask_rows, shrunk_mask
from trivet.structures import Detections, LabelMap, PredictionTable, TruthTable


@dataclass(frozen=True)
class BoardResult:
    """What a board would say.

    Args:
        metric: "mIoU" or "mAP50".
        score: 0-1, over the images whose rows can be read; NaN without any.
        scored: How many images that are.
        faults: What is wrong; empty for a submission that a board accepts.
    """

    metric: str
    score: float
    scored: int
    faults: tuple[Fault, ...]


def check_mask_submission(
    path: str | Path,
    images: Mapping[str, int],
    truth_mask: Callable[[int], UInt8[np.ndarray, "h w"]],
    labels: LabelMap,
    *,
    add: int = 0,
) -> BoardResult:
    """Read a `boostcamp-seg` file back and score it: mIoU at 256 x 256 over all images.

    Args:
        path: The submission.
        images: Image id in the file -> position in the data set.
        truth_mask: Position -> the image's true mask at its own size; it is brought to 256 x 256 as a submission's is.
        labels: The classes, a background among them if the competition has one.
        add: What was added to a label to make it a class id.

    Raises:
        DataError: If the file cannot be read.
    """
    faults: list[Fault] = []
    counts = SegmentationCounts(len(labels), boundaries=False)
    rows = read_mask_rows(path, images=list(images), classes=len(labels), add=add, faults=faults)
    for image_id, mask in rows:
        place = images[image_id]
        counts.add(place, mask, shrunk_mask(truth_mask(place)))
    return BoardResult("mIoU", counts.miou(), len(counts), tuple(faults))


def check_box_submission(
    path: str | Path, images: Mapping[str, int], truth: TruthTable, labels: LabelMap
) -> BoardResult:
    """Read a `boostcamp-det` file back and score it: mAP at IoU .5; an image without a readable row has no boxes.

    Args:
        path: The submission.
        images: Image id in the file -> position in `truth`.
        truth: The objects.
        labels: The classes.

    Raises:
        DataError: If the file cannot be read.
    """
    faults: list[Fault] = []
    ids: list[int] = []
    found: list[Detections] = []
    for image_id, detections in read_box_rows(path, images=list(images), classes=len(labels), faults=faults):
        ids.append(int(truth.image_ids[images[image_id]]))
        found.append(detections)
    wanted = truth.take(sorted(images.values()))
    score = quick_scores(wanted, PredictionTable.from_detections(ids, found), labels).map50
    return BoardResult("mAP50", score, len(ids), tuple(faults))
