"""Where the labels of boxes go: inside the image, beside their box, and not over each other where avoidable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.geometry.boxes import areas, intersections

CROWDED = 0.12  # share of labels that may find no free place before all become shorter
MOST_HIDDEN = 0.2  # share of the image that labels may hide


@dataclass(frozen=True)
class Chip:
    """A label in its place: the row of its box, its text, and its corners in whole pixels."""

    row: int
    text: str
    box_xyxy: tuple[int, int, int, int]


def place_chips(
    boxes_xyxy: Float[Tensor, "n 4"],
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
    short = [wordings[-1][row] for row in left]
    late = _place_free(boxes_xyxy[left], short, measure, size_hw, taken=chips)
    return chips + [Chip(left[chip.row], chip.text, chip.box_xyxy) for chip in late]


def _place_free(
    boxes_xyxy: Float[Tensor, "n 4"],
    texts: Sequence[str],
    measure: Callable[[str], tuple[int, int]],
    size_hw: tuple[int, int],
    *,
    taken: Sequence[Chip],
) -> list[Chip]:
    """Place the labels that find a place free of `taken` and of each other; leave the others out."""
    chips: list[Chip] = []
    covered = boxes_xyxy.new_tensor([chip.box_xyxy for chip in taken]).reshape(-1, 4)
    for row, (box, text) in enumerate(zip(boxes_xyxy, texts, strict=True)):
        places = _places(box, measure(text), size_hw)
        free = places[~(intersections(places[:, None], covered[None]) > 0).any(dim=1)]
        room = MOST_HIDDEN * size_hw[0] * size_hw[1] - float(areas(covered).sum())
        if len(free) and float(areas(free[0])) <= room:
            hidden = intersections(free[:, None], boxes_xyxy[None]) / areas(boxes_xyxy).clamp(min=1)
            best = free[
                hidden.amax(dim=1).round(decimals=1).argmin()
            ]  # the first that hides least of any object
            left, top, right, bottom = (int(edge) for edge in best)
            chips.append(Chip(row, text, (left, top, right, bottom)))
            covered = torch.vstack([covered, best])
    return chips


def _places(
    box_xyxy: Float[Tensor, " 4"], chip_wh: tuple[int, int], size_hw: tuple[int, int]
) -> Float[Tensor, "places 4"]:
    """Return a chip's places at a box, best first, each moved inside the image; none if the image is too small."""
    (left, top, right, bottom), (width, height) = box_xyxy.round().tolist(), chip_wh
    if width > size_hw[1] or height > size_hw[0]:
        return box_xyxy.new_zeros(0, 4)
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
    places = box_xyxy.new_tensor(corners).clamp(min=0)
    places = places.minimum(places.new_tensor([size_hw[1] - width, size_hw[0] - height]))
    return torch.hstack([places, places + places.new_tensor(chip_wh)])
