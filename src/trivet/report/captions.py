"""A picture with its likeliest classes written under it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from trivet.report.draw import chip_font
from trivet.report.naming import plain_label
from trivet.report.palette import class_colour, rgb
from trivet.structures import ClassScores

LEAST_WIDTH = 240
"""Smaller pictures are enlarged to about this, so that the words have room."""


def draw_class(
    image: UInt8[np.ndarray, "h w 3"], found: ClassScores, names: Sequence[str], *, most: int = 3
) -> UInt8[np.ndarray, "drawn_h drawn_w 3"]:
    """Draw bars for the likeliest classes on a strip under a copy of `image`.

    Args:
        image: RGB; small ones are enlarged in whole steps, so that their pixels stay crisp.
        found: The prediction.
        names: Class names, in label order.
        most: How many classes are shown.
    """
    zoom = max(1, round(LEAST_WIDTH / image.shape[1]))
    shown = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
    height, width = shown.shape[:2]
    size = max(12, round(width / 26))
    line, best = round(size * 1.5), found.top(most)
    canvas = Image.new("RGB", (width, height + line * len(best) + size // 2), (24, 24, 24))
    canvas.paste(Image.fromarray(shown))
    draw, font = ImageDraw.Draw(canvas), chip_font(size)
    for row, (label, score) in enumerate(best):
        top = height + size // 4 + row * line
        draw.rectangle(
            (0, top + 1, max(2, round(width * score)), top + line - 3), fill=rgb(class_colour(label))
        )
        words = f"{plain_label(names[label], max(8, width // size))} {score:.2f}"
        draw.text(
            (size // 2, top + line / 2 - 1),
            words,
            font=font,
            fill="white",
            anchor="lm",
            stroke_width=2,
            stroke_fill="black",
        )
    return np.asarray(canvas)
