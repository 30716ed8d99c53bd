import numpy as np
import pytest

from trivet.data.sources.rows import Rows


def test_what_is_added_comes_back_as_columns():
    rows = Rows("val")
    image = rows.add_image("a.jpg", "a.txt", image_id=7, size_hw=(48, 64))
    rows.add_box(image, (1.0, 2.0, 3.0, 4.0), label=5, where=9, crowd=True)
    rows.add_problem("clipped-box", "a.txt", "line 1")
    found = rows.found("line", normalised=True)
    assert (found.split, found.names, found.files, found.where_word) == ("val", ["a.jpg"], ["a.txt"], "line")
    assert found.image_ids.tolist() == [7]
    assert found.sizes_hw.tolist() == [[48, 64]]
    assert found.boxes_xyxy.tolist() == [[1, 2, 3, 4]]
    assert (found.labels.tolist(), found.where.tolist(), found.crowd.tolist()) == ([5], [9], [True])
    assert np.isnan(found.areas).all()
    assert found.normalised
    assert found.problems[0].action == "clipped"


def test_nothing_added_gives_empty_columns():
    found = Rows(None).found("line")
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.sizes_hw.shape == (0, 2)


def test_the_last_image_can_be_taken_back():
    rows = Rows("train")
    rows.add_image("a.jpg", "a", image_id=0)
    rows.drop_image(rows.add_image("b.jpg", "b", image_id=1))
    assert rows.found("line").sizes_hw.shape == (1, 2)
    rows.add_image("c.jpg", "c", image_id=2)
    with pytest.raises(AssertionError, match="image 0 is not the last of 2"):
        rows.drop_image(0)
