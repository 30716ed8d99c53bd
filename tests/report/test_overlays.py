import numpy as np
import pytest

from trivet.report.overlays import COVER, MISTAKE, draw_mask, draw_mistakes, mistaken
from trivet.report.palette import class_colour, rgb

IMAGE = np.full((60, 80, 3), 120, np.uint8)


def test_a_mask_is_drawn_in_its_classes_colours():
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:], mask[:, 70:] = 1, 255
    drawn = draw_mask(IMAGE, mask, ["a", "b"]).astype(float)
    for label, column in ((0, 2), (1, 44)):
        wanted = (1 - COVER) * 120 + COVER * np.array(rgb(class_colour(label)))
        np.testing.assert_allclose(drawn[2, column], wanted, atol=1)
    assert drawn[2, 75].max() < 60  # void is dark
    assert drawn[2, 39].sum() < drawn[2, 37].sum()  # the outline between two classes
    assert (IMAGE == 120).all()


def test_background_is_left_as_it_is():
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:] = 1
    drawn = draw_mask(IMAGE, mask, ["Background", "cup"])
    assert (drawn[:, :39] == 120).all()
    assert np.ptp(drawn[2, 44].astype(int)) > 20


BLANK = np.zeros((200, 200, 3), np.uint8)


def chip(drawn, label):
    """Return the corners of what is drawn in a class's full colour."""
    rows, columns = (drawn == rgb(class_colour(label))).all(axis=2).nonzero()
    return columns.min(), rows.min(), columns.max(), rows.max()


def width(corners):
    return corners[2] - corners[0]


def test_names_are_written_where_codes_are_not_explained():
    mask = np.zeros((200, 200), np.uint8)
    mask[:, 80:] = 1
    names = ["background", "cup"]
    code, name = (chip(draw_mask(BLANK, mask, names, spelled=s), 1) for s in (False, True))
    assert width(name) > 1.5 * width(code)
    assert name[0] >= 80
    narrow = np.zeros((200, 200), np.uint8)
    narrow[:, 190:] = 1  # 10 pixels at the edge: the name reaches beyond them, and not beyond the image
    moved = chip(draw_mask(BLANK, narrow, names, spelled=True), 1)
    assert width(moved) == pytest.approx(width(name), abs=2)
    assert moved[0] < 190
    assert moved[2] < 200


def test_a_name_of_two_words_takes_two_lines_where_one_is_too_wide():
    mask = np.zeros((200, 200), np.uint8)
    mask[60:130, 60:130] = 1
    left, top, right, bottom = chip(draw_mask(BLANK, mask, ["background", "Paper pack"], spelled=True), 1)
    assert 60 <= left < right < 130
    assert 60 <= top < bottom < 130
    assert bottom - top > 1.5 * 10


def test_a_name_that_reaches_beyond_its_region_covers_no_other():
    mask = np.zeros((200, 200), np.uint8)
    mask[:, :100] = 1
    mask[97:103, 20:100] = 2  # lies across the thickest part of the first
    drawn = draw_mask(BLANK, mask, ["background", "street", "streetlight"], spelled=True)
    assert (drawn == rgb(class_colour(1))).all(axis=2).any()
    one, other = (chip(drawn, label) for label in (1, 2))
    assert one[3] < other[1] or other[3] < one[1] or one[2] < other[0] or other[2] < one[0]


def test_labels_without_a_name_and_tiny_masks_can_be_drawn():
    mask = np.array([[0, 7], [255, 1]], np.uint8)
    assert draw_mask(np.zeros((2, 2, 3), np.uint8), mask, ["a"]).shape == (2, 2, 3)


def test_mistakes_are_marked_and_void_is_not():
    truth, predicted = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
    predicted[:30] = 1
    truth[:, 60:] = 255
    drawn = draw_mistakes(IMAGE, truth, predicted).astype(int)
    assert abs(drawn[5, 5] - rgb(MISTAKE)).max() < 45
    assert np.ptp(drawn[50, 5]) == 0  # grey: right
    assert np.ptp(drawn[5, 70]) == 0  # void
    assert drawn[5, 70].max() < drawn[50, 5].max()
    assert mistaken(truth, predicted) == 0.5


@pytest.mark.parametrize("label", range(21))
def test_no_class_has_the_colour_of_a_mistake(label):
    assert sum(abs(a - b) for a, b in zip(rgb(class_colour(label)), rgb(MISTAKE), strict=True)) > 100
