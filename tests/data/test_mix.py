"""Mosaic and mixup: boxes follow pixels, every image has its corner, the generator decides everything."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.drawn_samples import (
    BRIGHT,
    DARK,
    DrawnDataset,
    assert_boxes_fit_mask,
    bounds,
    painted,
    painted_samples,
)
from trivet.data.augment import build_augmentation
from trivet.data.mix import Mix, mixup, mosaic
from trivet.errors import UsageError

SEEDS = st.integers(0, 2**31)
FOURS = st.tuples(*(painted_samples(first=1 + 10 * i) for i in range(4)))
SIZES = st.tuples(st.integers(16, 90), st.integers(16, 90))


class TestMosaic:
    @settings(max_examples=60)
    @given(samples=FOURS, size_hw=SIZES, seed=SEEDS)
    def test_boxes_follow_the_mask(self, samples, size_hw, seed):
        joined = mosaic(samples, np.random.default_rng(seed), size_hw=size_hw)
        assert joined.image.shape == (*size_hw, 3)
        assert_boxes_fit_mask(joined)
        assert joined.placement.original_hw == size_hw

    def test_boxes_follow_the_pixels(self):
        samples = [painted((60, 80), [(20, 10, 60, 50)], first=i) for i in range(4)]
        joined = mosaic(samples, np.random.default_rng(0), size_hw=(200, 200), fill_rgb=(DARK,) * 3)
        seen = np.zeros((200, 200), bool)
        for left, top, right, bottom in joined.boxes_xyxy.round().astype(int):
            seen[top:bottom, left:right] = True
        bright = joined.image[..., 0] > (DARK + BRIGHT) / 2
        assert (bright != seen).sum() < 0.05 * seen.sum()

    def test_all_four_are_there_and_touch_the_centre(self):
        samples = [painted((50, 50), [(0, 0, 50, 50)], first=i) for i in range(4)]
        for seed in range(20):
            joined = mosaic(samples, np.random.default_rng(seed), size_hw=(100, 100), min_visible=0.0)
            shown = [bounds(joined.mask == i) for i in range(4)]
            xs = {edge for left, _, right, _ in shown for edge in (left, right)} - {0, 100}
            assert sorted(joined.labels) == [0, 1, 2, 3]
            centre = [edge for edge in xs if all(edge in (box[0], box[2]) for box in shown)]
            assert len(centre) == 1

    def test_hardly_visible_objects_go(self):
        samples = [painted((40, 40), [(0, 0, 40, 40)], first=i) for i in range(4)]
        kept = [
            len(mosaic(samples, np.random.default_rng(seed), size_hw=(40, 40), min_visible=0.9).labels)
            for seed in range(20)
        ]
        assert min(kept) < 4

    def test_without_objects_or_masks(self):
        plain = replace(painted((30, 30)), mask=None)
        joined = mosaic([plain] * 4, np.random.default_rng(0), size_hw=(32, 32))
        assert joined.mask is None
        assert joined.boxes_xyxy.shape == (0, 4)
        with pytest.raises(UsageError, match="a mask for all samples or none"):
            mosaic([plain] * 3 + [painted((30, 30))], np.random.default_rng(0), size_hw=(32, 32))

    def test_takes_four(self):
        with pytest.raises(UsageError, match=r"takes 4 samples.*got 2"):
            mosaic([painted((30, 30))] * 2, np.random.default_rng(0), size_hw=(32, 32))


class TestMixup:
    def test_exact_pixels_and_all_boxes(self):
        first = replace(painted((20, 20), [(0, 0, 10, 10)], crowd=[0]), mask=None)
        second = replace(painted((20, 20), [(5, 5, 20, 20), (0, 0, 2, 2)], first=7), mask=None)
        blended = mixup(first, second, share=0.75)
        expected = 0.75 * first.image + 0.25 * second.image
        assert np.abs(blended.image - expected).max() <= 0.5
        assert blended.labels.tolist() == [1, 7, 8]
        assert blended.crowd.tolist() == [True, False, False]
        assert blended.boxes_xyxy.tolist() == [[0, 0, 10, 10], [5, 5, 20, 20], [0, 0, 2, 2]]

    def test_one_size(self):
        first, second = (replace(painted(size_hw), mask=None) for size_hw in ((20, 20), (20, 24)))
        with pytest.raises(UsageError, match=r"one size, got \(20, 20\) .* and \(20, 24\)"):
            mixup(first, second, share=0.5)

    def test_masks_are_refused(self):
        boxes, masked = replace(painted((20, 20)), mask=None), painted((20, 20))
        for pair in ((boxes, masked), (masked, boxes)):
            with pytest.raises(UsageError, match="a pixel of a mask has one label"):
                mixup(*pair, share=0.5)


class TestMix:
    AUGMENTATION = build_augmentation(None, size_hw=(48, 64))

    def draw(self, mix, index=0, seed=0):
        return mix.draw(
            DrawnDataset(),
            index,
            np.random.default_rng(seed),
            augmentation=self.AUGMENTATION,
            size_hw=(48, 64),
        )

    @pytest.mark.parametrize(
        ("mix", "objects"),
        [(Mix(0.0, 0.0), {1}), (Mix(0.0, 1.0), {2}), (Mix(1.0, 0.0, min_visible=0.0), {3, 4})],
    )
    def test_probabilities(self, mix, objects):
        assert {len(self.draw(mix, seed=seed).labels) for seed in range(20)} <= objects

    def test_the_generator_decides(self):
        images = [self.draw(Mix(0.5, 0.5), seed=seed).image for seed in (1, 2, 1)]
        np.testing.assert_array_equal(images[0], images[2])
        assert not np.array_equal(images[0], images[1])

    def test_both_stay_visible_in_mixup(self):
        shares = [np.random.default_rng(seed).beta(Mix().alpha, Mix().alpha) for seed in range(200)]
        assert 0.2 < min(shares) < max(shares) < 0.8

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"mosaic": 1.2}, "mosaic is from 0 to 1, got mosaic=1.2"),
            ({"mixup": -0.1}, "mixup is from 0 to 1, got mixup=-0.1"),
            ({"min_visible": 2.0}, "min_visible is from 0 to 1"),
            ({"alpha": 0.0}, "alpha is above 0, got alpha=0.0"),
        ],
    )
    def test_what_is_refused(self, wrong, message):
        with pytest.raises(UsageError, match=message):
            Mix(**wrong)
