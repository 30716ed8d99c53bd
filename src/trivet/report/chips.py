"""Where the labels of boxes go: inside the image, beside their box, and not over each other where avoidable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CROWDED = 0.12  # share of labels that may find no free place before all become shorter


@dataclass(frozen=True)
class Chip:
    """A label in its place: the row of its box, its text, and its corners in whole pixels."""

    row: int
    text: str
    box_xyxy: tuple[int, int, int, int]


def place_chips(
    boxes_xyxy: Float[np.ndarray, "n 4"],
    wordings: Sequence[Sequence[str]],
    measure: Callable[[str], tuple[int, int]],
    *,
    size_hw: tuple[int, int],
) -> list[Chip]:
    """Place one label a box, earlier boxes first; where it is crowded with a shorter wording or not at all.

    Args:
        boxes_xyxy: Pixels of the image, most important first.
        wordings: The labels of all boxes, once for each wording, longest wording first.
        measure: Text -> (width, height) of its chip in pixels.
        size_hw: The image's size; no chip leaves it.
    """
    chips: list[Chip] = []
    for texts in wordings:
        chips = _place_free(boxes_xyxy, texts, measure, size_hw, taken=[])
        if len(chips) >= (1 - CROWDED) * len(texts):
            break
    left = sorted(set(range(len(boxes_xyxy))) - {chip.row for chip in chips})
    short = [wordings[-1][row] for row in left] if left else []
    late = _place_free(boxes_xyxy[left], short, measure, size_hw, taken=chips)
    return chips + [Chip(left[chip.row], chip.text, chip.box_xyxy) for chip in late]


def _place_free(
    boxes_xyxy: Float[np.ndarray, "n 4"],
    texts: Sequence[str],
    measure: Callable[[str], tuple[int, int]],
    size_hw: tuple[int, int],
    *,
    taken: Sequence[Chip],
) -> list[Chip]:
    """Place the labels that find a place free of `taken` and of each other; leave the others out."""
    chips: list[Chip] = []
    covered = np.array([chip.box_xyxy for chip in taken], dtype=float).reshape(-1, 4)
    for row, (box, text) in enumerate(zip(boxes_xyxy, texts, strict=True)):
        places = _places(box, measure(text), size_hw)
        free = places[~(_overlap(places, covered) > 0).any(axis=1)]
        if len(free):
            hidden = (_overlap(free, boxes_xyxy) / np.maximum(_areas(boxes_xyxy), 1)).max(axis=1)
            best = free[
                np.argmin(np.round(hidden, 1))
            ]  # the first of those that hide the least of any object
            chips.append(Chip(row, text, tuple(int(edge) for edge in best)))  # type: ignore[arg-type]
            covered = np.vstack([covered, best])
    return chips


def _places(
    box_xyxy: Float[np.ndarray, " 4"], chip_wh: tuple[int, int], size_hw: tuple[int, int]
) -> Float[np.ndarray, "places 4"]:
    """Return a chip's places at a box, best first, each moved inside the image; none if the image is too small."""
    (left, top, right, bottom), (width, height) = np.round(box_xyxy), chip_wh
    if width > size_hw[1] or height > size_hw[0]:
        return np.zeros((0, 4))
    corners = [
        (left, top - height),
        (right - width, top - height),
        (left, bottom),
        (right - width, bottom),
        (left, top),
        (right - width, top),
        (left, bottom - height),
        (right - width, bottom - height),
        (right, top),
        (left - width, top),
    ]
    places = np.clip(np.array(corners), 0, [size_hw[1] - width, size_hw[0] - height])
    return np.hstack([places, places + [width, height]])


def _overlap(one: Float[np.ndarray, "n 4"], other: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Return the common area of every pair, in square pixels."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)


def _areas(boxes_xyxy: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
