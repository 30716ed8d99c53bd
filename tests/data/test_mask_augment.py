"""Masks under every transform: no label appears that was not there, and image and mask stay together."""

from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.data.augment import ORIENTATIONS, STRENGTHS, build_augmentation
from trivet.data.batching import train_loader
from trivet.data.letterbox import letterbox
from trivet.data.mix import Mix, mixup, mosaic
from trivet.data.sources import read_dataset
from trivet.errors import UsageError
from trivet.structures import Sample

COLOURS = {2: (250, 20, 20), 9: (20, 250, 20), 40: (20, 20, 250), 254: (250, 250, 20)}
"""Labels far apart, so that a mixture of two is none of them."""


def shapes(size_hw, seed):
    """An image of discs and rectangles and the mask of the same shapes."""
    rng = np.random.default_rng(seed)
    image, mask = np.zeros((*size_hw, 3), np.uint8), np.full(size_hw, 2, np.uint8)
    image[:] = COLOURS[2]
    for label in (9, 40, 254):
        centre = tuple(int(rng.integers(side)) for side in size_hw[::-1])
        radius = int(rng.integers(4, max(5, min(size_hw) // 3)))
        cv2.circle(image, centre, radius, COLOURS[label], -1)
        cv2.circle(mask, centre, radius, label, -1)
    return Sample.of_image(image, image_id=seed, name=f"{seed}.png", mask=mask)


def labels_of(mask):
    return set(np.unique(mask).tolist())


def agreement(sample):
    """The share of pixels whose colour is nearest to the one of their label, away from edges."""
    table = np.array(list(COLOURS.values()), np.int64)
    nearest = np.array(list(COLOURS))[
        np.abs(sample.image[:, :, None].astype(np.int64) - table).sum(axis=3).argmin(axis=2)
    ]
    mask = sample.mask
    flat = cv2.erode(mask, np.ones((5, 5), np.uint8)) == cv2.dilate(mask, np.ones((5, 5), np.uint8))
    inside = flat & (mask != 255)
    return (nearest == mask)[inside].mean() if inside.any() else 1.0


sizes = st.tuples(st.integers(20, 90), st.integers(20, 90))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("strength", STRENGTHS)
@given(size_hw=sizes, seed=st.integers(0, 10**6))
@settings(max_examples=12)
def test_no_label_is_invented(strength, orientation, size_hw, seed):
    augmentation = build_augmentation(strength, size_hw=(48, 64), orientation=orientation)
    sample = shapes(size_hw, seed)
    result = augmentation(sample, np.random.default_rng(seed))
    assert result.mask.dtype == np.uint8
    assert result.mask.shape == (48, 64)
    assert labels_of(result.mask) <= labels_of(sample.mask) | {255}


@given(size_hw=sizes, seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_a_mosaic_holds_its_images_labels(size_hw, seed):
    parts = [shapes(size_hw, seed + i) for i in range(4)]
    joined = mosaic(parts, np.random.default_rng(seed), size_hw=(64, 80))
    assert labels_of(joined.mask) <= set().union(*(labels_of(part.mask) for part in parts)) | {255}
    assert agreement(joined) > 0.98


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@given(size_hw=sizes, seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_image_and_mask_stay_together(orientation, size_hw, seed):
    augmentation = build_augmentation(1.0, size_hw=(64, 64), orientation=orientation)
    # Changes of colour would hide what is compared here.
    object.__setattr__(augmentation, "_worse", _Unchanged())
    with patch("trivet.data.augment.change_colours", side_effect=lambda image, *_, **__: image) as colours:
        result = augmentation(shapes(size_hw, seed), np.random.default_rng(seed))
    assert colours.called
    assert agreement(result) > 0.97


class _Unchanged:
    def __call__(self, image):
        return {"image": image}

    def set_random_state(self, *_):
        pass


@given(size_hw=sizes, seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_letterboxing_pads_with_ignore(size_hw, seed):
    result = letterbox(shapes(size_hw, seed), size_hw=(96, 96))
    height, width = result.placement.from_original(_corner(size_hw)).round()[0, [3, 2]].int().tolist()
    assert (result.mask[:height, :width] != 255).all()
    assert (result.mask[height:] == 255).all()
    assert (result.mask[:, width:] == 255).all()
    assert agreement(result) > 0.97


def _corner(size_hw):
    return torch.tensor([[0.0, 0.0, size_hw[1], size_hw[0]]])


class TestMixup:
    def test_is_refused_with_masks(self):
        sample = shapes((20, 20), 0)
        with pytest.raises(UsageError, match=r"a pixel of a mask has one label.*\n.*mosaic works"):
            mixup(sample, sample, share=0.5)

    def test_is_refused_before_the_first_batch(self, digits):
        splits = read_dataset(digits, task="segmentation")
        with pytest.raises(UsageError, match="set mixup=0"):
            train_loader(splits.train, size_hw=(64, 64), batch=2, mix=Mix())
        with pytest.raises(UsageError, match="repeat_threshold"):
            train_loader(splits.train, size_hw=(64, 64), batch=2, repeat_threshold=0.1)

    def test_mosaic_makes_batches(self, digits):
        train = read_dataset(digits, task="segmentation").train
        batch = next(train_loader(train, size_hw=(64, 80), batch=4, mix=Mix(mosaic=1.0, mixup=0.0)).epoch(0))
        assert batch.mask_targets.masks.shape == (4, 64, 80)
        assert set(batch.mask_targets.masks.unique().tolist()) <= {*range(4), 255}
