"""Boxes and labels drawn onto an image, legible at any size."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from trivet.errors import UsageError
from trivet.geometry.boxes import clip, pairwise_iou, reach_into
from trivet.report.chips import Chip, place_chips
from trivet.report.naming import plain_label, short_codes
from trivet.report.palette import class_colour, rgb, text_colour
from trivet.structures import BoxTarget

FOUND_IOU = 0.5  # a truth box that a prediction of its class covers this well needs no label of its own
SHADOW = (0, 0, 0, 120)


def draw_detections(
    image: UInt8[np.ndarray, "h w 3"],
    boxes_xyxy: Float[np.ndarray | Tensor, "n 4"],
    labels: Integer[np.ndarray | Tensor, " n"],
    names: Sequence[str],
    *,
    scores: Float[np.ndarray | Tensor, " n"] | None = None,
    truth: BoxTarget | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw predictions with solid and truth with dashed lines onto a copy of `image`.

    Lines and letters grow with the image. Labels shrink to the class's initial or number where many objects
    leave no room. Boxes without a visible part are left out; truth that a prediction has found bears no label.

    Args:
        image: RGB.
        boxes_xyxy: Predictions, in pixels of `image`; without `scores` most important first.
        labels: Their classes, from 0.
        names: Class names, in label order.
        scores: In 0-1; written behind the names.
        truth: What is there.

    Raises:
        UsageError: If lengths differ, the image is not uint8 RGB, or a label has no name.
    """
    found = _checked(image, boxes_xyxy, labels, names)
    there = BoxTarget(found.boxes_xyxy[:0], found.labels[:0])
    if truth is not None:
        there = _checked(image, truth.boxes_xyxy, truth.labels, names)
    marks = torch.zeros(len(found.labels)) if scores is None else torch.as_tensor(scores)
    if len(marks) != len(found.labels):
        raise UsageError(
            f"drawing needs one score a box, got {len(marks)} scores and {len(found.labels)} boxes"
        )
    order = marks.argsort(descending=True, stable=True)
    found, marks = BoxTarget(found.boxes_xyxy[order], found.labels[order]), marks[order]
    missed = ~found_truth(there, found)

    canvas = Image.fromarray(image)
    pen = _Pen(canvas)
    for box, label in reversed([*zip(found.boxes_xyxy, found.labels, strict=True)]):  # the best on top
        pen.solid(box, class_colour(int(label)))
    for box, label in zip(there.boxes_xyxy, there.labels, strict=True):
        pen.dashed(box, class_colour(int(label)))
    labelled = torch.cat([found.labels, there.labels[missed]])
    figures = ["" if scores is None else f" {mark:.2f}" for mark in marks] + [""] * int(missed.sum())
    pen.label(
        torch.cat([found.boxes_xyxy, there.boxes_xyxy[missed]]),
        labelled.tolist(),
        _wordings(labelled.tolist(), figures, names),
    )
    return np.asarray(canvas)


def found_truth(truth: BoxTarget, found: BoxTarget) -> Bool[Tensor, " t"]:
    """Say which objects a prediction of their class covers with an IoU of at least 0.5."""
    same = truth.labels[:, None] == found.labels[None]
    return (same & (pairwise_iou(truth.boxes_xyxy, found.boxes_xyxy) >= FOUND_IOU)).any(dim=1)


class _Pen:
    """Draws on one picture with lines and letters that suit its size."""

    def __init__(self, canvas: Image.Image) -> None:
        self.size_hw = (canvas.height, canvas.width)
        scale = min(self.size_hw)
        self.width = max(1, round(scale / 260))
        self.font = chip_font(max(10, round(scale / 36)))
        self.draw = ImageDraw.Draw(canvas, "RGBA")

    def solid(self, box_xyxy: Float[Tensor, " 4"], colour: str) -> None:
        """Outline a box, with a soft shadow that keeps it visible on its own colour."""
        if corners := self._inside(box_xyxy):
            left, top, right, bottom = corners
            self.draw.rectangle(
                (left - 1, top - 1, right + 1, bottom + 1), outline=SHADOW, width=self.width + 2
            )
            self.draw.rectangle(corners, outline=rgb(colour), width=self.width)

    def dashed(self, box_xyxy: Float[Tensor, " 4"], colour: str) -> None:
        """Outline a box with dashes on a dark line."""
        if not (corners := self._inside(box_xyxy)):
            return
        left, top, right, bottom = corners
        thick = self.width - 1
        self.draw.rectangle(corners, outline=(0, 0, 0, 200), width=self.width)
        dash, step = 4 * self.width, 7 * self.width
        for x in range(left, right + 1, step):
            end = min(x + dash, right)
            self.draw.rectangle((x, top, end, min(top + thick, bottom)), fill=rgb(colour))
            self.draw.rectangle((x, max(bottom - thick, top), end, bottom), fill=rgb(colour))
        for y in range(top, bottom + 1, step):
            end = min(y + dash, bottom)
            self.draw.rectangle((left, y, min(left + thick, right), end), fill=rgb(colour))
            self.draw.rectangle((max(right - thick, left), y, right, end), fill=rgb(colour))

    def label(
        self,
        boxes_xyxy: Float[Tensor, "n 4"],
        labels: Sequence[int],
        wordings: Sequence[Sequence[str]],
    ) -> None:
        """Put a chip with the class's name at each visible box."""
        seen = [row for row, box in enumerate(boxes_xyxy) if self._inside(box)]
        boxes = clip(boxes_xyxy[seen], self.size_hw)
        texts = [[wording[row] for row in seen] for wording in wordings]
        for chip in place_chips(boxes, texts, self._measure, size_hw=self.size_hw):
            self._chip(chip, class_colour(labels[seen[chip.row]]))

    def _chip(self, chip: Chip, colour: str) -> None:
        left, top, right, bottom = chip.box_xyxy
        self.draw.rounded_rectangle(
            (left, top, right - 1, bottom - 1), radius=self.font.size // 5, fill=rgb(colour)
        )
        middle = ((left + right) / 2, (top + bottom) / 2)
        self.draw.text(middle, chip.text, font=self.font, fill=rgb(text_colour(colour)), anchor="mm")

    def _measure(self, text: str) -> tuple[int, int]:
        return round(self.font.getlength(text) + 0.6 * self.font.size), round(1.3 * self.font.size)

    def _inside(self, box_xyxy: Float[Tensor, " 4"]) -> tuple[int, int, int, int] | None:
        """Return the corner pixels of a box's visible part, or `None`."""
        if not (box_xyxy.isfinite().all() and reach_into(box_xyxy, self.size_hw)):
            return None
        left, top, right, bottom = clip(box_xyxy, self.size_hw).tolist()
        x, y = int(left), int(top)
        return x, y, max(math.ceil(right) - 1, x), max(math.ceil(bottom) - 1, y)


def _checked(
    image: np.ndarray, boxes_xyxy: np.ndarray | Tensor, labels: np.ndarray | Tensor, names: Sequence[str]
) -> BoxTarget:
    boxes = torch.as_tensor(boxes_xyxy).detach().cpu().float()
    kinds = torch.as_tensor(labels).cpu().long()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"drawing needs a uint8 image [h, w, 3], got {image.dtype} {image.shape}")
    if boxes.shape != (len(kinds), 4):
        raise UsageError(
            f"drawing needs boxes [n, 4] and labels [n], got {tuple(boxes.shape)} and {tuple(kinds.shape)}"
        )
    if len(kinds) and not 0 <= int(kinds.min()) <= int(kinds.max()) < len(names):
        raise UsageError(
            f"drawing needs a name for each label, got labels from {kinds.min()} to {kinds.max()} and {len(names)} names"
        )
    return BoxTarget(boxes, kinds)


def _wordings(labels: Sequence[int], figures: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    """Return each box's label three times: name and score, name, code."""
    shown, codes = drawn_names(names), drawn_codes(names)
    return [
        [shown[label] + figure for label, figure in zip(labels, figures, strict=True)],
        [shown[label] for label in labels],
        [codes[label] for label in labels],
    ]


def drawn_codes(names: Sequence[str]) -> tuple[str, ...]:
    """Return what stands for each class where its name has no room."""
    return short_codes(drawn_names(names))


def drawn_names(names: Sequence[str]) -> list[str]:
    """Return the names as pictures bear them: where the font lacks a letter the label, which beats empty rectangles."""
    letters, plain = _letters(), [plain_label(name) for name in names]
    return [
        name if name.strip() and letters.issuperset(map(ord, name)) else f"class {label}"
        for label, name in enumerate(plain)
    ]


@functools.lru_cache(maxsize=8)
def chip_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the letters that pictures are labelled with, of this size in pixels."""
    return ImageFont.truetype(str(_font_file()), size)


@functools.lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(str(_font_file())).get_charmap())


def _font_file() -> Path:
    """Return the font that matplotlib ships, so that pictures look the same everywhere."""
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")
