"""Small pictures of one size, a batch at a time: what each image costs is copied pixels, not calls.

The network for a 32 x 32 picture takes about a millisecond; drawing its changes one by one would take a
noticeable part of that. Here a batch's random numbers are one array and its changes are array operations.
"""

from dataclasses import dataclass, replace
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from trivet.data.augment import ORIENTATIONS, STRENGTHS, AugmentationLike, strength_of
from trivet.data.dataset import Dataset
from trivet.data.order import Draw, uniforms
from trivet.data.packed import PackedBatch
from trivet.data.worker import Fault
from trivet.errors import DataError, UsageError, look_up
from trivet.structures import Placement, Sample

SMALL_SIDE = 64
"""Pictures with sides up to this many pixels count as small."""


@runtime_checkable
class Gathered(Protocol):
    """Pictures of one size that can be had many at once."""

    @property
    def common_hw(self) -> tuple[int, int] | None:
        """The size of all; `None` where they differ."""
        ...

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Return uint8 `[k, h, w, 3]`, a copy."""
        ...


@dataclass(frozen=True)
class SmallImageAugmentation:
    """Random shift, turns and Cutout for whole batches of small pictures.

    Args:
        shift: Up to how many pixels a picture is moved along each axis; the border is filled by reflection.
        orientation: What may be turned, see `build_augmentation`.
        cutout: Side of the square that is painted over, pixels; its centre is anywhere, so that a part of it may
            lie outside (DeVries and Taylor 2017, Cutout, section 3.2). 0 paints nothing.
        fill_rgb: What it is painted with, best the model's mean colour, which normalises to zero.

    Raises:
        UsageError: If a number is negative or the orientation unknown.
    """

    shift: int = 4
    orientation: str = "upright"
    cutout: int = 0
    fill_rgb: tuple[int, int, int] = (114, 114, 114)

    def __post_init__(self) -> None:
        look_up("orientation", self.orientation, ORIENTATIONS)
        if min(self.shift, self.cutout) < 0:
            raise UsageError(f"shift and cutout are pixels from 0, got {self.shift} and {self.cutout}")

    @classmethod
    def of_strength(
        cls, strength: float, *, size_hw: tuple[int, int], orientation: str, fill_rgb: tuple[int, int, int]
    ) -> "SmallImageAugmentation":
        """Make the default of a strength, 0-1: 4 of 32 pixels' shift at `medium`, Cutout of 16 besides at `strong`.

        These are the sizes published for CIFAR (Cutout, section 4.2); between the names they grow in proportion.
        """
        medium, side = STRENGTHS["medium"], min(size_hw)
        return cls(
            shift=round(side / 8 * min(1.0, strength / medium)),
            orientation=orientation if strength else "fixed",
            cutout=round(side / 2 * max(0.0, (strength - medium) / (1 - medium))),
            fill_rgb=fill_rgb,
        )

    numbers = 7
    """How many random numbers a picture takes."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return a random variant of one sample, without boxes or a mask."""
        image = self.batch(sample.image[None], rng.random((1, self.numbers)))[0]
        return replace(sample, image=image, placement=Placement(image.shape[:2]))

    def batch(self, images: np.ndarray, chances: np.ndarray) -> np.ndarray:
        """Return a random variant of each image.

        Args:
            images: uint8 `[b, h, w, 3]`.
            chances: float64 `[b, numbers]`, uniform in 0-1; they decide everything.

        Raises:
            UsageError: If rows and columns may change places and the images are not square, or the shift is as
                large as an image.
        """
        images = self._shifted(images, chances[:, :2])
        images = self._turned(images, chances[:, 2:5])
        return self._cut_out(images, chances[:, 5:7])

    def _shifted(self, images: np.ndarray, chances: np.ndarray) -> np.ndarray:
        if not self.shift:
            return images
        height, width = images.shape[1:3]
        if self.shift >= min(height, width):
            raise UsageError(f"a shift of {self.shift} pixels is too large for images of {height} x {width}")
        border = (self.shift, self.shift)
        padded = np.pad(images, ((0, 0), border, border, (0, 0)), mode="reflect")
        windows = sliding_window_view(padded, (height, width), axis=(1, 2))  # (b, places, places, 3, h, w)
        row, column = (chances * (2 * self.shift + 1)).astype(np.int64).T
        return windows.transpose(0, 1, 2, 4, 5, 3)[np.arange(len(images)), row, column]

    def _turned(self, images: np.ndarray, chances: np.ndarray) -> np.ndarray:
        mirror, flip, transpose = (chances < ORIENTATIONS[self.orientation]).T
        if transpose.any() and images.shape[1] != images.shape[2]:
            raise UsageError(
                f"orientation {self.orientation!r} swaps rows and columns, and images are {images.shape[1:3]}",
                "use square images, or another orientation",
            )
        if mirror.any() or flip.any() or transpose.any():
            images = images.copy()
            images[mirror] = images[mirror, :, ::-1]
            images[flip] = images[flip, ::-1]
            images[transpose] = images[transpose].swapaxes(1, 2)
        return images

    def _cut_out(self, images: np.ndarray, chances: np.ndarray) -> np.ndarray:
        if not self.cutout:
            return images
        inside = []
        for side, chance in zip(images.shape[1:3], chances.T, strict=True):
            start = (chance * side).astype(np.int64)[:, None] - self.cutout // 2
            place = np.arange(side)
            inside.append((place >= start) & (place < start + self.cutout))
        square = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return np.where(square, np.array(self.fill_rgb, np.uint8), images)


def small_pictures(dataset: object, size_hw: tuple[int, int]) -> TypeGuard[Dataset]:
    """Whether a data set is small pictures of exactly this size with a class each, to be had many at once."""
    return (
        isinstance(dataset, Dataset)
        and dataset.task == "classification"
        and isinstance(dataset.pictures, Gathered)
        and max(size_hw) <= SMALL_SIDE
        and dataset.pictures.common_hw == size_hw
    )


def small_augmentation(
    given: AugmentationLike,
    *,
    size_hw: tuple[int, int],
    fill_rgb: tuple[int, int, int],
    orientation: str,
) -> SmallImageAugmentation | None:
    """Return the augmentation that a name or strength stands for, or the one given; `None` for another kind."""
    if isinstance(given, SmallImageAugmentation):
        return given
    if given is not None and not isinstance(given, (str, float, int)):
        return None
    strength = strength_of(given)
    return SmallImageAugmentation.of_strength(
        strength, size_hw=size_hw, orientation=orientation, fill_rgb=fill_rgb
    )


@dataclass(frozen=True)
class SmallMaker:
    """Makes batches of small pictures: augmented where there is an augmentation, else as they are.

    An image's change is a function of seed, epoch and place in the order, whatever the batch's size.
    """

    dataset: Dataset
    augmentation: SmallImageAugmentation | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draws: list[Draw]) -> PackedBatch | Fault:
        dataset, pictures = self.dataset, self.dataset.pictures
        assert isinstance(pictures, Gathered), "the loader makes sure of it"
        assert dataset.class_labels is not None, "a data set for classification has labels"
        indices = np.array([draw.image for draw in draws])
        try:
            images = pictures.gather(indices)
        except DataError as fault:
            return Fault(fault.message, fault.hint)
        if self.augmentation is not None:
            chances = uniforms(draws, self.augmentation.numbers, seed=self.seed)
            images = self.augmentation.batch(images, chances)
        return PackedBatch(
            torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2),
            torch.zeros(0, 4),
            torch.zeros(0, dtype=torch.int64),
            [0] * len(draws),
            dataset.truth.image_ids[indices].tolist(),
            tuple(dataset.name(index) for index in indices.tolist()),
            (Placement(images.shape[1:3]),) * len(draws),
            class_labels=torch.from_numpy(dataset.class_labels[indices]),
        )
