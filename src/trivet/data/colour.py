"""Random changes of an image's colours by two passes over its pixels: a table and a matrix."""

import cv2
import numpy as np
from jaxtyping import UInt8

_GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


def change_colours(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, *, strength: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image of other brightness, contrast, hue and saturation, each changed by chance.

    Gamma does most of the brightening: it leaves detail in what is bright or dark already.

    Args:
        image: RGB.
        rng: Random numbers, as many whatever is changed.
        strength: From 0 (nothing changes) to 1.
    """
    chances, draws = rng.random(4), rng.uniform(-1, 1, 5) * strength
    if chances[0] < 0.6:
        image = cv2.LUT(image, _gamma_table(float(np.exp(draws[0] * np.log(1.7)))))
    matrix = np.eye(3, 4)
    if chances[1] < 0.5:
        matrix[:, :3] = hue_and_saturation(turn=0.35 * draws[1], saturation=1 + 0.4 * draws[2])
    if chances[2] < 0.6:
        matrix *= 1 + 0.25 * draws[3]
        matrix[:, 3] += 255 * 0.15 * draws[4]
    if chances[3] < 0.05 * strength:
        matrix = np.concatenate([np.tile(_GREY @ matrix[:, :3], (3, 1)), matrix[:, 3:]], axis=1)
    return image if np.array_equal(matrix, np.eye(3, 4)) else cv2.transform(image, matrix)


def hue_and_saturation(*, turn: float, saturation: float) -> np.ndarray:
    """Return the matrix `[3, 3]` that changes RGB colours and leaves greys and luma as they are.

    Args:
        turn: Of the hue, radians in the plane of YIQ's two colour axes.
        saturation: Factor of the distance from grey; 0 is grey.

    Example:
        >>> hue_and_saturation(turn=0.0, saturation=0.0)[0].tolist()
        [0.299, 0.587, 0.114]
    """
    to_yiq = np.array([_GREY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
    change = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.linalg.solve(to_yiq, change @ to_yiq).round(9)


def _gamma_table(gamma: float) -> np.ndarray:
    return np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
