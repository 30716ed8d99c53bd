import numpy as np
import pytest

from trivet.data.sources.folder import Folder
from trivet.data.sources.found import positions, report_unmentioned
from trivet.data.sources.rows import Rows


@pytest.mark.parametrize(
    ("values", "wanted", "places", "known"),
    [([5, 1, 9], [1, 5, 7], [1, 0], [True, True, False]), ([], [1], [], []), ([3], [], [], [False])],
)
def test_positions_find_values_in_any_order(values, wanted, places, known):
    position, there = positions(np.array(values, np.int64), np.array(wanted, np.int64))
    assert there.tolist() == known
    assert position[there].tolist() == places


def filled():
    rows = Rows("train")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        image = rows.add_image(name, f"{name}.txt", image_id=len(rows.names) * 10, size_hw=(4, 5))
        for where in range(image + 1):
            rows.add_box(image, (float(where), 0.0, 9.0, 9.0), label=image, where=where)
    return rows.found("line")


def test_keeping_images_keeps_their_boxes_and_files():
    kept = filled().keep_images(np.array([True, False, True]))
    assert kept.names == ["a.jpg", "c.jpg"]
    assert [kept.file(i) for i in range(2)] == ["a.jpg.txt", "c.jpg.txt"]
    assert kept.image_index.tolist() == [0, 1, 1, 1]
    assert kept.labels.tolist() == [0, 2, 2, 2]
    assert kept.image_ids.tolist() == [0, 20]


def test_keeping_boxes_keeps_all_their_columns():
    kept = filled().keep_boxes(np.array([False, True, True, False, False, True]))
    assert kept.where.tolist() == [0, 1, 2]
    assert kept.boxes_xyxy[:, 0].tolist() == [0, 1, 2]
    assert len(kept.crowd) == len(kept.areas) == 3


def test_images_nobody_mentions_are_reported_in_folders_that_are_mentioned_only(make):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "other/e.jpg"):
        make.image(name)
    found = filled()
    report_unmentioned([found], Folder(make.root))
    assert [item.file for item in found.problems] == ["d.jpg"]
    report_unmentioned([found], Folder(make.root, check="none"))
    report_unmentioned([found], Folder(make.root, file="a.json"))
    assert len(found.problems) == 1
