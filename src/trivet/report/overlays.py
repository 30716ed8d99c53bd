"""Masks drawn over their image: classes in their colours, mistakes in one colour, void left grey."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from trivet.report.draw import chip_font, drawn_codes, drawn_names
from trivet.report.palette import class_colour, rgb, text_colour
from trivet.structures import IGNORE_LABEL

MISTAKE = "#e6007e"  # a colour that no class has
COVER = 0.6  # of a class's colour over the image
_Corners: TypeAlias = tuple[float, float, float, float]
_LEAST_SHARE = 0.01  # of the image, for a region to bear its class's code


def draw_mask(
    image: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    names: Sequence[str],
    *,
    spelled: bool = False,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a mask over a copy of `image`; each large region bears its class's code, background is left as it is.

    Args:
        image: RGB.
        mask: Labels; 255 is void and labels without a name are drawn as void.
        names: Class names, in label order.
        spelled: Whether regions bear the class's name instead, where no legend tells the codes.
    """
    colours, cover = np.zeros((256, 3), np.float32), np.full((256, 1), COVER, np.float32)
    colours[: len(names)] = [rgb(class_colour(label)) for label in range(len(names))]
    plain = [label for label, name in enumerate(names) if is_background(name)]
    cover[plain] = 0
    grey = _grey(image)
    known = (mask < len(names))[..., None]
    canvas = np.where(known, (1 - cover[mask]) * grey + cover[mask] * colours[mask], 0.45 * grey)
    canvas[_outlines(mask)] *= 0.35
    written: list[Sequence[str]] = [(code,) for code in drawn_codes(names)]
    if spelled:
        written = [(name, name.replace(" ", "\n")) for name in drawn_names(names)]
    wordings = {label: words for label, words in enumerate(written) if label not in plain}
    return _with_words(canvas.round().astype(np.uint8), mask, wordings, always=spelled)


def is_background(name: str) -> bool:
    """Whether a class is what is left when everything else is named."""
    return name.strip().lower() == "background"


def draw_mistakes(
    image: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw where a prediction is wrong in one colour over the image in grey; void is dark.

    Args:
        image: RGB.
        truth: Labels, 255 for void.
        predicted: Labels.
    """
    grey = 0.55 * _grey(image) + 90
    wrong = (truth != predicted) & (truth != IGNORE_LABEL)
    canvas = np.where(wrong[..., None], 0.15 * grey + 0.85 * np.array(rgb(MISTAKE), np.float32), grey)
    canvas[truth == IGNORE_LABEL] = 0.4 * grey[truth == IGNORE_LABEL]
    return canvas.round().clip(0, 255).astype(np.uint8)


def mistaken(truth: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]) -> float:
    """Return the share of the pixels that are wrong, void left out, 0-1."""
    valid = truth != IGNORE_LABEL
    return float((truth != predicted)[valid].mean()) if valid.any() else 0.0


def _grey(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.repeat(grey[..., None], 3, axis=2)


def _outlines(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Say which pixels differ from the one to the right or below."""
    edge = np.zeros(mask.shape, bool)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    return edge


def _with_words(
    canvas: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    wordings: Mapping[int, Sequence[str]],
    *,
    always: bool,
) -> UInt8[np.ndarray, "h w 3"]:
    """Write on each class, where its region is thickest, the first of its wordings that there is room for.

    With `always` the first wording stands there even where it is wider than the region, unless it would cover another.
    """
    size = max(10, round(min(mask.shape) / 26))
    picture = Image.fromarray(canvas)
    pen, font = ImageDraw.Draw(picture), chip_font(size)
    within: list[tuple[int, str, _Corners]] = []
    beyond: list[tuple[int, str, _Corners]] = []
    for label in np.unique(mask).tolist():
        region = np.pad((mask == label).astype(np.uint8), 1)
        if label not in wordings or region.sum() < _LEAST_SHARE * mask.size:
            continue
        depth = cv2.distanceTransform(region, cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = (float(at) for at in np.unravel_index(int(depth.argmax()), depth.shape))
        halves = [_half_size(pen, font, word) for word in wordings[label]]
        room = [number for number, half in enumerate(halves) if depth.max() >= max(half)]
        if room:
            chosen = room[0]
            within.append((label, wordings[label][chosen], _corners((column, row), halves[chosen])))
        elif always:
            inside = _moved_inside((column, row), halves[0], mask.shape)
            beyond.append((label, wordings[label][0], _corners(inside, halves[0])))
    taken: list[_Corners] = []
    for label, word, box in [*within, *beyond]:
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        colour = class_colour(label)
        pen.rounded_rectangle(box, radius=size // 5, fill=rgb(colour))
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        pen.text(middle, word, font=font, fill=rgb(text_colour(colour)), anchor="mm", align="center")
    return np.asarray(picture)


def _half_size(pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, word: str) -> tuple[float, float]:
    lines = word.count("\n") + 1
    left, _, right, _ = pen.textbbox((0, 0), word, font=font)
    return (right - left) / 2 + 0.3 * font.size, (0.05 + 0.6 * lines) * font.size


def _corners(middle: tuple[float, float], half: tuple[float, float]) -> _Corners:
    return middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]


def _moved_inside(
    middle: tuple[float, float], half: tuple[float, float], size_hw: tuple[int, ...]
) -> tuple[float, float]:
    x, y = (
        min(max(at, reach), max(side - 1 - reach, reach))
        for at, reach, side in zip(middle, half, (size_hw[1], size_hw[0]), strict=True)
    )
    return x, y


def _overlap(one: _Corners, other: _Corners) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
