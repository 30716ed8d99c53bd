"""Competition files of the Boostcamp recycling-trash competitions: written, read back, and their faults named.

`boostcamp-seg`: header `image_id,PredictionString`, one row an image; the string is 65,536 class ids, the mask
brought to 256 x 256 by nearest neighbour, row by row. `boostcamp-det`: header `PredictionString,image_id`; the
string repeats `label score left top right bottom `, absolute pixels. An image's id is its file name. A row is in
memory at a time.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from trivet.errors import DataError, UsageError
from trivet.storage import whole_file
from trivet.structures import Detections

MASK_SIDE = 256
MASK_HEADER = ("image_id", "PredictionString")
BOX_HEADER = ("PredictionString", "image_id")
SUBMISSIONS = {"boostcamp-seg": MASK_HEADER, "boostcamp-det": BOX_HEADER}
"""Each format's header."""
_LONGEST_ROW = 1 << 24  # characters: far beyond any real row, and little memory
_BOX_FIELDS = 6


def shrunk_mask(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "256 256"]:
    """Return a mask at the size the segmentation board scores, by OpenCV's nearest neighbour.

    A pixel takes the label at `floor(position * side / 256)`, as the competition's own resize does.
    """
    return cv2.resize(mask, (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_NEAREST)


def write_mask_submission(
    path: str | Path, rows: Iterable[tuple[str, UInt8[np.ndarray, "h w"]]], *, add: int = 0
) -> int:
    """Write `boostcamp-seg`, whole or not at all.

    Args:
        path: The file to write.
        rows: Image id and mask of any size, labels from 0, one after the other.
        add: What makes a label a class id of the competition; 0 where the labels are its ids.

    Returns:
        How many rows were written.

    Raises:
        UsageError: If an image comes twice, or the file cannot be written.
    """

    def strings() -> Iterator[tuple[str, str]]:
        for image_id, mask in rows:
            ids = shrunk_mask(mask).astype(np.int64) + add
            yield image_id, " ".join(map(str, ids.ravel().tolist()))

    return _write(Path(path), MASK_HEADER, strings())


def write_box_submission(
    path: str | Path, rows: Iterable[tuple[str, Detections]], *, least_score: float = 0.0
) -> int:
    """Write `boostcamp-det`, whole or not at all.

    Args:
        path: The file to write.
        rows: Image id and detections in the original image's pixels, one image after the other.
        least_score: Detections below this are left out; mAP gains from a low one.

    Returns:
        How many rows were written.

    Raises:
        UsageError: If an image comes twice, or the file cannot be written.
    """

    def strings() -> Iterator[tuple[str, str]]:
        for image_id, found in rows:
            kept = found.scores >= least_score
            boxes, scores, labels = found.boxes_xyxy[kept], found.scores[kept], found.labels[kept]
            told = zip(labels.tolist(), scores.tolist(), boxes.tolist(), strict=True)
            yield (
                image_id,
                "".join(f"{label} {score!r} {' '.join(map(repr, box))} " for label, score, box in told),
            )

    return _write(Path(path), BOX_HEADER, strings())


@dataclass(frozen=True)
class Fault:
    """What is wrong with a submission.

    Args:
        row: The line of the file, the header being 1; 0 for the file as a whole.
        image_id: The image concerned; empty for none.
        text: What is there and what is wanted.
    """

    row: int
    image_id: str
    text: str


def read_mask_rows(
    path: str | Path, *, images: Sequence[str], classes: int, add: int = 0, faults: list[Fault]
) -> Iterator[tuple[str, UInt8[np.ndarray, "256 256"]]]:
    """Yield image id and labels of each row that has no fault; the faults of all others go to `faults`.

    Args:
        path: A `boostcamp-seg` file.
        images: The ids of the images that were to be predicted.
        classes: How many classes there are.
        add: What was added to a label to make it a class id.
        faults: Is added to; complete when the last row was yielded.

    Raises:
        DataError: If the file cannot be read.
    """
    for row, image_id, text in _rows(Path(path), "boostcamp-seg", images, faults):
        words = text.split()
        if len(words) != MASK_SIDE**2:
            wanted = f"{len(words):,} class ids, wanted {MASK_SIDE**2:,} ({MASK_SIDE} x {MASK_SIDE})"
            faults.append(Fault(row, image_id, wanted))
            continue
        strange = next((word for word in set(words) if not (word.isascii() and word.isdecimal())), None)
        if strange is not None:
            faults.append(Fault(row, image_id, f"{strange[:20]!r} is not a class id"))
            continue
        # Long enough for any id there can be; a longer word is out of range whatever its first digits are.
        ids = np.array([int(word) if len(word) < 9 else 10**9 for word in words], np.int64) - add
        if ids.min() < 0 or ids.max() >= classes:
            worst = int(ids.min() if ids.min() < 0 else ids.max()) + add
            wanted = f"class id {worst} is out of range, wanted {add} to {classes - 1 + add}"
            faults.append(Fault(row, image_id, wanted))
            continue
        yield image_id, ids.astype(np.uint8).reshape(MASK_SIDE, MASK_SIDE)


def read_box_rows(
    path: str | Path, *, images: Sequence[str], classes: int, faults: list[Fault]
) -> Iterator[tuple[str, Detections]]:
    """Yield image id and detections of each row that has no fault; the faults of all others go to `faults`.

    Args:
        path: A `boostcamp-det` file.
        images: The ids of the images that were to be predicted.
        classes: How many classes there are.
        faults: Is added to; complete when the last row was yielded.

    Raises:
        DataError: If the file cannot be read.
    """
    for row, image_id, text in _rows(Path(path), "boostcamp-det", images, faults):
        words = text.split()
        if len(words) % _BOX_FIELDS:
            wanted = (
                f"{len(words)} values, wanted a multiple of {_BOX_FIELDS}: label score left top right bottom"
            )
            faults.append(Fault(row, image_id, wanted))
            continue
        try:
            values = np.array([float(word) for word in words]).reshape(-1, _BOX_FIELDS)
        except ValueError as fault:
            faults.append(Fault(row, image_id, f"a value is no number: {str(fault)[:60]}"))
            continue
        if problem := _box_problem(values, classes):
            faults.append(Fault(row, image_id, problem))
            continue
        order = np.argsort(-values[:, 1], kind="stable")
        table = torch.from_numpy(values[order])
        yield image_id, Detections(table[:, 2:].float(), table[:, 1].float(), table[:, 0].long())


def _box_problem(values: np.ndarray, classes: int) -> str | None:
    labels, scores, boxes = values[:, 0], values[:, 1], values[:, 2:]
    tests = (
        (~np.isfinite(values).all(axis=1), "a value that is not finite"),
        (~np.isin(labels, np.arange(classes)), f"label {{}} is out of range, wanted 0 to {classes - 1}"),
        ((scores < 0) | (scores > 1), "score {} is outside of 0-1"),
        ((boxes[:, 2:] < boxes[:, :2]).any(axis=1), "box {} ends before it begins"),
        (np.abs(boxes).max(axis=1, initial=0) > 1e6, "box {} is beyond any image"),
    )
    columns = (values, labels, scores, boxes, boxes)
    for (bad, words), column in zip(tests, columns, strict=True):
        if bad.any():
            return words.format(column[int(bad.argmax())].tolist())
    return None


def _rows(
    path: Path, kind: str, images: Sequence[str], faults: list[Fault]
) -> Iterator[tuple[int, str, str]]:
    """Yield line, image id and string of each row of a wanted image; name what is wrong with the file."""
    header, missing = SUBMISSIONS[kind], dict.fromkeys(images)
    known, count = set(images), 0
    called = {PurePosixPath(name).name: name for name in images}
    with _opened(path) as file:
        reader = csv.reader(_limited(file, path))
        try:
            first = next(reader, [])
            if tuple(first) != header:
                wanted = f"the header is {','.join(first)[:80]!r}, wanted {','.join(header)!r}"
                faults.append(Fault(1, "", wanted))
                if set(first) != set(header):
                    return
            column, text = first.index("image_id"), first.index("PredictionString")
            for number, fields in enumerate(reader, start=2):
                count += 1
                if len(fields) != len(header):
                    faults.append(Fault(number, "", f"{len(fields)} columns, wanted {len(header)}"))
                    continue
                image_id = fields[column]
                if image_id not in known:
                    other = called.get(PurePosixPath(image_id).name)
                    words = f"; the data set has {other}" if other else ""
                    faults.append(Fault(number, image_id, f"is none of the images to be predicted{words}"))
                elif image_id not in missing:
                    faults.append(Fault(number, image_id, "has a row already"))
                else:
                    del missing[image_id]
                    yield number, image_id, fields[text]
        except (csv.Error, UnicodeDecodeError) as fault:
            raise DataError(f"{path} is not a CSV file: {fault}", f"wanted is {kind}") from fault
    if count != len(images):
        faults.append(Fault(0, "", f"{count} rows, wanted {len(images)}, one an image"))
    faults.extend(Fault(0, image_id, "has no row") for image_id in missing)


def _limited(file: TextIO, path: Path) -> Iterator[str]:
    """Yield lines, none longer than a row can be."""
    while line := file.readline(_LONGEST_ROW):
        if len(line) == _LONGEST_ROW:
            raise DataError(
                f"{path} has a line of over {_LONGEST_ROW:,} characters", "write one row an image"
            )
        yield line


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    # The csv module's own limit is global; a row of 65,536 ids is about as long as its default.
    limit = csv.field_size_limit(_LONGEST_ROW)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror}", "give a submission file") from fault
    finally:
        csv.field_size_limit(limit)


def _write(path: Path, header: Sequence[str], rows: Iterable[tuple[str, str]]) -> int:
    seen: set[str] = set()
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for image_id, text in rows:
            if image_id in seen:
                raise UsageError(f"image {image_id!r} comes twice", "a submission has one row an image")
            seen.add(image_id)
            fields = {"image_id": image_id, "PredictionString": text}
            writer.writerow([fields[name] for name in header])
    return len(seen)
