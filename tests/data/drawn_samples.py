"""Samples whose objects are painted, so that pixels say where a box must be."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from trivet.structures import Placement, Sample, TruthTable

DARK, BRIGHT, PADDING = 20, 230, 128


def painted(size_hw, boxes=(), *, first=1, crowd=(), image_id=0, masked=True):
    """A dark image with bright rectangles; box k has label k and the number `first + k` in the mask."""
    image = np.full((*size_hw, 3), DARK, np.uint8)
    mask = np.zeros(size_hw, np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes, start=first):
        image[top:bottom, left:right] = BRIGHT
        mask[top:bottom, left:right] = number
    labels = np.arange(first, first + len(boxes), dtype=np.int64)
    return Sample(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        labels,
        np.isin(np.arange(len(boxes)), crowd),
        image_id,
        f"images/{image_id}.png",
        Placement(size_hw),
        mask if masked else None,
    )


@st.composite
def painted_samples(draw, *, first=1, sides=(24, 90)):
    """Images of any proportions with up to four rectangles that do not overlap, one in each quarter."""
    height, width = draw(st.integers(*sides)), draw(st.integers(*sides))
    boxes = []
    for top in (0, height // 2):
        for left in (0, width // 2):
            if draw(st.booleans()):
                x0 = left + draw(st.integers(0, width // 2 - 6))
                y0 = top + draw(st.integers(0, height // 2 - 6))
                x1 = draw(st.integers(x0 + 3, left + width // 2))
                y1 = draw(st.integers(y0 + 3, top + height // 2))
                boxes.append((x0, y0, x1, y1))
    return painted((height, width), boxes, first=first)


def bounds(shown):
    """Left, top, right, bottom of the true pixels."""
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def assert_boxes_fit_mask(sample, *, tolerance=1.0):
    """Every box lies within a pixel of what the mask shows of its object, and inside the image."""
    assert sample.mask.shape == sample.image.shape[:2]
    assert len(sample.boxes_xyxy) == len(sample.labels) == len(sample.crowd)
    assert np.isfinite(sample.boxes_xyxy).all()
    assert (sample.boxes_xyxy[:, 2:] > sample.boxes_xyxy[:, :2]).all()
    height, width = sample.image.shape[:2]
    assert (sample.boxes_xyxy >= 0).all()
    assert (sample.boxes_xyxy <= [width, height, width, height]).all()
    for box, number in zip(sample.boxes_xyxy, sample.labels, strict=True):
        shown = sample.mask == number
        if shown.any():  # less than half a pixel can fall between the pixels' centres
            assert np.abs(bounds(shown) - box).max() <= tolerance, (bounds(shown), box)
        else:
            assert (box[2:] - box[:2]).min() <= tolerance


@dataclass(frozen=True)
class DrawnDataset:
    """A data set of painted images; image i has one object of label `i % classes`."""

    images: int = 13
    size_hw: tuple[int, int] = (40, 56)
    classes: int = 3
    same: bool = False
    bad: int | None = None
    fault: type[BaseException] = OSError

    @property
    def truth(self):
        count = self.images
        boxes = np.tile(np.float32([8, 8, 30, 30]), (count, 1))
        labels = np.arange(count) % self.classes
        sizes, offsets = np.tile(np.int32(self.size_hw), (count, 1)), np.arange(count + 1)
        crowd, areas = np.zeros(count, bool), np.full(count, 484, np.float32)
        return TruthTable(np.arange(count) + 100, sizes, offsets, boxes, labels, crowd, areas)

    def __len__(self):
        return self.images

    def name(self, index):
        return f"images/{index}.png"

    def __getitem__(self, index):
        if index == self.bad:
            raise self.fault("broken on purpose")
        rng = np.random.default_rng(0 if self.same else index)
        image = rng.integers(0, 256, (*self.size_hw, 3), dtype=np.uint8)
        box, label = np.float32([[8, 8, 30, 30]]), np.array([index % self.classes])
        return Sample(
            image, box, label, np.zeros(1, bool), 100 + index, self.name(index), Placement(self.size_hw)
        )
