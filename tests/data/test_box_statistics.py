import json

import numpy as np
import pytest

from tests.data.tables import splits_of, table
from trivet.data.box_statistics import boxes_at, class_counts, coverage_of, describe, quantiles, sides_of
from trivet.geometry.anchors import AnchorSpec


def test_boxes_are_scaled_as_the_image_is_fitted():
    split = table([(0, 0, 0, 20, 10), (0, 2, 4, 6, 8, True)], [(1, 10, 10, 50, 20)], size_hw=(100, 200))
    assert boxes_at(split, (100, 100)).tolist() == [[0, 0, 10, 5], [5, 5, 25, 10]]
    assert boxes_at(split, (50, 400)).tolist() == [[0, 0, 10, 5], [5, 5, 25, 10]]


def test_boxes_of_images_without_size_are_left_out():
    assert len(boxes_at(table([(0, 0, 0, 9, 9)], size_hw=(0, 0)), (64, 64))) == 0


def test_the_side_is_the_root_of_the_area():
    assert sides_of(np.array([[0, 0, 4, 9], [1, 1, 2, 2]], np.float32)).tolist() == [6, 1]


def test_class_counts_leave_crowd_out():
    split = table([(0, 0, 0, 9, 9), (2, 0, 0, 9, 9), (2, 0, 0, 9, 9, True)])
    assert class_counts(split).tolist() == [1, 0, 1]


def test_without_boxes_there_is_no_coverage():
    assert coverage_of(table([]), (512, 512), AnchorSpec()) is None
    assert quantiles(np.zeros(0)) is None


def test_the_description_is_plain_data():
    train = table([(0, 0, 0, 20, 20), (1, 0, 0, 100, 90)], [])
    val = table([(1, 0, 0, 9, 9)], split="val")
    described = describe(splits_of(train, val), (256, 512), AnchorSpec())
    assert json.loads(json.dumps(described)) == described
    assert described["splits"]["train"] == {
        "images": 2,
        "boxes": 2,
        "crowd": 0,
        "images_without_boxes": 1,
        "boxes_an_image": {"min": 0, "p5": 0.1, "median": 1, "p95": 1.9, "max": 2},
        "height": dict.fromkeys(["min", "p5", "median", "p95", "max"], 100),
        "width": dict.fromkeys(["min", "p5", "median", "p95", "max"], 200),
    }
    assert described["classes"][1] == {
        "label": 1,
        "name": "class1",
        "file_id": 1,
        "boxes": {"train": 1, "val": 1},
    }
    assert described["train_boxes"]["by_size"] == {"small": 0, "medium": 1, "large": 1}
    assert described["train_boxes"]["anchor_coverage"]["boxes"] == 2
    assert described["train_boxes"]["side_px"]["min"] == pytest.approx(51.2)
