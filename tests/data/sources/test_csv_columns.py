import pytest

from trivet.data.sources.csv_columns import CENTRE_AND_SIZE, CORNER_AND_SIZE, CORNERS, columns_of


@pytest.mark.parametrize(
    ("choices", "box"),
    [(CORNERS, (1, 2, 3, 4)), (CORNER_AND_SIZE, (1, 2, 4, 6)), (CENTRE_AND_SIZE, (-0.5, 0, 2.5, 4))],
)
def test_every_set_of_names_gives_its_form(choices, box):
    for names in choices:
        found = columns_of(["label", *names, "image"])
        assert found is not None, names
        assert found.form([1.0, 2.0, 3.0, 4.0]) == box, names
        assert (found.label, found.image, found.box) == (0, 5, (1, 2, 3, 4))


def test_width_and_height_are_the_images_beside_corners_and_the_boxes_beside_a_corner():
    beside_corners = columns_of(["image", "width", "height", "xmin", "ymin", "xmax", "ymax"])
    assert (beside_corners.size_wh, beside_corners.box) == ((1, 2), (3, 4, 5, 6))
    beside_a_corner = columns_of(["image", "x", "y", "width", "height"])
    assert (beside_a_corner.size_wh, beside_a_corner.box) == (None, (1, 2, 3, 4))


@pytest.mark.parametrize(
    "row",
    [
        ["image", "label"],
        ["a.jpg", "1", "2", "3", "4"],
        ["a", "b", "c", "d", "e", "f"],
        ["a.jpg", "1", "2", "3", "4", ""],
    ],
)
def test_other_rows_are_no_boxes(row):
    assert columns_of(row) is None


def test_rows_without_a_head_are_found_by_place():
    assert columns_of(["a.jpg", "1", "2", "3", "4", "cat"]).has_head is False
    assert columns_of(["a.jpg", "", "", "", "", ""]).has_head is False
