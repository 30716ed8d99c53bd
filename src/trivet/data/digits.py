"""A detection and segmentation data set drawn on the spot from real handwritten digits.

The ink is scikit-learn's 1797 handwritten digits (Alpaydin and Kaynak 1998, UCI "Optical recognition of
handwritten digits", 8 x 8 pixels), enlarged, turned and coloured on drawn backgrounds. No ink of one split
appears in another one, whatever the seed, so a score on `test` is one on unseen handwriting.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trivet.data.scenery import background, contrasting_colour, grain, scribbles
from trivet.errors import UsageError, unknown_name

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = {"train": 0.7, "val": 0.15, "test": 0.15}
"""Split -> its share of the handwriting, and of the images when only their number is given."""
HEIGHTS = (0.08, 0.3)
"""Height of the smallest and the largest digit as a share of the image's shorter side."""


@dataclass(frozen=True)
class DigitImage:
    """One drawn image with its exact truth.

    Args:
        image: uint8 `[h, w, 3]`, RGB.
        boxes_xyxy: float32 `[n, 4]`, tight around each digit's ink, no ink of two digits touches.
        labels: int64 `[n]`, the digits themselves.
        objects: int32 `[h, w]`, 0 where there is no ink, else the number of the digit counted from 1.
    """

    image: np.ndarray
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    objects: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """uint8 `[h, w]`: 0 is background, digit d is d + 1."""
        return np.concatenate([[0], self.labels + 1]).astype(np.uint8)[self.objects]


def draw_digits(
    rng: np.random.Generator,
    *,
    size_hw: tuple[int, int],
    split: str = "train",
    classes: int = 10,
    heights: tuple[float, float] = HEIGHTS,
) -> DigitImage:
    """Draw one image: one in twelve has no digits, one in six is crowded.

    Args:
        rng: Decides everything.
        size_hw: The image's size, at least 64 x 64.
        split: Whose handwriting is used: `train`, `val` or `test`.
        classes: Uses the digits below this number, 1 to 10.
        heights: Height of the smallest and the largest digit as a share (0-1) of the image's shorter side;
            in crowded images the largest is half of that.

    Raises:
        UsageError: If the split is unknown or a number is out of its range.
    """
    if not 1 <= classes <= 10 or min(size_hw) < 64 or not 0.04 <= heights[0] < heights[1] <= 0.6:
        raise UsageError(
            f"1 to 10 classes on at least 64 x 64 pixels, heights from 0.04 to 0.6, got classes={classes}, "
            f"size_hw={size_hw}, heights={heights}"
        )
    ink, inked_digit = _handwriting(split)
    ink, inked_digit = ink[inked_digit < classes], inked_digit[inked_digit < classes]
    image = background(size_hw, rng)
    image = scribbles(image, rng) if rng.random() < 0.4 else image
    objects = np.zeros(size_hw, np.int32)
    labels: list[int] = []
    count, crowded = _crowd(rng)
    largest = max(heights[1] / 2, heights[0]) if crowded else heights[1]
    for _ in range(count):
        pick = int(rng.integers(len(ink)))
        height = min(size_hw) * np.exp(rng.uniform(np.log(heights[0]), np.log(largest)))
        if _draw(image, objects, _stroke(ink[pick], height, rng), len(labels) + 1, rng):
            labels.append(int(inked_digit[pick]))
    boxes = [_tight(objects == number) for number in range(1, len(labels) + 1)]
    return DigitImage(
        grain(image, rng),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        objects,
    )


def write_digits(
    folder: str | Path,
    *,
    images: int | Mapping[str, int] = 300,
    classes: int = 10,
    size_hw: tuple[int, int] = (320, 320),
    seed: int = 0,
    format: str = "coco",
    heights: tuple[float, float] = HEIGHTS,
) -> Path:
    """Write a digits data set that the ordinary readers read; the same arguments give the same files.

    Args:
        folder: Made when it is missing; files of the same names are replaced.
        images: Number of images in all, or per split (`{"train": 240, "val": 40, "test": 80}`).
        classes: Digits below this number, 1 to 10.
        size_hw: Size of most images; one in four has another, odd one.
        seed: Decides everything but which handwriting belongs to which split.
        format: How truth is written: `coco` (`annotations/instances_<split>.json`, `images/<split>/*.jpg`,
            `masks/<split>/*.png` with 0 = background and d + 1 for digit d, `masks/classes.txt`).
        heights: See `draw_digits`.

    Returns:
        The folder.

    Raises:
        UsageError: If a number, split or format is not one of these.
    """
    if format not in FORMATS:
        raise unknown_name("format of the digits data set", format, FORMATS)
    counts = images if isinstance(images, Mapping) else _shared_out(images)
    for split, count in counts.items():
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        drawn = (_nth(seed, split, index, size_hw, classes, heights) for index in range(count))
        FORMATS[format](Path(folder), split, drawn, NAMES[:classes])
    return Path(folder)


def _shared_out(images: int) -> dict[str, int]:
    if images < len(SPLITS):
        raise UsageError(
            f"a data set of {len(SPLITS)} splits needs at least as many images, got images={images}"
        )
    held_out = {split: max(1, round(images * share)) for split, share in SPLITS.items() if split != "train"}
    return {"train": images - sum(held_out.values()), **held_out}


def _nth(
    seed: int, split: str, index: int, size_hw: tuple[int, int], classes: int, heights: tuple[float, float]
) -> DigitImage:
    rng = np.random.default_rng((seed, list(SPLITS).index(split), index))
    if rng.random() < 0.25:
        size_hw = tuple(max(64, int(side * rng.uniform(0.75, 1.25)) | 1) for side in size_hw)  # type: ignore[assignment]
    return draw_digits(rng, size_hw=size_hw, split=split, classes=classes, heights=heights)


@lru_cache(maxsize=len(SPLITS))
def _handwriting(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a split's ink float32 `[n, 8, 8]` in 0-1 and its digits int64 `[n]`."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    from sklearn.datasets import load_digits  # takes a second to import, and only this needs it

    data = load_digits()
    # Neighbours in the file are often of one hand; whole blocks of 8 go to one split.
    block = np.random.default_rng(0).random(len(data.target) // 8 + 1).repeat(8)[: len(data.target)]
    ends = dict(zip(SPLITS, np.cumsum(list(SPLITS.values())), strict=True))
    mine = (block < ends[split]) & (block >= ends[split] - SPLITS[split])
    return (data.images[mine] / 16).astype(np.float32), data.target[mine].astype(np.int64)


def _crowd(rng: np.random.Generator) -> tuple[int, bool]:
    """Draw how many digits to try, and whether that is a crowd."""
    kind = rng.random()
    if kind < 1 / 12:
        return 0, False
    if kind < 1 / 12 + 1 / 6:
        return int(rng.integers(12, 23)), True
    return int(rng.integers(1, 8)), False


def _stroke(ink: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Enlarge 8 x 8 ink to about `height` pixels, slightly turned; returns its coverage, 0-1, on a square."""
    side = int(np.ceil(height * 1.5))
    angle, aspect, slant = rng.uniform(-12, 12), rng.uniform(0.85, 1.15), rng.uniform(-0.15, 0.15)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    linear = (height / 8) * np.array([[cos, -sin], [sin, cos]]) @ np.array([[aspect, slant], [0, 1]])
    centre = np.array([side / 2 - 0.5, side / 2 - 0.5]) - linear @ np.array([3.5, 3.5])
    large = cv2.warpAffine(ink, np.column_stack([linear, centre]), (side, side), flags=cv2.INTER_CUBIC)
    # A soft threshold makes a pen's stroke of the blurred enlargement; small digits keep softer edges.
    return np.clip((large - 0.48) * max(height / 12, 2) + 0.5, 0, 1)


def _draw(
    image: np.ndarray, objects: np.ndarray, coverage: np.ndarray, number: int, rng: np.random.Generator
) -> bool:
    """Draw a stroke where its ink touches no other; returns whether a place was found."""
    left, top, right, bottom = _tight(coverage > 0)
    coverage = coverage[top:bottom, left:right]
    (height, width), (image_height, image_width) = coverage.shape, objects.shape
    if height >= image_height or width >= image_width:
        return False
    apart = cv2.dilate((coverage > 0).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    for _ in range(15):
        y, x = int(rng.integers(image_height - height)), int(rng.integers(image_width - width))
        part = (slice(y, y + height), slice(x, x + width))
        if objects[part][apart].any():
            continue
        ink = coverage >= 0.5
        colour = contrasting_colour(image[part][ink], rng)
        image[part] += coverage[..., None] * (colour - image[part])
        objects[part][ink] = number
        return True
    return False


def _tight(ink: np.ndarray) -> tuple[int, int, int, int]:
    left, top, width, height = cv2.boundingRect(ink.astype(np.uint8))
    return left, top, left + width, top + height


def _write_coco(folder: Path, split: str, drawn: Iterable[DigitImage], names: tuple[str, ...]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for part in ("annotations", f"images/{split}", f"masks/{split}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for image_id, one in enumerate(drawn, start=1):
        name = f"{image_id:06d}"
        height, width = one.image.shape[:2]
        _save(folder / "images" / split / f"{name}.jpg", cv2.cvtColor(one.image, cv2.COLOR_RGB2BGR))
        _save(folder / "masks" / split / f"{name}.png", one.mask)
        images.append({"id": image_id, "file_name": f"{split}/{name}.jpg", "height": height, "width": width})
        areas = np.bincount(one.objects.ravel(), minlength=len(one.labels) + 1)[1:]
        for (left, top, right, bottom), label, area in zip(
            one.boxes_xyxy.tolist(), one.labels.tolist(), areas.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": area,
                    "iscrowd": 0,
                }
            )
    categories: list[dict[str, Any]] = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    (folder / "masks" / "classes.txt").write_text("\n".join(["background", *names]) + "\n")
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _save(path: Path, pixels: np.ndarray) -> None:
    encoded = cv2.imencode(path.suffix, pixels)[1]
    path.write_bytes(encoded.tobytes())  # unlike cv2.imwrite it raises when it cannot


FORMATS = {"coco": _write_coco}
