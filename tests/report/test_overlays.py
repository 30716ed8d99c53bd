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


def test_names_are_written_where_codes_are_not_explained_and_there_is_room():
    mask = np.zeros((200, 200), np.uint8)
    mask[:, 80:] = 1  # 120 pixels wide
    names = ["background", "cup"]
    code, name = (draw_mask(np.zeros((200, 200, 3), np.uint8), mask, names, spelled=s) for s in (False, True))
    colour = class_colour(1)
    chips = [(drawn == rgb(colour)).all(axis=2).any(axis=0).sum() for drawn in (code, name)]
    assert chips[1] > 1.5 * chips[0] > 0
    mask[:, 100:] = 0  # 20 pixels: no room for the name
    narrow = draw_mask(np.zeros((200, 200, 3), np.uint8), mask, names, spelled=True)
    assert (narrow == draw_mask(np.zeros((200, 200, 3), np.uint8), mask, names)).all()
    assert (narrow == rgb(colour)).all(axis=2).any()


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
