import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.data.sources.yolo_labels import parse_row

share = st.floats(0.01, 0.99)


@given(st.integers(0, 99), share, share, share, share)
def test_a_box_comes_back_from_its_centre_and_size(class_id, x, y, width, height):
    label, box = parse_row(f"{class_id} {x!r} {y!r} {width!r} {height!r}")
    assert label == class_id
    np.testing.assert_allclose([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], [x, y], atol=1e-9)
    np.testing.assert_allclose([box[2] - box[0], box[3] - box[1]], [width, height], atol=1e-9)


@given(st.lists(st.tuples(share, share), min_size=3, max_size=20))
def test_a_polygons_box_is_that_of_its_points(points):
    _, box = parse_row("7 " + " ".join(f"{x!r} {y!r}" for x, y in points))
    np.testing.assert_allclose(box, [*np.min(points, axis=0), *np.max(points, axis=0)])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0", "it has 1 fields, where 5"),
        ("0 0.1 0.1 0.1 0.1 0.9", "it has 6 fields"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "it has 8 fields"),
        ("1.5 0.1 0.1 0.2 0.2", "its class is '1.5', where a whole number is wanted"),
        ("0 10 0.1 0.2 0.2", "its numbers go to 10, where shares of the image's size"),
        ("cat 0.1 0.1 0.2 0.2", "could not convert"),
        ("", "not enough values"),
    ],
)
def test_other_rows_are_refused_with_what_they_are(row, message):
    with pytest.raises(ValueError, match=message):
        parse_row(row)
