"""COCO's outlines as masks: exact against pycocotools, by every rule for overlaps."""

import json
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from trivet.data.sources import read_dataset
from trivet.errors import UsageError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools' own


def square(left, top, side):
    return [left, top, left + side, top, left + side, top + side, left, top + side]


@pytest.fixture
def outlines(make, tmp_path):
    def write(
        rows, categories=((1, "cat"), (7, "dog")), *, name="annotations/instances_train.json", images=1
    ):
        for i in range(images):
            make.image(f"images/{i}.jpg")
        content = {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(images)],
            "annotations": [
                {"id": n, "image_id": 0, "iscrowd": 0} | row for n, row in enumerate(rows, start=1)
            ],
            "categories": [{"id": i, "name": n} for i, n in categories],
        }
        make.text(name, json.dumps(content))
        return lambda **options: read_dataset(tmp_path, task="segmentation", val_share=0.0, **options)

    return write


def test_parts_and_run_lengths(outlines):
    whole = np.zeros((48, 64), np.uint8)
    whole[30:40, 5:25] = 1
    whole[33:37, 10:15] = 0  # a hole, which only run lengths can tell
    packed = coco_mask.encode(np.asfortranarray(whole))
    counts = packed["counts"].decode()
    flat = whole.T.ravel()
    plain = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    read = outlines(
        [
            {"category_id": 7, "segmentation": [square(2, 2, 6), square(20, 2, 4)]},
            {"category_id": 1, "segmentation": {"counts": counts, "size": [48, 64]}, "iscrowd": 1},
        ]
    )
    splits = read()
    assert splits.labels.names == ("background", "cat", "dog")
    assert splits.labels.file_ids == (0, 1, 7)
    expected = whole.copy()
    expected[2:8, 2:8] = expected[2:6, 20:24] = 2
    np.testing.assert_array_equal(splits.train[0].mask, expected)
    again = outlines(
        [
            {"category_id": 7, "segmentation": [square(2, 2, 6), square(20, 2, 4)]},
            {"category_id": 1, "segmentation": {"counts": plain, "size": [48, 64]}},
        ]
    )
    np.testing.assert_array_equal(again().train[0].mask, expected)


OVERLAPPING = [
    {"category_id": 7, "segmentation": [square(10, 10, 10)], "area": 100.0},
    {"category_id": 1, "segmentation": [[5, 5, 20, 5, 35, 5, 35, 35, 5, 35]], "area": 900.0},
]


@pytest.mark.parametrize(("rule", "label"), [("small-on-top", 2), ("highest-id", 2), ("longest-first", 1)])
def test_rules_for_overlaps(outlines, rule, label):
    read = outlines(OVERLAPPING)
    splits = read(overlap=rule)
    assert splits.train[0].mask[15, 15] == label
    assert f"overlapping outlines: {rule}" in splits.notes
    with pytest.raises(UsageError, match="did you mean 'small-on-top'"):
        read(overlap="small-on-top-of")


@pytest.mark.parametrize(
    ("ids", "names", "words", "background_id"),
    [
        (
            range(11),
            12,
            r"category ids 0 to 10: background is label 0, a category's label is the id \+ 1 \(12 classes\)",
            -1,
        ),
        (
            range(1, 11),
            11,
            r"category ids 1 to 10: background is label 0, a category's label is the id \(11 classes\)",
            0,
        ),
        (
            range(10),
            11,
            r"category ids 0 to 9: background is label 0, a category's label is the id \+ 1 \(11 classes\)",
            -1,
        ),
    ],
)
def test_conventions_of_category_ids(outlines, ids, names, words, background_id):
    last = max(ids)
    read = outlines(
        [{"category_id": last, "segmentation": [square(2, 2, 6)]}], [(i, f"class {i}") for i in ids]
    )
    splits = read()
    assert len(splits.labels) == names
    assert splits.labels.file_ids == (background_id, *ids)
    assert any(re.fullmatch(words, note) for note in splits.notes), splits.notes
    assert splits.train[0].mask[4, 4] == names - 1
    assert splits.train[0].mask[30, 30] == 0


def test_a_background_of_the_data_sets_own(outlines):
    read = outlines([{"category_id": 1, "segmentation": [square(2, 2, 6)]}], [(1, "cat"), (2, "Background")])
    splits = read()
    assert splits.labels.names == ("cat", "Background")
    assert splits.train[0].mask[[4, 30], [4, 30]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (None, "it has no segmentation"),
        ([], "it has no polygon"),
        ([[1, 2, 3, 4]], "a polygon has 4 numbers"),
        ([[1, 2, 3, 4, 5]], "a polygon has 5 numbers"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], r"a polygon goes to 1e\+09"),
        ({"counts": [5, 5], "size": [48, 64]}, "its run lengths make 10 pixels, the image has 3,072"),
        ({"counts": "\x01", "size": [48, 64]}, "no compressed run length"),
    ],
)
def test_the_box_of_an_unusable_outline_is_ignored(outlines, shape, words):
    read = outlines([{"category_id": 7, "segmentation": shape, "bbox": [10, 10, 5, 5]}])
    splits = read()
    assert [found.name for found in splits.problems] == ["outline-unusable"]
    assert re.search(words, splits.problems[0].detail)
    mask = splits.train[0].mask
    assert (mask[10:15, 10:15] == 255).all()
    assert (mask == 255).sum() == 25


def test_unknown_categories_and_images(outlines):
    read = outlines(
        [{"category_id": 9, "segmentation": [square(2, 2, 6)]}, {"image_id": 5, "category_id": 1}], images=2
    )
    splits = read()
    assert sorted(found.name for found in splits.problems) == ["annotation-without-image", "unknown-label"]
    assert not splits.train[0].mask.any()
    assert len(splits.train) == 2


def test_boxes_without_outlines_are_no_data_for_segmentation(make, tmp_path):
    make.image("images/a.jpg")
    make.coco("annotations/instances_train.json", [(1, "a.jpg")], [(1, 1, [1, 2, 3, 4])])
    with pytest.raises(UsageError, match="no data set for segmentation"):
        read_dataset(tmp_path, task="segmentation")
    assert read_dataset(tmp_path, val_share=0.0).task == "detection"


def test_digits_are_read_both_ways(digits):
    boxes, masks = read_dataset(digits), read_dataset(digits, task="segmentation")
    assert (boxes.format, boxes.task, masks.format, masks.task) == (
        "coco",
        "detection",
        "masks",
        "segmentation",
    )
    assert masks.labels.names == ("background", "zero", "one", "two")
    sample = masks.train[0]
    assert sample.mask.max() <= 3
    assert len(boxes.train[0].labels) == 0 or sample.mask.any()


@pytest.mark.parametrize("rule", ["small-on-top", "highest-id", "longest-first"])
def test_the_competition_as_its_baselines_read_it(shared_data, rule):
    folder = shared_data / "trash_competition_sample"
    content = json.loads((folder / "val.json").read_text())
    val = read_dataset(folder, task="segmentation", overlap=rule).val
    keys = {
        "small-on-top": lambda a: -a["area"],
        "highest-id": lambda a: a["category_id"],
        "longest-first": lambda a: len(a["segmentation"][0]),
    }
    for index, image in enumerate(content["images"]):
        expected = np.zeros((512, 512), np.uint8)
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for annotation in sorted(own, key=keys[rule]):
            runs = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], 512, 512))
            expected[coco_mask.decode(runs) == 1] = annotation["category_id"]
        np.testing.assert_array_equal(val.masks[index], expected)
