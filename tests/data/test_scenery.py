"""Backgrounds and colours of drawn images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.data.scenery import LUMINANCE, background, contrasting_colour, grain, scribbles

SEEDS = st.integers(0, 2**31)


@given(seed=SEEDS, size_hw=st.tuples(st.integers(8, 80), st.integers(8, 80)))
def test_layers_keep_size_and_range(seed, size_hw):
    rng = np.random.default_rng(seed)
    image = scribbles(background(size_hw, rng), rng)
    assert image.dtype == np.float32
    assert image.shape == (*size_hw, 3)
    assert np.isfinite(image).all()
    final = grain(image, rng)
    assert final.dtype == np.uint8
    assert np.abs(final.astype(float) - np.clip(image, 0, 255)).mean() < 12


@given(seed=SEEDS, level=st.floats(0, 255), least=st.sampled_from([20.0, 55.0, 90.0]))
def test_contrast_is_at_least_what_was_asked(seed, level, least):
    behind = np.full((10, 3), level, np.float32)
    colour = contrasting_colour(behind, np.random.default_rng(seed), least=least)
    assert colour.dtype == np.float32
    assert (colour >= -1e-3).all()
    assert (colour <= 255.001).all()
    assert abs(float(colour @ LUMINANCE) - level) >= least - 0.5


def test_both_directions_of_contrast():
    behind = np.full((4, 3), 128.0, np.float32)
    brightness = [float(contrasting_colour(behind, np.random.default_rng(i)) @ LUMINANCE) for i in range(100)]
    assert 20 < sum(value < 128 for value in brightness) < 80


@pytest.mark.parametrize("seed", range(3))
def test_backgrounds_are_textured(seed):
    assert background((60, 60), np.random.default_rng(seed)).std(axis=(0, 1)).max() > 1
