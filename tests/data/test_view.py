"""Which part of an image is shown: an object stays, rectangles are valid."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.data.drawn_samples import painted, painted_samples
from trivet.data.view import draw_corner_view, draw_view

SIZES = st.tuples(st.integers(16, 96), st.integers(16, 96))
SEEDS = st.integers(0, 2**31)


def assert_valid(view, image_hw, size_hw):
    for (left, top, right, bottom), (height, width) in ((view.source, image_hw), (view.target, size_hw)):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def holds(region, box):
    return region[0] <= box[0] and region[1] <= box[1] and region[2] >= box[2] and region[3] >= box[3]


class TestDrawView:
    @given(sample=painted_samples(), size_hw=SIZES, seed=SEEDS, strength=st.floats(0, 1))
    def test_one_object_is_wholly_inside(self, sample, size_hw, seed, strength):
        view = draw_view(sample, size_hw, np.random.default_rng(seed), strength=strength)
        assert_valid(view, sample.image.shape[:2], size_hw)
        boxes = sample.boxes_xyxy
        assert not len(boxes) or any(holds(view.source, box) for box in boxes)

    @given(seed=SEEDS)
    def test_crowd_is_no_object_to_keep(self, seed):
        sample = painted((60, 90), [(2, 2, 80, 55), (82, 50, 88, 58)], crowd=[0])
        view = draw_view(sample, (40, 40), np.random.default_rng(seed), strength=1.0)
        assert holds(view.source, sample.boxes_xyxy[1])

    def test_no_strength_is_letterboxing_somewhere(self):
        views = [
            draw_view(painted((50, 100)), (64, 64), np.random.default_rng(seed), strength=0.0)
            for seed in range(30)
        ]
        assert {view.source for view in views} == {(0, 0, 100, 50)}
        assert {view.target[3] - view.target[1] for view in views} == {32}
        assert len({view.target for view in views}) > 5

    def test_zoom_reaches_its_limits(self):
        views = [
            draw_view(painted((100, 100)), (100, 100), np.random.default_rng(seed), strength=1.0)
            for seed in range(300)
        ]
        zooms = [(view.target[2] - view.target[0]) / (view.source[2] - view.source[0]) for view in views]
        assert 0.55 < min(zooms) < 0.65
        assert 1.9 < max(zooms) < 2.2


@given(
    image_hw=SIZES,
    room_hw=SIZES,
    scale=st.floats(0.05, 4.0),
    seed=SEEDS,
    push_yx=st.sampled_from([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]),
)
def test_corner_view(image_hw, room_hw, scale, seed, push_yx):
    view = draw_corner_view(image_hw, room_hw, scale, np.random.default_rng(seed), push_yx=push_yx)
    assert_valid(view, image_hw, room_hw)
    left, top, right, bottom = view.target
    assert (bottom == room_hw[0]) if push_yx[0] else (top == 0)
    assert (right == room_hw[1]) if push_yx[1] else (left == 0)
