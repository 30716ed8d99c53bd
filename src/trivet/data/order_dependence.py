"""How many pixels of masks made of outlines depend on the order the outlines are painted in."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from trivet.data.dataset import Dataset
from trivet.data.mask_shapes import ShapeMasks
from trivet.data.overlaps import OVERLAPS
from trivet.errors import UsageError
from trivet.structures import IGNORE_LABEL


@dataclass(frozen=True)
class OrderDependence:
    """The pixels that shapes of two or more classes cover.

    Args:
        contested: int64 `[n]`, such pixels of each image.
        pixels: int64 `[n]`, all pixels of each image.
        by_pair: (label, higher label) -> pixels that both cover, most first.
        between: (rule, other rule) -> int64 `[n]`, pixels of each image that the two label differently.
    """

    contested: np.ndarray
    pixels: np.ndarray
    by_pair: Mapping[tuple[int, int], int]
    between: Mapping[tuple[str, str], np.ndarray]

    @property
    def share(self) -> float:
        """The share (0-1) of all pixels that depend on the order."""
        return float(self.contested.sum() / max(self.pixels.sum(), 1))

    def worst(self, count: int = 10) -> list[int]:
        """Return the positions of the images with the largest shares, worst first; images without any left out."""
        shares = self.contested / np.maximum(self.pixels, 1)
        order = np.argsort(-shares, kind="stable")[:count]
        return [int(image) for image in order if self.contested[image]]


def order_dependence(dataset: Dataset) -> OrderDependence:
    """Measure, image by image, which pixels' label depends on the order outlines are painted in.

    Args:
        dataset: A split whose masks are made of outlines.

    Raises:
        UsageError: If its masks are no outlines.
    """
    masks = _outlines(dataset)
    contested = np.zeros(len(masks), np.int64)
    by_pair: Counter[tuple[int, int]] = Counter()
    between = {pair: np.zeros(len(masks), np.int64) for pair in combinations(OVERLAPS, 2)}
    for image in range(len(masks)):
        if not _may_overlap(masks, image):
            continue
        labels, covered = _layers(masks, image)
        contested[image] = (covered.sum(axis=0) > 1).sum()
        if not contested[image]:
            continue
        both = covered.reshape(len(labels), -1).astype(np.float32)
        for (one, other), count in np.ndenumerate(both @ both.T):
            if one < other and count:
                by_pair[labels[one], labels[other]] += int(count)
        painted = {rule: replace(masks, overlap=rule)[image] for rule in OVERLAPS}
        for pair in between:
            between[pair][image] = (painted[pair[0]] != painted[pair[1]]).sum()
    pixels = masks.sizes_hw.astype(np.int64).prod(axis=1)
    return OrderDependence(contested, pixels, dict(by_pair.most_common()), between)


def contested_pixels(dataset: Dataset, index: int) -> np.ndarray:
    """Return the pixels of an image whose label depends on the order, bool `[h, w]`.

    Raises:
        UsageError: If the masks are no outlines.
    """
    _, covered = _layers(_outlines(dataset), index)
    return np.asarray(covered.sum(axis=0) > 1)


def contested_picture(dataset: Dataset, index: int) -> np.ndarray:
    """Return an image, uint8 RGB `[h, w, 3]`, darkened except where a pixel's label depends on the order.

    Raises:
        UsageError: If the masks are no outlines.
        DataError: If the image cannot be decoded.
    """
    image, contested = dataset.image(index), contested_pixels(dataset, index)
    picture = image // 2
    picture[contested] = image[contested] // 4 + np.array([191, 0, 0], np.uint8)
    return picture


def _outlines(dataset: Dataset) -> ShapeMasks:
    if not isinstance(dataset.masks, ShapeMasks):
        raise UsageError(
            f"the order of outlines was asked for, and the truth is {type(dataset.masks).__name__}",
            'read a data set of outlines with task="segmentation"',
        )
    return dataset.masks


def _may_overlap(masks: ShapeMasks, image: int) -> bool:
    """Whether the upright boxes of two shapes of different classes share a pixel: else no layer need be painted."""
    size_hw, boxes, labels = masks.size_hw(image), [], []
    for shape in masks.shapes.rows(image):
        if masks.shapes.labels[shape] != IGNORE_LABEL:
            for patch in masks.shapes.patches(shape, size_hw):
                rows, columns = patch.slices
                boxes.append((rows.start, columns.start, rows.stop, columns.stop))
                labels.append(int(masks.shapes.labels[shape]))
    if len(set(labels)) < 2:
        return False
    corners, classes = np.array(boxes), np.array(labels)
    starts = np.maximum(corners[:, None, :2], corners[None, :, :2])
    stops = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    return bool(((starts < stops).all(axis=2) & (classes[:, None] != classes)).any())


def _layers(masks: ShapeMasks, image: int) -> tuple[list[int], np.ndarray]:
    """Return the labels of an image's shapes, and bool `[labels, h, w]`, the pixels each covers."""
    size_hw = masks.size_hw(image)
    rows = masks.shapes.rows(image)
    labels = sorted({int(masks.shapes.labels[shape]) for shape in rows} - {IGNORE_LABEL})
    covered = np.zeros((len(labels), *size_hw), bool)
    for shape in rows:
        if masks.shapes.labels[shape] != IGNORE_LABEL:
            layer = covered[labels.index(int(masks.shapes.labels[shape]))]
            for patch in masks.shapes.patches(shape, size_hw):
                layer[patch.slices] |= patch.covered
    return labels, covered
