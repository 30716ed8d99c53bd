"""Masks drawn over their image: classes in their colours, mistakes in one colour, void left grey."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from trivet.report.draw import chip_font, drawn_codes, drawn_names
from trivet.report.palette import class_colour, rgb, text_colour
from trivet.structures import IGNORE_LABEL

MISTAKE = "#e6007e"  # a colour that no class has
COVER = 0.6  # of a class's colour over the image
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
        spelled: Whether regions with room for it bear the class's name instead, where no legend tells the codes.
    """
    colours, cover = np.zeros((256, 3), np.float32), np.full((256, 1), COVER, np.float32)
    colours[: len(names)] = [rgb(class_colour(label)) for label in range(len(names))]
    plain = [label for label, name in enumerate(names) if is_background(name)]
    cover[plain] = 0
    grey = _grey(image)
    known = (mask < len(names))[..., None]
    canvas = np.where(known, (1 - cover[mask]) * grey + cover[mask] * colours[mask], 0.45 * grey)
    canvas[_outlines(mask)] *= 0.35
    codes, written = drawn_codes(names), drawn_names(names) if spelled else drawn_codes(names)
    wordings = {label: (written[label], codes[label]) for label in range(len(names)) if label not in plain}
    return _with_words(canvas.round().astype(np.uint8), mask, wordings)


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
    canvas: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], wordings: Mapping[int, Sequence[str]]
) -> UInt8[np.ndarray, "h w 3"]:
    """Write on each class, where its region is thickest, the first of its wordings that there is room for."""
    size = max(10, round(min(mask.shape) / 26))
    picture = Image.fromarray(canvas)
    pen, font = ImageDraw.Draw(picture), chip_font(size)
    for label in np.unique(mask).tolist():
        region = np.pad((mask == label).astype(np.uint8), 1)
        if label not in wordings or region.sum() < _LEAST_SHARE * mask.size:
            continue
        depth = cv2.distanceTransform(region, cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        for word in wordings[label]:
            half_wide, half_high = font.getlength(word) / 2 + 0.3 * size, 0.65 * size
            if depth[row, column] >= max(half_wide, half_high):
                x, y = int(column), int(row)
                box = (x - half_wide, y - half_high, x + half_wide, y + half_high)
                colour = class_colour(label)
                pen.rounded_rectangle(box, radius=size // 5, fill=rgb(colour))
                pen.text((x, y), word, font=font, fill=rgb(text_colour(colour)), anchor="mm")
                break
    return np.asarray(picture)
