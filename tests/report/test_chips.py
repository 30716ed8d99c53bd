from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivet.report.chips import place_chips

SIZE = (200, 300)


def measure(text: str) -> tuple[int, int]:
    return 8 * len(text) + 4, 14


def place(boxes, *wordings, size_hw=SIZE):
    return place_chips(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), wordings, measure, size_hw=size_hw
    )


def shared(one, other) -> int:
    left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), one, other, strict=True))
    return max(right - left, 0) * max(bottom - top, 0)


def test_no_boxes_have_no_chips():
    assert place([], [], []) == []


def test_a_chip_sits_above_its_box():
    (chip,) = place([[50, 60, 120, 110]], ["cat 0.90"])
    assert (chip.row, chip.text, chip.box_xyxy) == (0, "cat 0.90", (50, 46, 118, 60))


def test_a_chip_at_the_top_goes_below_its_box_and_not_over_the_object():
    (chip,) = place([[50, 0, 120, 60]], ["cat"])
    assert chip.box_xyxy[1] == 60


def test_a_label_hides_as_little_of_other_objects_as_it_can():
    (chip, _) = place([[50, 60, 120, 110], [55, 40, 90, 58]], ["cat", ""], ["", ""])
    assert chip.box_xyxy == (92, 46, 120, 60)  # above right: above left is the other object


def test_a_box_that_fills_the_image_is_labelled_inside():
    (chip,) = place([[0, 0, 300, 200]], ["cat"])
    assert chip.box_xyxy == (0, 0, 28, 14)


def test_a_chip_larger_than_the_image_is_left_out():
    assert place([[0, 0, 40, 40]], ["elephant"], size_hw=(40, 40)) == []
    assert [chip.text for chip in place([[0, 0, 40, 40]], ["elephant"], ["e"], size_hw=(40, 40))] == ["e"]


def test_where_it_is_crowded_all_labels_are_short():
    boxes = [[x, y, x + 22, y + 22] for x in range(0, 280, 24) for y in range(0, 180, 24)]
    chips = place(boxes, ["platelets 0.93"] * len(boxes), ["P"] * len(boxes))
    assert {chip.text for chip in chips} == {"P"}
    assert len(chips) > 0.6 * len(boxes)


def test_labels_hide_no_more_than_a_fifth_of_the_image():
    boxes = [[x, y, x + 8, y + 8] for x in range(0, 60, 12) for y in range(0, 60, 12)]
    chips = place(boxes, ["1"] * len(boxes), size_hw=(64, 64))
    hidden = sum((c.box_xyxy[2] - c.box_xyxy[0]) * (c.box_xyxy[3] - c.box_xyxy[1]) for c in chips)
    assert chips
    assert hidden <= 0.2 * 64 * 64


boxes = st.tuples(st.floats(-20, 280), st.floats(-20, 180), st.floats(1, 200), st.floats(1, 150)).map(
    lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]]
)


@given(st.lists(boxes, max_size=30))
def test_chips_stay_inside_and_never_cover_each_other(found):
    chips = place(found, ["name 0.50"] * len(found), ["name"] * len(found), ["n"] * len(found))
    assert len({chip.row for chip in chips}) == len(chips) <= len(found)
    for chip in chips:
        left, top, right, bottom = chip.box_xyxy
        assert 0 <= left < right <= SIZE[1]
        assert 0 <= top < bottom <= SIZE[0]
    for one, other in combinations(chips, 2):
        assert shared(one.box_xyxy, other.box_xyxy) == 0


@pytest.mark.parametrize("count", [1, 300])
def test_as_many_labels_as_there_is_room_for(count):
    rng = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=rng) * torch.tensor([1900.0, 1000.0])
    chips = place_chips(torch.hstack([corners, corners + 30]), [["a"] * count], measure, size_hw=(1080, 1980))
    assert len(chips) >= 0.9 * count
