import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.errors import UsageError
from trivet.report.draw import draw_detections, found_truth
from trivet.report.palette import class_colour, rgb
from trivet.structures import BoxTarget

NAMES = ("cat", "dog")


def grey(height: int = 200, width: int = 300) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def draw(image, boxes, labels, **more):
    return draw_detections(
        image, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), NAMES, **more
    )


def target(boxes, labels) -> BoxTarget:
    return BoxTarget(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64)
    )


def test_without_boxes_the_image_comes_back_and_the_given_one_is_not_touched():
    image = grey()
    drawn = draw(image, [], [])
    np.testing.assert_array_equal(drawn, image)
    draw(image, [[10, 40, 60, 90]], [0])
    assert (image == 128).all()


def test_a_box_is_drawn_on_its_own_pixels_in_its_class_colour():
    drawn = draw(grey(), [[100, 80, 200, 160]], [1])
    colour = rgb(class_colour(1))
    for y, x in ((80, 150), (159, 150), (120, 100), (120, 199)):
        assert tuple(drawn[y, x]) == colour
    assert (drawn[90:150, 110:190] == 128).all()
    assert (drawn[170:] == 128).all()


def test_lines_grow_with_the_image():
    def thickness(scale: int) -> int:
        drawn = draw(grey(200 * scale, 300 * scale), [[x * scale for x in (100, 80, 200, 160)]], [1])
        return int((drawn[:, 150 * scale] == rgb(class_colour(1))).all(axis=1).sum()) // 2

    assert thickness(1) == 1
    assert thickness(10) == 8


def test_truth_is_dashed():
    drawn = draw(grey(), [], [], truth=target([[100, 80, 200, 160]], [1]))
    row = (drawn[159, 100:200] == rgb(class_colour(1))).all(axis=1)
    assert 0.4 < row.mean() < 0.8
    assert np.diff(row.astype(int)).tolist().count(1) > 5


def test_truth_that_was_found_has_no_label_of_its_own():
    truth = target([[100, 80, 200, 160]], [1])
    missed = draw(grey(), [], [], truth=truth)
    found = draw(grey(), [[100, 80, 200, 160]], [1], truth=truth)
    alone = draw(grey(), [[100, 80, 200, 160]], [1])
    assert (missed[60:78] != 128).any()
    np.testing.assert_array_equal(found[:78], alone[:78])


def test_found_truth_needs_the_class_and_half_the_union():
    truth = target([[0, 0, 10, 10]] * 3, [0, 1, 0])
    assert found_truth(truth, target([[0, 0, 10, 5]], [0])).tolist() == [True, False, True]
    assert found_truth(truth, target([[0, 0, 10, 4.9]], [0])).tolist() == [False] * 3
    assert found_truth(truth, target([], [])).tolist() == [False] * 3


def test_the_best_score_is_drawn_on_top():
    boxes = [[100, 80, 200, 160]] * 2
    for scores, label in (([0.9, 0.1], 0), ([0.1, 0.9], 1)):
        drawn = draw(grey(), boxes, [0, 1], scores=np.array(scores))
        assert tuple(drawn[159, 150]) == rgb(class_colour(label))


def test_tensors_are_as_good_as_arrays():
    boxes, labels, scores = np.array([[10.0, 40, 60, 90]], np.float32), np.array([0]), np.array([0.5])
    np.testing.assert_array_equal(
        draw_detections(grey(), boxes, labels, NAMES, scores=scores),
        draw_detections(
            grey(), torch.tensor(boxes), torch.tensor(labels), NAMES, scores=torch.tensor(scores)
        ),
    )


@pytest.mark.parametrize(
    "box", [[np.nan] * 4, [-50, -50, -10, -10], [400, 0, 500, 100], [50, 50, 50, 90], [60, 60, 20, 20]]
)
def test_boxes_without_a_visible_part_are_left_out(box):
    assert (draw(grey(), [box], [0]) == 128).all()
    assert (draw(grey(), [], [], truth=target([box], [0])) == 128).all()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([(1, 1), (1, 50), (7, 3), (40, 600), (64, 64)]),
    st.lists(st.lists(st.floats(-100, 700, width=32), min_size=4, max_size=4), max_size=12),
)
def test_any_box_on_any_image_can_be_drawn(size_hw, boxes):
    labels = [i % 2 for i in range(len(boxes))]
    drawn = draw(
        grey(*size_hw), boxes, labels, scores=np.linspace(0, 1, len(boxes)), truth=target(boxes, labels)
    )
    assert drawn.shape == (*size_hw, 3)
    assert drawn.dtype == np.uint8


@pytest.mark.parametrize("name", ["漢字", "", "\n", "a\x00b", "<b>", "x" * 300])
def test_any_class_name_can_be_drawn(name):
    drawn = draw_detections(grey(), np.array([[10.0, 60, 150, 150]]), np.array([0]), [name])
    assert (drawn[40:58] != 128).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"needs a uint8 image \[h, w, 3\], got uint8 \(4, 4\)"),
        ({"image": np.zeros((4, 4, 3))}, r"needs a uint8 image \[h, w, 3\], got float64"),
        ({"labels": np.array([0, 1])}, r"needs boxes \[n, 4\] and labels \[n\], got \(1, 4\) and \(2,\)"),
        ({"labels": np.array([2])}, "labels from 2 to 2 and 2 names"),
        ({"labels": np.array([-1])}, "labels from -1 to -1 and 2 names"),
        ({"scores": np.zeros(3)}, "needs one score a box, got 3 scores and 1 boxes"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, message):
    given = {
        "image": grey(),
        "boxes_xyxy": np.zeros((1, 4)),
        "labels": np.array([0]),
        "names": NAMES,
    } | change
    unchecked = getattr(draw_detections, "__wrapped__", draw_detections)
    with pytest.raises(UsageError, match=message):
        unchecked(**given)
