"""Rectangles into rectangles: pixels, boxes, masks and placements stay together."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.drawn_samples import (
    BRIGHT,
    DARK,
    PADDING,
    assert_boxes_fit_mask,
    bounds,
    painted,
    painted_samples,
)
from trivet.data.place import SHRINKING, cut_boxes, place, turn
from trivet.errors import UsageError
from trivet.structures import IGNORE_LABEL, Sample

FILL = (PADDING, PADDING, PADDING)


@st.composite
def regions(draw, size_hw):
    left, top = draw(st.integers(0, size_hw[1] - 2)), draw(st.integers(0, size_hw[0] - 2))
    return (
        left,
        top,
        draw(st.integers(left + 1, size_hw[1])),
        draw(st.integers(top + 1, size_hw[0])),
    )


class TestPlace:
    @given(data=st.data(), sample=painted_samples(), size=st.tuples(st.integers(8, 70), st.integers(8, 70)))
    def test_boxes_follow_pixels(self, data, sample, size):
        source, target = data.draw(regions(sample.image.shape[:2])), data.draw(regions(size))
        placed = place(sample, size_hw=size, source=source, target=target, fill_rgb=FILL)
        assert placed.image.shape == (*size, 3)
        assert_boxes_fit_mask(placed)
        outside = np.ones(size, bool)
        outside[target[1] : target[3], target[0] : target[2]] = False
        assert (placed.image[outside] == PADDING).all()
        assert (placed.mask[outside] == IGNORE_LABEL).all()
        assert (placed.mask[~outside] != IGNORE_LABEL).all()

    @given(data=st.data(), sample=painted_samples(), size=st.tuples(st.integers(8, 70), st.integers(8, 70)))
    def test_uncut_boxes_map_back(self, data, sample, size):
        target = data.draw(regions(size))
        height, width = sample.image.shape[:2]
        placed = place(sample, size_hw=size, source=(0, 0, width, height), target=target, fill_rgb=FILL)
        back = placed.placement.to_original(torch.from_numpy(placed.boxes_xyxy))
        assert np.abs(back.numpy() - sample.boxes_xyxy).max(initial=0) < 1e-3

    def test_placements_compose(self):
        sample = painted((40, 60), [(10, 10, 50, 30)])
        once = place(sample, size_hw=(30, 30), source=(5, 5, 55, 35), target=(0, 5, 30, 25), fill_rgb=FILL)
        twice = place(once, size_hw=(64, 64), source=(0, 0, 30, 30), target=(4, 4, 60, 60), fill_rgb=FILL)
        back = twice.placement.to_original(torch.from_numpy(twice.boxes_xyxy))
        assert twice.placement.original_hw == (40, 60)
        np.testing.assert_allclose(back.numpy(), sample.boxes_xyxy, atol=1e-4)

    def test_same_size_copies_pixels(self):
        sample = painted((20, 30), [(3, 4, 9, 12)])
        placed = place(sample, size_hw=(20, 30), source=(0, 0, 30, 20), target=(0, 0, 30, 20), fill_rgb=FILL)
        np.testing.assert_array_equal(placed.image, sample.image)
        np.testing.assert_array_equal(placed.boxes_xyxy, sample.boxes_xyxy)

    @pytest.mark.parametrize("shrinking", SHRINKING)
    def test_enlarged_edge_is_a_ramp(self, shrinking):
        sample = painted((4, 8), [(4, 0, 8, 4)])
        placed = place(
            sample,
            size_hw=(16, 32),
            source=(0, 0, 8, 4),
            target=(0, 0, 32, 16),
            fill_rgb=FILL,
            shrinking=shrinking,
        )
        row = placed.image[8, :, 0].astype(int)
        assert (row[:14] == DARK).all()
        assert (row[18:] == BRIGHT).all()
        assert DARK < row[15] < row[16] < BRIGHT

    def test_area_averages_every_pixel(self):
        sample = painted((8, 8), [(0, 0, 1, 8)])
        placed = place(sample, size_hw=(1, 1), source=(0, 0, 8, 8), target=(0, 0, 1, 1), fill_rgb=FILL)
        assert abs(int(placed.image[0, 0, 0]) - (DARK * 7 + BRIGHT) / 8) <= 1

    def test_crowd_flags_stay_in_step(self):
        sample = painted((20, 40), [(0, 0, 8, 8), (12, 0, 20, 8), (24, 0, 32, 8)], crowd=[1])
        placed = place(sample, size_hw=(20, 28), source=(12, 0, 40, 20), target=(0, 0, 28, 20), fill_rgb=FILL)
        assert placed.labels.tolist() == [2, 3]
        assert placed.crowd.tolist() == [True, False]

    @pytest.mark.parametrize(("side", "to"), [(90, 20), (91, 20), (64, 8), (33, 16), (50, 49)])
    @pytest.mark.parametrize("shrinking", ["area", "quick"])
    def test_every_pixel_counts_where_it_lies(self, shrinking, side, to):
        for column in range(side):
            image = np.zeros((4, side, 3), np.uint8)
            image[:, column] = 255
            sample = Sample.of_image(image, image_id=0, name="a line")
            placed = place(
                sample,
                size_hw=(4, to),
                source=(0, 0, side, 4),
                target=(0, 0, to, 4),
                fill_rgb=FILL,
                shrinking=shrinking,
            )
            shown = placed.image[0, :, 0].astype(np.float64)
            assert shown.sum() > 0
            centre = (shown * (np.arange(to) + 0.5)).sum() / shown.sum()
            assert abs(centre - (column + 0.5) * to / side) < 0.75

    def test_unknown_way_of_shrinking(self):
        with pytest.raises(UsageError, match=r"unknown way of shrinking 'aera'; did you mean 'area'\?"):
            place(
                painted((8, 8)),
                size_hw=(4, 4),
                source=(0, 0, 8, 8),
                target=(0, 0, 4, 4),
                fill_rgb=FILL,
                shrinking="aera",
            )


class TestCutBoxes:
    def test_no_boxes(self):
        cut, keep = cut_boxes(np.zeros((0, 4)), (0, 0, 5, 5))
        assert cut.shape == (0, 4)
        assert keep.shape == (0,)

    @pytest.mark.parametrize(
        ("box", "kept"),
        [
            ((1, 1, 3, 3), True),
            ((-5, -5, 20, 20), True),
            ((2, 2, 2, 4), False),  # no width
            ((4, 4, 2, 2), False),  # inverted
            ((10, 0, 12, 5), False),  # begins at the border
            ((np.nan, 1, 3, 3), False),
            ((1, 1, 3, np.inf), False),
        ],
    )
    def test_what_is_kept(self, box, kept):
        cut, keep = cut_boxes(np.array([box]), (0, 0, 10, 10))
        assert keep.tolist() == [kept]
        assert not kept or (np.isfinite(cut).all() and (cut >= 0).all() and (cut <= 10).all())

    @pytest.mark.parametrize(("min_visible", "kept"), [(0.0, True), (0.25, True), (0.26, False)])
    def test_visible_share(self, min_visible, kept):
        _, keep = cut_boxes(np.array([[-6.0, 0, 2, 4]]), (0, 0, 9, 9), min_visible=min_visible)
        assert keep.tolist() == [kept]

    def test_shortest_side(self):
        boxes = np.array([[0, 0, 0.9, 5], [0, 0, 1, 5]])
        assert cut_boxes(boxes, (0, 0, 9, 9), min_side=1.0)[1].tolist() == [False, True]


@pytest.mark.parametrize(("mirror", "flip", "transpose"), list(itertools.product([False, True], repeat=3)))
@given(sample=painted_samples())
def test_turn(mirror, flip, transpose, sample):
    turned = turn(sample, mirror=mirror, flip=flip, transpose=transpose)
    expected = sample.image[:, ::-1] if mirror else sample.image
    expected = expected[::-1] if flip else expected
    expected = expected.swapaxes(0, 1) if transpose else expected
    np.testing.assert_array_equal(turned.image, expected)
    assert_boxes_fit_mask(turned, tolerance=0)
    assert turned.placement.original_hw == turned.image.shape[:2]


def test_turned_without_mask_matches_pixels():
    sample = painted((20, 30), [(3, 4, 9, 16)])
    turned = turn(replace(sample, mask=None), mirror=True, transpose=True)
    assert turned.mask is None
    np.testing.assert_array_equal(bounds(turned.image[..., 0] == BRIGHT), turned.boxes_xyxy[0])
