import json
import math

import numpy as np
import pytest

from trivet.data.sources import read_dataset
from trivet.errors import DataError, UsageError


def read(path, **options):
    return read_dataset(path, val_share=0.0, **options)


def names(problems):
    return [found.name for found in problems]


def test_boxes_become_corners_and_ids_labels(make):
    make.image("a.jpg")
    make.coco("instances.json", [(5, "a.jpg")], [(5, 7, [10, 20, 30, 5.5]), (5, 1, [0, 0, 64, 48])])
    split = read(make.root).train
    assert split.labels.names == ("cat", "dog")
    assert split.labels.file_ids == (1, 7)
    assert split.truth.image_ids.tolist() == [5]
    assert split.truth.sizes_hw.tolist() == [[48, 64]]
    assert split.truth.boxes_xyxy.tolist() == [[10, 20, 40, 25.5], [0, 0, 64, 48]]
    assert split.truth.labels.tolist() == [1, 0]
    assert split.problems == ()


def test_areas_are_the_files_own_where_they_are_given(make):
    make.image("a.jpg")
    path = make.coco("a.json", [(1, "a.jpg")], [(1, 1, [0, 0, 10, 10])] * 3)
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"area": 33.5, "iscrowd": 1}
    content["annotations"][1]["area"] = 0
    path.write_text(json.dumps(content))
    truth = read(make.root).train.truth
    assert truth.areas.tolist() == [33.5, 100, 100]
    assert truth.crowd.tolist() == [True, False, False]


def test_boxes_are_grouped_by_image_in_the_files_order(make):
    for name in "abc":
        make.image(f"{name}.jpg")
    images = [(3, "c.jpg"), (1, "a.jpg"), (2, "b.jpg")]
    make.coco("a.json", images, [(2, 1, [0, 0, 2, 2]), (3, 1, [0, 0, 3, 3]), (2, 7, [0, 0, 4, 4])])
    split = read(make.root).train
    assert [split.name(i) for i in range(3)] == ["c.jpg", "a.jpg", "b.jpg"]
    assert np.diff(split.truth.offsets).tolist() == [1, 0, 2]
    assert split.truth.boxes_xyxy[:, 2].tolist() == [3, 2, 4]


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("a.json", "a.jpg"),
        ("a.json", "images/a.jpg"),
        ("annotations/a.json", "images/a.jpg"),
        ("annotations/a.json", "a.jpg"),
        ("annotations/instances_train2017.json", "train2017/a.jpg"),
        ("annotations/train.json", "images/train/a.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg"),
        ("a.json", "deep/er/a.jpg"),
    ],
)
@pytest.mark.parametrize("whole_folder", [True, False])
def test_images_are_found_in_the_usual_places(make, file, image, whole_folder):
    make.image(image)
    path = make.coco(file, [(1, "a.jpg")], [(1, 1, [0, 0, 9, 9])])
    split = read(make.root if whole_folder else path).train
    assert split.path(0).resolve() == (make.root / image).resolve()
    assert split[0].boxes_xyxy.tolist() == [[0, 0, 9, 9]]


def test_names_with_folders_tell_equal_names_apart(make):
    for folder in ("one", "two"):
        make.image(f"pictures/{folder}/a.jpg")
    make.coco("a.json", [(1, "two/a.jpg"), (2, "one/a.jpg"), (3, "a.jpg")], [(1, 1, [0, 0, 9, 9])])
    split = read(make.root).train
    assert [split.name(i) for i in range(2)] == ["pictures/two/a.jpg", "pictures/one/a.jpg"]
    assert names(split.problems) == ["image-missing"]


def test_equal_names_in_two_splits_are_told_by_the_splits_folder(make):
    for split in ("train", "val"):
        make.image(f"{split}2017/000001.jpg")
        make.coco(f"annotations/instances_{split}2017.json", [(1, "000001.jpg")], [(1, 1, [0, 0, 9, 9])])
    splits = read(make.root)
    assert splits.train.name(0) == "train2017/000001.jpg"
    assert splits.val is not None
    assert splits.val.name(0) == "val2017/000001.jpg"


def test_files_are_splits_by_their_names(make):
    for split in ("train", "valid", "test"):
        make.image(f"{split}/{split}.jpg")
        make.coco(f"{split}/_annotations.coco.json", [(0, f"{split}.jpg")], [(0, 7, [0, 0, 9, 9])])
    splits = read(make.root)
    assert [(split.split, len(split)) for split in splits.given] == [("train", 1), ("val", 1), ("test", 1)]
    assert splits.made is None
    assert splits.notes[0] == "test: test/_annotations.coco.json"


def test_panoptic_and_caption_files_are_no_boxes(make):
    make.image("a.jpg")
    make.coco("instances_train.json", [(1, "a.jpg")], [(1, 1, [0, 0, 9, 9])])
    make.coco("person_keypoints_train.json", [(1, "a.jpg")], [(1, 1, [0, 0, 9, 9])])
    make.text(
        "panoptic_train.json", '{"images": [], "annotations": [{"segments_info": []}], "categories": []}'
    )
    make.text("captions_train.json", '{"images": [], "annotations": [{"caption": "a cat"}]}')
    make.text("other.json", "[1, 2")
    assert read(make.root).notes == ("train: instances_train.json",)


def test_two_files_of_one_split_are_refused(make):
    make.image("a.jpg")
    for name in ("train_a.json", "train_b.json"):
        make.coco(name, [(1, "a.jpg")], [])
    with pytest.raises(
        UsageError, match=r"train_a\.json and train_b\.json both hold train\ngive the json file"
    ):
        read(make.root)


def test_files_that_disagree_on_a_category_are_refused(make):
    make.image("a.jpg")
    make.coco("train.json", [(1, "a.jpg")], [])
    make.coco("val.json", [(1, "a.jpg")], [], categories=[(1, "horse")])
    with pytest.raises(DataError, match="category 1 is 'horse' here and 'cat' in another file"):
        read(make.root)


def test_categories_of_all_files_are_joined(make):
    make.image("a.jpg")
    make.coco("train.json", [(1, "a.jpg")], [], categories=[(9, "horse"), (2, "cow")])
    make.coco("val.json", [(1, "a.jpg")], [], categories=[(1, "cat")])
    assert read(make.root).labels.file_ids == (1, 2, 9)


def test_faulty_rows_are_named_and_left_out(make):
    make.image("a.jpg")
    boxes = [
        (1, 1, [0, 0, 9, 9]),
        (1, 5, [0, 0, 9, 9]),
        (2, 1, [0, 0, 9, 9]),
        (1, 1, [5, 5, 0, 9]),
        (1, 1, [5, 5, -2, 9]),
        (1, 1, [64, 5, 3, 9]),
        (1, 1, [-70, 5, 3, 9]),
        (1, 1, [60, 5, 10, 9]),
    ]
    make.coco("a.json", [(1, "a.jpg")], boxes)
    split = read(make.root).train
    assert split.truth.boxes_xyxy.tolist() == [[0, 0, 9, 9], [60, 5, 64, 14]]
    assert names(split.problems) == [
        "annotation-without-image",
        "unknown-label",
        "inverted-box",
        "zero-area-box",
        "outside-box",
        "outside-box",
        "clipped-box",
    ]
    assert split.problems[1].detail == "annotation 2: category id 5 is not among the categories"
    assert split.problems[-1].detail == "annotation 8: (60, 5, 70, 14) in a.jpg, 64 x 48"
    assert split.problems[-1].file == "a.json"


def test_nan_and_rows_of_other_forms_cost_only_themselves(make):
    make.image("a.jpg")
    path = make.coco("a.json", [(1, "a.jpg")], [(1, 1, [0, 0, 9, math.nan]), (1, 1, [0, 0, math.inf, 9])])
    content = json.loads(path.read_text())
    content["annotations"] += [
        {"id": 11, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]},
        {"id": 12, "image_id": 1, "category_id": 1},
        {"id": 13, "image_id": 1, "category_id": 1, "bbox": None},
        {"id": "14", "image_id": "1", "category_id": "1", "bbox": ["1", 2, 3, 4]},
        "nonsense",
    ]
    content["images"].append({"id": 2})
    path.write_text(json.dumps(content))
    split = read(make.root).train
    assert split.truth.boxes_xyxy.tolist() == [[1, 2, 4, 6]]
    assert names(split.problems).count("unreadable-row") == 5
    assert names(split.problems).count("non-finite-box") == 2
    assert "annotations id 11: Expected" in " ".join(found.detail for found in split.problems)


def test_numbers_beyond_float32_are_not_finite(make):
    make.image("a.jpg")
    make.coco("a.json", [(1, "a.jpg")], [(1, 1, [0, 0, 1e300, 9])])
    assert names(read(make.root).train.problems) == ["non-finite-box"]


def test_ids_that_stand_twice_are_named(make):
    make.image("a.jpg")
    make.image("b.jpg")
    path = make.coco("a.json", [(1, "a.jpg"), (1, "b.jpg")], [(1, 1, [0, 0, 9, 9]), (1, 1, [0, 0, 8, 8])])
    path.write_text(path.read_text().replace('"id": 2, "image_id"', '"id": 1, "image_id"'))
    split = read(path).train
    assert sorted(names(split.problems)) == ["annotation-id-twice", "image-id-twice"]
    assert len(split) == 1
    assert len(split.truth.labels) == 2


def test_one_file_under_two_ids_becomes_one_image(make):
    make.image("a.jpg")
    make.coco("a.json", [(1, "a.jpg"), (2, "./a.jpg")], [(1, 1, [0, 0, 9, 9]), (2, 7, [0, 0, 8, 8])])
    split = read(make.root).train
    assert split.truth.image_ids.tolist() == [1]
    assert split.truth.labels.tolist() == [0, 1]
    assert names(split.problems) == ["image-listed-twice"]


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "..\\a.jpg", "C:/a.jpg"])
def test_paths_that_leave_the_folder_are_faults(make, name):
    make.image("a.jpg")  # outside the data set
    make.image("set/b.jpg")
    make.coco("set/a.json", [(1, name), (2, "b.jpg")], [(1, 1, [0, 0, 9, 9])])
    split = read(make.root / "set").train
    assert [split.name(i) for i in range(len(split))] == ["b.jpg"]
    assert names(split.problems) == ["image-path-outside", "annotation-without-image"][:1]


def test_an_absolute_path_is_followed_in_the_file_the_user_names_only(make):
    outside = make.image("elsewhere/a.jpg")
    path = make.coco("set/a.json", [(1, str(outside))], [(1, 1, [0, 0, 9, 9])])
    assert read(path).train.path(0) == outside
    with pytest.raises(DataError, match="no image of the training split can be used\n  image-path-outside"):
        read(make.root / "set")


def test_an_absolute_path_into_the_folder_or_of_another_machine_is_looked_for_here(make):
    inside = make.image("set/images/a.jpg")
    make.image("set/images/b.jpg")
    make.coco("set/a.json", [(1, str(inside)), (2, "/home/other/b.jpg")], [])
    split = read(make.root / "set").train
    assert [split.name(i) for i in range(2)] == ["images/a.jpg", "images/b.jpg"]


def test_images_nobody_mentions_are_reported(make):
    make.image("images/a.jpg")
    make.image("images/b.jpg")
    make.image("elsewhere/c.jpg")
    make.coco("a.json", [(1, "a.jpg")], [])
    problems = read(make.root).train.problems
    assert [(found.name, found.file) for found in problems] == [("image-without-annotation", "images/b.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": 3, "annotations": [], "categories": []}', "'images' is a int"),
        ('{"images": [], "annotations": {}, "categories": []}', "'annotations' is a dict"),
        ('["images", "annotations", "categories"]', "it holds a list"),
        ('{"images", "annotations", "categories"', "it is no json file"),
        ('{"images": [], "annotations": [], "categories": []}', "name no categories"),
    ],
)
def test_a_file_of_another_form_is_refused(make, content, message):
    with pytest.raises(DataError, match=message):
        read(make.text("a.json", content))


def test_without_images_annotations_alone_are_read(make):
    path = make.coco("a.json", [(1, "batch/a.jpg"), (2, "../b.jpg")], [(1, 1, [0, 0, 9, 9])])
    split = read(path, check="none").train
    assert split.name(0) == "batch/a.jpg"
    assert names(split.problems) == ["image-path-outside"]


def test_real_files_give_the_known_counts(shared_data):
    splits = read_dataset(shared_data / "trash_competition_sample")
    assert [(split.split, len(split), len(split.truth.labels)) for split in splits.given] == [
        ("train", 50, 404),
        ("val", 10, 103),
    ]
    assert splits.labels.file_ids == tuple(range(1, 11))
    assert splits.problems == ()


def test_real_crowd_records_and_gaps_in_ids(shared_data):
    split = read(shared_data / "coco128", format="coco").train
    assert len(split) == 128
    assert int(split.truth.crowd.sum()) == 10
    assert len(split.labels) == 80
    assert split.labels.file_ids[-1] == 90
    assert split[0].image.shape == (480, 640, 3)


def test_real_annotations_without_photos(shared_data):
    folder = shared_data / "trash_annotations"
    taco = read(folder / "taco_annotations.json", check="none").train
    assert (len(taco), len(taco.truth.labels), len(taco.labels)) == (1500, 4784, 60)
    assert names(taco.problems).count("annotation-id-twice") == 2
    assert names(taco.problems).count("clipped-box") == 7
    recycle = read(folder / "recycle_trash_train.json", check="none").train
    assert (len(recycle), len(recycle.truth.labels), len(recycle.labels)) == (4883, 23144, 10)
    assert recycle.problems == ()
