"""Letterboxing: whole image, one scale, top left, and back to the original's pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.drawn_samples import BRIGHT, PADDING, assert_boxes_fit_mask, bounds, painted, painted_samples
from trivet.data.letterbox import fitted_wh, letterbox
from trivet.errors import UsageError

SIZES = st.tuples(st.integers(8, 120), st.integers(8, 120))


@given(sample=painted_samples(), size_hw=SIZES)
def test_boxes_fit_and_map_back(sample, size_hw):
    boxed = letterbox(sample, size_hw=size_hw, fill_rgb=(PADDING,) * 3)
    assert boxed.image.shape == (*size_hw, 3)
    assert_boxes_fit_mask(boxed)
    assert boxed.labels.tolist() == sample.labels.tolist()
    back = boxed.placement.to_original(torch.from_numpy(boxed.boxes_xyxy))
    assert np.abs(back.numpy() - sample.boxes_xyxy).max(initial=0) < 1e-3


@given(sample=painted_samples(), size_hw=SIZES)
def test_keeps_proportions_top_left(sample, size_hw):
    boxed = letterbox(sample, size_hw=size_hw, fill_rgb=(PADDING,) * 3)
    left, top, right, bottom = bounds(boxed.mask != 255)
    assert (left, top) == (0, 0)
    assert right == size_hw[1] or bottom == size_hw[0]
    height, width = sample.image.shape[:2]
    assert (boxed.image[bottom:] == PADDING).all()
    assert (boxed.image[:, right:] == PADDING).all()
    assert abs(right / width - bottom / height) <= 0.5 / min(height, width) + 1e-9
    assert boxed.placement.offset_yx == (0.0, 0.0)


@pytest.mark.parametrize("shrinking", ["area", "linear"])
def test_pixels_sit_where_boxes_say(shrinking):
    sample = painted((480, 640), [(160, 96, 480, 400)])
    boxed = letterbox(sample, size_hw=(512, 512), shrinking=shrinking)
    np.testing.assert_allclose(boxed.boxes_xyxy, [[128, 76.8, 384, 320]])
    assert np.abs(bounds(boxed.image[..., 0] > BRIGHT // 2) - boxed.boxes_xyxy[0]).max() <= 1


def test_image_without_objects():
    boxed = letterbox(painted((30, 50)), size_hw=(64, 64))
    assert boxed.boxes_xyxy.shape == (0, 4)
    assert boxed.boxes_xyxy.dtype == np.float32


def test_degenerate_boxes_are_left_out():
    sample = painted((30, 30), [(2, 2, 10, 10), (5, 5, 5, 9)])
    assert letterbox(sample, size_hw=(60, 60)).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("image_hw", "size_hw", "wh"),
    [
        ((480, 640), (512, 512), (512, 384)),
        ((640, 480), (512, 512), (384, 512)),
        ((100, 100), (64, 128), (64, 64)),
        ((1, 4000), (512, 512), (512, 1)),
        ((512, 512), (512, 512), (512, 512)),
    ],
)
def test_fitted_wh(image_hw, size_hw, wh):
    assert fitted_wh(image_hw, size_hw) == wh


def test_unknown_way_of_shrinking():
    with pytest.raises(UsageError, match="unknown way of shrinking 'cubic'"):
        letterbox(painted((8, 8)), size_hw=(4, 4), shrinking="cubic")
