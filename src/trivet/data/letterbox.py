"""The whole image at one scale in the top left corner, the rest padded: what a model sees when it predicts."""

import numpy as np

from trivet.data.place import place
from trivet.structures import Sample


def letterbox(
    sample: Sample,
    *,
    size_hw: tuple[int, int],
    fill_rgb: tuple[int, int, int] = (114, 114, 114),
    shrinking: str = "area",
    canvas: np.ndarray | None = None,
) -> Sample:
    """Resize an image into `size_hw` without changing its proportions, top left, and pad the rest.

    Sides are rounded to whole pixels; `placement` of the result carries each axis' exact scale, so that
    `placement.to_original` gives the original image's pixels back.

    Args:
        sample: The image with its boxes and mask; boxes without area are left out.
        size_hw: The result's size.
        fill_rgb: Padding colour, best the model's mean colour (`model.fill_rgb`).
        shrinking: How pixels are averaged when the image shrinks: `area`, `linear`.
        canvas: The new image, uint8 `[*size_hw, 3]`, to be written; made when not given.

    Raises:
        UsageError: If `shrinking` is not a known name.
    """
    height, width = sample.image.shape[:2]
    return place(
        sample,
        size_hw=size_hw,
        source=(0, 0, width, height),
        target=(0, 0, *fitted_wh((height, width), size_hw)),
        fill_rgb=fill_rgb,
        shrinking=shrinking,
        canvas=canvas,
    )


def fitted_wh(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the (width, height) that an image has after letterboxing into `size_hw`.

    Example:
        >>> fitted_wh((480, 640), (512, 512))
        (512, 384)
    """
    scale = min(size_hw[0] / image_hw[0], size_hw[1] / image_hw[1])
    height, width = (
        min(max(round(side * scale), 1), limit) for side, limit in zip(image_hw, size_hw, strict=True)
    )
    return width, height
