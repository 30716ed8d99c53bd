"""Predictions as a COCO results file: `[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}, ...]`.

A class's category id is its id in the annotation files where the label map's are numbers, else label + 1.
"""

import re
from pathlib import Path

import msgspec
import numpy as np

from trivet.errors import DataError
from trivet.storage import whole_file
from trivet.structures import LabelMap, PredictionTable, TruthTable

_ROWS_AT_ONCE = 10_000


class _Row(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def read_coco_results(path: str | Path, truth: TruthTable, labels: LabelMap) -> PredictionTable:
    """Read the predictions of any detector.

    Args:
        path: A COCO results file.
        truth: The images that were predicted on.
        labels: The classes.

    Raises:
        DataError: If the file or one of its rows cannot be used; the message names the file and the row,
            counted from 0.
    """
    path = Path(path)
    rows = _decode(path)
    count = len(rows)
    xywh = np.array([row.bbox for row in rows], np.float64).reshape(count, 4)
    scores = np.array([row.score for row in rows], np.float64)
    image_ids = _integers(path, "image id", [row.image_id for row in rows])
    category_ids = _integers(path, "category id", [row.category_id for row in rows])
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    largest = np.finfo(np.float32).max
    _refuse(path, np.abs(boxes).max(axis=1) > largest, "box {} is beyond any image", xywh)
    _refuse(path, xywh[:, 2:].min(axis=1) < 0, "box {} has a negative width or height", xywh)
    _refuse(path, (scores < 0) | (scores > 1), "score {} is outside of 0-1", scores)
    images = f"the {len(truth)} images of the truth do not have"
    _refuse(path, ~np.isin(image_ids, truth.image_ids), f"image id {{}} is one that {images}", image_ids)
    known = np.array(category_ids_of(labels), np.int64)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], category_ids), len(known) - 1)
    shown = ", ".join(str(number) for number in known[order][:20]) + (", ..." if len(known) > 20 else "")
    unknown = known[order][place] != category_ids
    _refuse(path, unknown, f"category id {{}} is none of the label map's: {shown}", category_ids)
    return PredictionTable(
        image_ids, boxes.astype(np.float32), scores.astype(np.float32), order[place].astype(np.int64)
    )


def write_coco_results(path: str | Path, predictions: PredictionTable, labels: LabelMap) -> None:
    """Write predictions, whole or not at all; `read_coco_results` gives them back bit for bit.

    Args:
        path: The file to write.
        predictions: Boxes in the original images' pixels.
        labels: The classes.
    """
    path = Path(path)
    boxes = predictions.boxes_xyxy.astype(np.float64)
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    category_ids = np.array(category_ids_of(labels), np.int64)[predictions.labels]
    columns = (predictions.image_ids, category_ids, boxes, predictions.scores.astype(np.float64))
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        file.write(b"[")
        for start in range(0, len(predictions), _ROWS_AT_ONCE):
            part = (column[start : start + _ROWS_AT_ONCE].tolist() for column in columns)
            rows = [_Row(image, label, box, score) for image, label, box, score in zip(*part, strict=True)]
            file.write((b",\n" if start else b"") + msgspec.json.encode(rows)[1:-1])
        file.write(b"]\n")


def category_ids_of(labels: LabelMap) -> list[int]:
    """Return each class's category id: its id in the annotation files if all are numbers, else label + 1.

    Example:
        >>> category_ids_of(LabelMap(("cat", "dog"), (17, 18)))
        [17, 18]
        >>> category_ids_of(LabelMap(("cat", "dog"), ("cat", "dog")))
        [1, 2]
    """
    numbers = [number for number in labels.file_ids if isinstance(number, int)]
    return numbers if len(numbers) == len(labels) else list(range(1, len(labels) + 1))


def _decode(path: Path) -> list[_Row]:
    wanted = (
        'wanted is a list of {"image_id": 1, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}'
    )
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror}", "give a COCO results file") from fault
    try:
        return msgspec.json.decode(data, type=list[_Row])
    except msgspec.ValidationError as fault:
        message = re.sub(r" - at `\$(\[(\d+)\])?(.*)`$", _place, str(fault))
        raise DataError(f"{path}: {message}", wanted) from fault
    except (msgspec.DecodeError, RecursionError) as fault:
        byte = re.search(r"byte (\d+)", str(fault))
        row = f" near row {max(data.count(b'{', 0, int(byte[1])) - 1, 0)}" if byte else ""
        raise DataError(
            f"{path} is not JSON{row}: {fault}", f"{wanted}; NaN and Infinity are not JSON"
        ) from fault


def _place(match: re.Match[str]) -> str:
    row, field = match[2], match[3].lstrip(".")
    return (f", in row {row}" if row else "") + (f", {field}" if field else "")


def _integers(path: Path, kind: str, values: list[int]) -> np.ndarray:
    largest = np.iinfo(np.int64).max
    for row, value in enumerate(values):
        if abs(value) > largest:
            raise DataError(f"{path}, row {row}: {kind} {value} has more than 64 bits")
    return np.array(values, np.int64)


def _refuse(path: Path, bad: np.ndarray, words: str, values: np.ndarray) -> None:
    """Raise for the first row for which `bad` holds, saying its value and how many others there are."""
    if bad.any():
        row = int(bad.argmax())
        others = int(bad.sum()) - 1
        raise DataError(
            f"{path}, row {row}: {words.format(values[row].tolist())}",
            f"{others} other rows have the same fault" if others else "mend or remove this row",
        )
