"""Boxes and labels drawn onto an image, legible at any size."""

import functools
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, Int64, Integer, UInt8
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from trivet.errors import UsageError
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
    boxes, kinds = _checked(image, boxes_xyxy, labels, names)
    marks = None if scores is None else np.asarray(scores, dtype=np.float64)
    if marks is not None and len(marks) != len(boxes):
        raise UsageError(f"drawing needs one score a box, got {len(marks)} scores and {len(boxes)} boxes")
    true_boxes, true_kinds = np.zeros((0, 4)), np.zeros(0, np.int64)
    if truth is not None:
        true_boxes, true_kinds = _checked(image, truth.boxes_xyxy, truth.labels, names)
    order = np.arange(len(boxes)) if marks is None else np.argsort(-marks, kind="stable")
    boxes, kinds, marks = boxes[order], kinds[order], None if marks is None else marks[order]

    canvas = Image.fromarray(image)
    pen = _Pen(canvas)
    for box, kind in reversed([*zip(boxes, kinds, strict=True)]):  # the best on top
        pen.solid(box, class_colour(int(kind)))
    for box, kind in zip(true_boxes, true_kinds, strict=True):
        pen.dashed(box, class_colour(int(kind)))

    missed = ~_found(true_boxes, true_kinds, boxes, kinds)
    every_kind = np.concatenate([kinds, true_kinds[missed]])
    figures = ["" if marks is None else f" {mark:.2f}" for mark in (kinds if marks is None else marks)]
    wordings = _wordings(every_kind, [*figures, *[""] * int(missed.sum())], names)
    pen.label(np.concatenate([boxes, true_boxes[missed]]), every_kind, wordings)
    return np.asarray(canvas)


class _Pen:
    """Draws on one picture with lines and letters that suit its size."""

    def __init__(self, canvas: Image.Image) -> None:
        self.size_hw = (canvas.height, canvas.width)
        scale = min(self.size_hw)
        self.width = max(1, round(scale / 260))
        self.font = _font(max(10, round(scale / 36)))
        self.draw = ImageDraw.Draw(canvas, "RGBA")

    def solid(self, box_xyxy: Float[np.ndarray, " 4"], colour: str) -> None:
        """Outline a box, with a soft shadow that keeps it visible on its own colour."""
        if corners := self._inside(box_xyxy):
            left, top, right, bottom = corners
            self.draw.rectangle(
                (left - 1, top - 1, right + 1, bottom + 1), outline=SHADOW, width=self.width + 2
            )
            self.draw.rectangle(corners, outline=rgb(colour), width=self.width)

    def dashed(self, box_xyxy: Float[np.ndarray, " 4"], colour: str) -> None:
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
        boxes_xyxy: Float[np.ndarray, "n 4"],
        labels: Int64[np.ndarray, " n"],
        wordings: Sequence[Sequence[str]],
    ) -> None:
        """Put a chip with the class's name at each visible box."""
        seen = [row for row, box in enumerate(boxes_xyxy) if self._inside(box)]
        height, width = self.size_hw
        boxes = np.clip(boxes_xyxy[seen], 0, [width, height, width, height])
        texts = [[wording[row] for row in seen] for wording in wordings]
        for chip in place_chips(boxes, texts, self._measure, size_hw=self.size_hw):
            self._chip(chip, class_colour(int(labels[seen[chip.row]])))

    def _chip(self, chip: Chip, colour: str) -> None:
        left, top, right, bottom = chip.box_xyxy
        self.draw.rounded_rectangle(
            (left, top, right - 1, bottom - 1), radius=self.font.size // 5, fill=rgb(colour)
        )
        middle = ((left + right) / 2, (top + bottom) / 2)
        self.draw.text(middle, chip.text, font=self.font, fill=rgb(text_colour(colour)), anchor="mm")

    def _measure(self, text: str) -> tuple[int, int]:
        return round(self.font.getlength(text) + 0.6 * self.font.size), round(1.3 * self.font.size)

    def _inside(self, box_xyxy: Float[np.ndarray, " 4"]) -> tuple[int, int, int, int] | None:
        """Return the corner pixels of a box's visible part, or `None`."""
        height, width = self.size_hw
        if not np.isfinite(box_xyxy).all():
            return None
        left, top, right, bottom = np.clip(box_xyxy, 0, [width, height, width, height])
        if right <= left or bottom <= top:
            return None
        left, top = min(int(left), width - 1), min(int(top), height - 1)
        return left, top, max(int(np.ceil(right)) - 1, left), max(int(np.ceil(bottom)) - 1, top)


def _checked(
    image: np.ndarray, boxes_xyxy: np.ndarray | Tensor, labels: np.ndarray | Tensor, names: Sequence[str]
) -> tuple[Float[np.ndarray, "n 4"], Int64[np.ndarray, " n"]]:
    boxes, kinds = np.asarray(boxes_xyxy, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"drawing needs a uint8 image [h, w, 3], got {image.dtype} {image.shape}")
    if boxes.shape != (len(kinds), 4):
        raise UsageError(f"drawing needs boxes [n, 4] and labels [n], got {boxes.shape} and {kinds.shape}")
    if len(kinds) and not 0 <= kinds.min() <= kinds.max() < len(names):
        raise UsageError(
            f"drawing needs a name for each label, got labels from {kinds.min()} to {kinds.max()} and {len(names)} names"
        )
    return boxes, kinds


def _found(
    true_boxes: Float[np.ndarray, "t 4"],
    true_labels: Int64[np.ndarray, " t"],
    boxes: Float[np.ndarray, "n 4"],
    labels: Int64[np.ndarray, " n"],
) -> np.ndarray:
    """Return bool `[t]`: whether a prediction of the truth's class covers it."""
    low = np.maximum(true_boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(true_boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (true_boxes, boxes)]
    union = areas[0][:, None] + areas[1][None] - common
    same = true_labels[:, None] == labels[None]
    return (same & (common >= FOUND_IOU * union)).any(axis=1)


def _wordings(
    labels: Int64[np.ndarray, " n"], figures: Sequence[str], names: Sequence[str]
) -> list[list[str]]:
    """Return each box's label three times: name and score, name, code."""
    shown = [_drawable(name, label) for label, name in enumerate(names)]
    codes = short_codes(shown)
    plain = [shown[label] for label in labels]
    return [
        [name + figure for name, figure in zip(plain, figures, strict=True)],
        plain,
        [codes[label] for label in labels],
    ]


def _drawable(name: str, label: int) -> str:
    """Return the name where the font has all its letters, else the label, which beats empty rectangles."""
    plain = plain_label(name)
    return plain if plain.strip() and all(ord(letter) in _letters() for letter in plain) else f"class {label}"


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file()), size)


@functools.lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(str(_font_file())).get_charmap())


def _font_file() -> Path:
    """Return the font that matplotlib ships, so that pictures look the same everywhere."""
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")
