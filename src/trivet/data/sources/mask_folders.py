"""Masks in files: an image a mask, whose pixels are palette indices, gray levels or colours of classes.

Images and masks lie in folders of like names (`images/train` and `masks/train`, `train` and `trainannot`,
`JPEGImages` and `SegmentationClass`) under the same stems, or are listed in pairs in `train.txt`, `val.txt`,
`test.txt`. What the pixels stand for is read from a class list (`class_list.py`), which may be given as the path where
it is a yaml file that says where the masks are; pixels of a class called void, and index 255 where no class has it, are
ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trivet.data.dataset import Names
from trivet.data.images import read_mask_values, read_mode
from trivet.data.mask_files import MaskCoding, MaskFiles
from trivet.data.sources.class_list import ClassList, ClassRow, find_class_list, names_masks
from trivet.data.sources.folder import Folder
from trivet.data.sources.found import Found, Reading
from trivet.data.sources.mask_pairs import Pairs, find_pairs, is_pair_list
from trivet.data.sources.rows import Rows
from trivet.errors import DataError, UsageError
from trivet.structures import IGNORE_LABEL, LabelMap

NEEDS = (
    "masks under the names of the images, in folders such as images/ and masks/, or train/ and trainannot/"
)


def sees(folder: Folder) -> str | None:
    """Say in words what of this format is in the folder, or return `None`."""
    if folder.file is not None:
        if is_pair_list(folder, folder.file):
            return f"pairs in {folder.file}"
        if not names_masks(folder, folder.file):
            return None
    try:
        pairs = find_pairs(folder)
    except UsageError:
        return "several folders of masks"
    first = next((part.masks[0] for part in pairs.values() if part.masks), None)
    return None if first is None else f"masks like {first}"


def read(folder: Folder, *, labels: str | None = None) -> Reading:
    """Pair images with masks, look at every mask, and settle what its values stand for.

    Raises:
        UsageError: If there are several folders of masks or class lists and none is chosen.
        DataError: If masks are in colour and no list tells the classes' colours, or no mask can be used.
    """
    pairs = find_pairs(folder, labels)
    classes = find_class_list(folder)
    coloured = _coloured(folder, pairs, classes)
    looked = {split: [_look(folder, mask, coloured) for mask in part.masks] for split, part in pairs.items()}
    seen = sorted({value for masks in looked.values() for mask in masks for value in mask.values})
    if not seen:
        fault = next(
            (mask.fault for masks in looked.values() for mask in masks if mask.fault), "there is none"
        )
        raise DataError(f"{folder.root}: no mask can be used: {fault}", NEEDS)
    settled = _settle(folder, classes, seen, coloured=coloured)
    splits = [_found(folder, split, part, looked[split], settled) for split, part in pairs.items()]
    return Reading(settled.labels, tuple(splits), settled.notes)


@dataclass(frozen=True)
class _Mask:
    """What a look at a mask told."""

    size_hw: tuple[int, int] = (0, 0)
    values: tuple[int, ...] = ()
    fault: str | None = None


@dataclass(frozen=True)
class _Settled:
    """What pixel values stand for, and how that was decided."""

    labels: LabelMap
    coding: MaskCoding
    notes: tuple[str, ...]


def _coloured(folder: Folder, pairs: dict[str | None, Pairs], classes: ClassList | None) -> bool:
    """Whether pixels are told by their colour: when the class list has colours and the masks are not gray."""
    if classes is None or any(row.colour is None for row in classes.rows):
        return False
    for part in pairs.values():
        for mask in part.masks:
            try:
                mode = read_mode(folder.path(mask))
            except DataError:
                continue
            return mode in ("RGB", "RGBA", "P", "PA", "CMYK") and not (
                mode == "P" and all(row.value is not None for row in classes.rows)
            )
    return False


def _look(folder: Folder, mask: str, coloured: bool) -> _Mask:
    try:
        pixels = read_mask_values(folder.path(mask), coloured=coloured)
    except DataError as fault:
        return _Mask(fault=fault.message.removeprefix(f"{folder.path(mask)}: "))
    if pixels.dtype == np.uint8:
        values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
    else:
        values = np.unique(pixels)
    return _Mask((pixels.shape[0], pixels.shape[1]), tuple(values.tolist()))


def _settle(folder: Folder, classes: ClassList | None, seen: Sequence[int], *, coloured: bool) -> _Settled:
    notes: list[str] = []
    if classes is None:
        rows = _rows_of_values(folder, seen)
        notes.append(
            f"no class list: classes are called after the masks' values {rows[0].value} to {rows[-1].value}"
        )
    elif coloured:
        rows = [row._replace(value=row.colour) for row in classes.rows]
    else:
        rows = [
            row._replace(value=i if row.value is None else row.value) for i, row in enumerate(classes.rows)
        ]
        counted = all(row.value is None for row in classes.rows)
        if counted and len(rows) in seen and not any(row.name.lower() == "background" for row in rows):
            rows = [ClassRow("background", 0), *(ClassRow(row.name, 1 + i) for i, row in enumerate(rows))]
            notes.append(
                f"masks go up to {len(rows) - 1}, the {len(rows) - 1} names of the class list: 0 is background"
            )
    if classes is not None:
        notes.append(f"classes from {classes.file}")
    kept = [row for row in rows if not row.void]
    if not 0 < len(kept) <= IGNORE_LABEL:
        raise DataError(f"{folder.root}: 1 to {IGNORE_LABEL} classes are wanted, got {len(kept)}")
    table = {row.value: label for label, row in enumerate(kept)} | {
        row.value: IGNORE_LABEL for row in rows if row.void
    }
    if not coloured:
        table.setdefault(IGNORE_LABEL, IGNORE_LABEL)
    coding = MaskCoding.of(
        {value: label for value, label in table.items() if value is not None}, coloured=coloured
    )
    void = [
        coding.in_words(value)
        for value, label in zip(coding.values.tolist(), coding.labels, strict=True)
        if label == IGNORE_LABEL and value in seen
    ]
    if void:
        named = {row.value: row.name for row in rows if row.void}
        notes.append(
            "ignored (255): "
            + ", ".join(
                f"{word} {named.get(int(word, 0) if not coloured else int(word[1:], 16), '')}".strip()
                for word in void
            )
        )
    ids = tuple(coding.in_words(row.value or 0) if coloured else int(row.value or 0) for row in kept)
    return _Settled(LabelMap(tuple(row.name for row in kept), ids), coding, tuple(notes))


def _rows_of_values(folder: Folder, seen: Sequence[int]) -> list[ClassRow]:
    """Name classes after the values there are; 255 is void unless it is the only value besides 0."""
    values = [value for value in seen if value != IGNORE_LABEL or set(seen) <= {0, IGNORE_LABEL}]
    if len(values) > IGNORE_LABEL - 1:
        raise DataError(
            f"{folder.root}: the masks hold {len(values)} different values, too many for classes",
            "JPEG and interpolation invent values: keep masks as PNG, and enlarge them without interpolation",
        )
    return [ClassRow(f"class_{value}", value) for value in values]


def _found(
    folder: Folder, split: str | None, pairs: Pairs, looked: Sequence[_Mask], settled: _Settled
) -> Found:
    known = set(settled.coding.values.tolist())
    rows = Rows(split)
    rows.problems += pairs.problems
    masks = []
    for image, mask, seen in zip(pairs.images, pairs.masks, looked, strict=True):
        strange = sorted(set(seen.values) - known)
        if seen.fault:
            rows.add_problem("mask-unreadable", mask, seen.fault)
        elif strange:
            words = ", ".join(map(settled.coding.in_words, strange[:8])) + (
                ", ..." if len(strange) > 8 else ""
            )
            rows.add_problem("unknown-mask-value", mask, f"{words}, which no class has")
        else:
            rows.add_image(image, mask, image_id=len(rows.names), size_hw=seen.size_hw)
            masks.append(mask)
    return replace(rows.found("image"), masks=MaskFiles(folder.root, Names.of(masks), settled.coding))
