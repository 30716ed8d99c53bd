"""What drawn digits stand on: textured backgrounds, scribbles that are no digits, ink that can be seen.

Images here are float32 `[h, w, 3]`, RGB, 0-255.
"""

import cv2
import numpy as np

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in perceived brightness (ITU-R BT.601)."""


def background(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a background of two related colours: cloudy, a gradient, or stripes, with a little of each colour."""
    first = _pastel(rng)
    second = np.clip(first + rng.uniform(-45, 45, 3), 0, 255).astype(np.float32)
    pattern = (_clouds, _gradient, _stripes)[rng.integers(3)](size_hw, rng)[..., None]
    image = first + pattern * (second - first)
    return np.clip(image + 18 * (_clouds(size_hw, rng)[..., None] - 0.5), 0, 255)


def scribbles(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw up to three long lines, blots or blocks, so that not everything drawn is a digit."""
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        kind, thickness = rng.integers(3), int(rng.integers(1, 4))
        start, end = rng.integers(0, (width, height)), rng.integers(0, (width, height))
        if kind == 0:
            cv2.line(cover, start.tolist(), end.tolist(), 255, thickness, cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(cover, start.tolist(), int(rng.integers(2, 7)), 255, -1, cv2.LINE_AA)
        else:
            angle, sides = rng.uniform(0, 90), rng.uniform(0.03, 0.12, 2) * min(height, width)
            corners = cv2.boxPoints((start.tolist(), sides.tolist(), angle))
            cv2.fillPoly(cover, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    colour = contrasting_colour(image.reshape(-1, 3), rng, least=20.0)
    return image + (cover[..., None] / np.float32(255)) * (colour - image)


def contrasting_colour(behind: np.ndarray, rng: np.random.Generator, *, least: float = 55.0) -> np.ndarray:
    """Draw a colour that stands out against the pixels behind it.

    Args:
        behind: float `[n, 3]`.
        rng: Random numbers.
        least: Smallest difference of brightness (0-255, below 128) to nearly all pixels; to their mean where
            they are both dark and bright.

    Returns:
        float32 `[3]`.
    """
    levels = behind @ LUMINANCE
    low, high = np.percentile(levels, (10, 90)).tolist()
    if low < least and high > 255 - least:
        low = high = float(levels.mean())
    darker, lighter = max(low - least, 0.0), max(255 - high - least, 0.0)
    pick = rng.random() * (darker + lighter)
    brightness = pick if pick < darker else high + least + pick - darker
    return _of_brightness(rng.uniform(0, 255, 3), brightness)


def grain(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a camera's noise and return uint8."""
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32)[..., None] * rng.uniform(1, 7)
    return np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)


def _pastel(rng: np.random.Generator) -> np.ndarray:
    grey = rng.uniform(25, 230)
    return np.clip(grey + rng.uniform(0, 1) * rng.uniform(-60, 60, 3), 0, 255).astype(np.float32)


def _of_brightness(rgb: np.ndarray, brightness: float) -> np.ndarray:
    """Darken or lighten a colour to a brightness of 0-255, keeping its hue."""
    own = float(rgb @ LUMINANCE)
    if brightness <= own:
        return (rgb * (brightness / max(own, 1e-3))).astype(np.float32)
    return (255 - (255 - rgb) * ((255 - brightness) / max(255 - own, 1e-3))).astype(np.float32)


def _clouds(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in 0-1: coarse random grids, enlarged and added."""
    total = np.zeros(size_hw, np.float32)
    for cells, weight in ((3, 0.6), (7, 0.3), (24, 0.1)):
        coarse = rng.random((cells, cells), dtype=np.float32)
        total += weight * cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(total, 0, 1)


def _gradient(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    along = _along(size_hw, rng.uniform(0, 2 * np.pi))
    return (along - along.min()) / (np.ptp(along) + 1e-6)


def _stripes(size_hw: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    along = _along(size_hw, rng.uniform(0, np.pi))
    wave = np.sin(along * (2 * np.pi / rng.uniform(8, 60)))
    return 0.5 + 0.4 * np.clip(wave * rng.uniform(1, 4), -1, 1)


def _along(size_hw: tuple[int, int], angle: float) -> np.ndarray:
    """Distance in pixels along a direction, float32 `[h, w]`."""
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    return (rows * np.sin(angle) + columns * np.cos(angle)).astype(np.float32)
