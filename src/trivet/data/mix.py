"""Training samples made of several images: mosaic and mixup."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from trivet.data.augment import Augmentation
from trivet.data.place import Region, place
from trivet.data.view import draw_corner_view
from trivet.errors import UsageError
from trivet.structures import Placement, Sample


@runtime_checkable
class Readable(Protocol):
    """A data set as far as mixing needs it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def read_only(dataset: Readable, index: int) -> Sample:
    """Return a sample whose image the caller will not write to: no copy, where the data set can lend it."""
    read: Callable[[int], Sample] = getattr(dataset, "for_reading", dataset.__getitem__)
    return read(index)


@dataclass(frozen=True)
class Mix:
    """How often training samples are made of several images.

    Args:
        mosaic: Probability (0-1) that four images share the sample (Bochkovskiy et al. 2020, YOLOv4, 3.3).
        mixup: Probability (0-1) that two samples are blended (Zhang et al. 2018, mixup), boxes of both kept.
        alpha: The share of the first sample follows Beta(alpha, alpha); large values stay near one half, so
            that the objects of both remain visible.
        min_visible: Share (0-1) of an object's box that must remain in its part of a mosaic.

    Raises:
        UsageError: If a value is out of its range.
    """

    mosaic: float = 0.5
    mixup: float = 0.1
    alpha: float = 32.0
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        for name in ("mosaic", "mixup", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is from 0 to 1, got {name}={getattr(self, name)}")
        if not self.alpha > 0:
            raise UsageError(f"mixup's alpha is above 0, got alpha={self.alpha}")

    def draw(
        self,
        dataset: Readable,
        index: int,
        rng: np.random.Generator,
        *,
        augmentation: Augmentation,
        size_hw: tuple[int, int],
        fill_rgb: tuple[int, int, int] = (114, 114, 114),
    ) -> Sample:
        """Make a sample of image `index` and, by chance, of others with it; the augmentation is applied last."""

        def one(first: int) -> Sample:
            if rng.random() >= self.mosaic:
                return augmentation(dataset[first], rng)
            parts = [read_only(dataset, i) for i in (first, *rng.integers(len(dataset), size=3).tolist())]
            joined = mosaic(parts, rng, size_hw=size_hw, fill_rgb=fill_rgb, min_visible=self.min_visible)
            return augmentation(joined, rng)

        sample = one(index)
        if rng.random() >= self.mixup:
            return sample
        return mixup(
            sample, one(int(rng.integers(len(dataset)))), share=float(rng.beta(self.alpha, self.alpha))
        )


def mosaic(
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    size_hw: tuple[int, int],
    fill_rgb: tuple[int, int, int] = (114, 114, 114),
    min_visible: float = 0.3,
) -> Sample:
    """Join four images in the corners of one, around a random centre.

    Each is shown at a random scale between half of and as large as letterboxing into `size_hw` would, and a
    random part of it where it does not fit. The result carries the first image's id and name.

    Args:
        samples: Four; the first one's place is drawn as well.
        rng: Random numbers.
        size_hw: The result's size, at least 4 x 4.
        fill_rgb: Colour where an image does not fill its part.
        min_visible: Share (0-1) of a box that must remain.

    Raises:
        UsageError: If there are not four samples or some but not all have a mask.
    """
    if len(samples) != 4 or min(size_hw) < 4:
        raise UsageError(
            f"a mosaic takes 4 samples and at least 4 x 4 pixels, got {len(samples)} and {size_hw}"
        )
    if len({sample.mask is None for sample in samples}) > 1:
        raise UsageError(f"a mosaic needs a mask for all samples or none, got {[s.name for s in samples]}")
    centre_y, centre_x = (int(side * rng.uniform(0.3, 0.7)) for side in size_hw)
    columns, rows = ((0, centre_x), (centre_x, size_hw[1])), ((0, centre_y), (centre_y, size_hw[0]))
    corners = [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]
    image = np.empty((*size_hw, 3), samples[0].image.dtype)
    parts = [
        _part(samples[i], corner, rng, canvas=image, fill_rgb=fill_rgb, min_visible=min_visible)
        for i, corner in zip(rng.permutation(4), corners, strict=True)
    ]
    origins = [np.array([corner[0], corner[1]] * 2, dtype=np.float32) for corner in corners]
    masks = [part.mask for part in parts if part.mask is not None]
    return replace(
        samples[0],
        image=image,
        boxes_xyxy=np.concatenate([part.boxes_xyxy + o for part, o in zip(parts, origins, strict=True)]),
        labels=np.concatenate([part.labels for part in parts]),
        crowd=np.concatenate([part.crowd for part in parts]),
        mask=_grid(masks) if masks else None,
        placement=Placement(size_hw),
    )


def mixup(first: Sample, second: Sample, *, share: float) -> Sample:
    """Blend two samples of one size and keep the boxes of both.

    Args:
        first: Its id and name are kept.
        second: The other.
        share: Weight (0-1) of `first`'s pixels.

    Raises:
        UsageError: If the sizes differ, or there are masks: a pixel has one label, not shares of two.
    """
    if first.mask is not None or second.mask is not None:
        raise no_mixup_of_masks()
    if first.image.shape != second.image.shape:
        raise UsageError(
            f"mixup needs two images of one size, got {first.image.shape[:2]} ({first.name}) and "
            f"{second.image.shape[:2]} ({second.name})"
        )
    return replace(
        first,
        image=cv2.addWeighted(first.image, share, second.image, 1 - share, 0),
        boxes_xyxy=np.concatenate([first.boxes_xyxy, second.boxes_xyxy]),
        labels=np.concatenate([first.labels, second.labels]),
        crowd=np.concatenate([first.crowd, second.crowd]),
    )


def no_mixup_of_masks() -> UsageError:
    """Return the error for blending images whose truth is a label a pixel."""
    return UsageError(
        "mixup blends two images, and a pixel of a mask has one label", "set mixup=0; mosaic works with masks"
    )


def _part(
    sample: Sample,
    corner: Region,
    rng: np.random.Generator,
    *,
    canvas: np.ndarray,
    fill_rgb: tuple[int, int, int],
    min_visible: float,
) -> Sample:
    """Draw a sample into one corner of the mosaic, pushed against the centre."""
    size_hw = canvas.shape[:2]
    image_hw, room_hw = sample.image.shape[:2], (corner[3] - corner[1], corner[2] - corner[0])
    scale = min(size_hw[0] / image_hw[0], size_hw[1] / image_hw[1]) * rng.uniform(0.5, 1.0)
    # The upper left corner's end is the centre, the lower right corner's start is.
    push_yx = (float(corner[1] == 0), float(corner[0] == 0))
    source, target = draw_corner_view(image_hw, room_hw, scale, rng, push_yx=push_yx)
    return place(
        sample,
        size_hw=room_hw,
        source=source,
        target=target,
        fill_rgb=fill_rgb,
        canvas=canvas[corner[1] : corner[3], corner[0] : corner[2]],
        shrinking="quick",
        min_visible=min_visible,
        min_side=1.0,
    )


def _grid(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.concatenate(parts[:2], axis=1), np.concatenate(parts[2:], axis=1)])
