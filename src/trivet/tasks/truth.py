"""Checks the truth of a batch and joins it; every fault names its image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trivet.errors import DataError
from trivet.structures import BoxTarget
from trivet.tasks.assign.assignment import JoinedTruth


def join_truth(
    targets: Sequence[BoxTarget], names: Sequence[str], classes: int, device: torch.device
) -> JoinedTruth:
    """Put the truth of a batch into columns on a device.

    Args:
        targets: One an image.
        names: The images' names, for messages.
        classes: Labels are 0 to `classes - 1`.
        device: Where the columns are wanted.

    Raises:
        DataError: If labels are not int64 in range, or boxes are not float, not finite, or have swapped corners.
    """
    for target, name in zip(targets, names, strict=True):
        _check_dtypes(target, name)
    counts = torch.tensor([len(target.labels) for target in targets])
    boxes_xyxy = torch.cat([target.boxes_xyxy.to(device, torch.float32) for target in targets])
    labels = torch.cat([target.labels.to(device) for target in targets])
    if bool(_faulty(boxes_xyxy, labels, classes).any()):  # one wait for the device when all is well
        for target, name in zip(targets, names, strict=True):
            _explain(target, name, classes)
    image = torch.repeat_interleave(counts).to(device)
    return JoinedTruth(boxes_xyxy, labels, image, len(targets))


def _check_dtypes(target: BoxTarget, name: str) -> None:
    if target.labels.dtype != torch.int64:
        raise DataError(
            f"{name}: labels are int64, got {target.labels.dtype}", "convert them with `labels.long()`"
        )
    if not target.boxes_xyxy.is_floating_point():
        raise DataError(
            f"{name}: boxes_xyxy are float32 pixels, got {target.boxes_xyxy.dtype}",
            "convert them with `boxes.float()`",
        )


def _faulty(boxes_xyxy: Tensor, labels: Tensor, classes: int) -> Tensor:
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    finite = boxes_xyxy.isfinite().all(dim=-1)
    return (labels < 0) | (labels >= classes) | ~finite | (x2 < x1) | (y2 < y1)


def _explain(target: BoxTarget, name: str, classes: int) -> None:
    """Raise for the first faulty object of an image, if there is one."""
    for row in _faulty(target.boxes_xyxy, target.labels, classes).nonzero()[:1, 0].tolist():
        label, box = int(target.labels[row]), [round(v, 2) for v in target.boxes_xyxy[row].tolist()]
        if not 0 <= label < classes:
            raise DataError(
                f"{name}: object {row} has label {label}, but labels of {classes} classes are 0 to {classes - 1}",
                "labels count from 0 and there is no background class",
            )
        if not bool(target.boxes_xyxy[row].isfinite().all()):
            raise DataError(f"{name}: object {row} has the box {box}, which is not finite")
        raise DataError(
            f"{name}: object {row} has the box {box}, whose corners are swapped",
            "boxes are (left, top, right, bottom); (x, y, width, height) or (y, x, y, x) boxes must be converted",
        )
