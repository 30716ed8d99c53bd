import numpy as np
import pytest

from trivet.data.sources import read_dataset
from trivet.errors import DataError, UsageError

YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  3: dog\n"


def read(path, **options):
    return read_dataset(path, val_share=0.0, **options)


def names(problems):
    return [found.name for found in problems]


@pytest.fixture
def two_splits(make):
    for split in ("train", "val"):
        make.image(f"images/{split}/{split}.jpg")
        make.text(f"labels/{split}/{split}.txt", "3 0.5 0.5 0.25 0.5\n")
    return make


def test_centres_in_shares_become_corners_in_pixels(two_splits):
    two_splits.text("data.yaml", YAML)
    splits = read(two_splits.root)
    assert splits.train.truth.boxes_xyxy.tolist() == [[24, 12, 40, 36]]
    assert splits.train.truth.labels.tolist() == [1]
    assert splits.labels.file_ids == (0, 3)
    assert splits.labels.names == ("cat", "dog")
    assert splits.val is not None
    assert splits.val.name(0) == "images/val/val.jpg"


@pytest.mark.parametrize(
    "content",
    [
        YAML,
        YAML.replace("path: .\n", ""),
        YAML.replace("path: .", "path: ../datasets/coco8"),
        YAML.replace("images/", "./images/"),
        YAML.replace("images/", "../images/"),
        YAML.replace("images/train", "[images/train]"),
        "train: images/train\nvalid: images/val\nnames: [cat, a, b, dog]\nnc: 4\n",
    ],
)
@pytest.mark.parametrize("whole_folder", [True, False])
def test_all_ways_to_write_the_yaml_find_the_images(two_splits, content, whole_folder):
    path = two_splits.text("data.yaml", content)
    splits = read(two_splits.root if whole_folder else path)
    assert [split.name(0) for split in splits.given] == ["images/train/train.jpg", "images/val/val.jpg"]
    assert splits.labels.names[-1] == "dog"


def test_a_yaml_elsewhere_may_point_at_the_images_by_an_absolute_path(two_splits, tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "mine.yaml"
    path.write_text(YAML.replace("path: .", f"path: {two_splits.root}"))
    splits = read(path)
    assert splits.train.path(0) == (two_splits.root / "images/train/train.jpg").resolve()
    assert splits.train.truth.boxes_xyxy.tolist() == [[24, 12, 40, 36]]


def test_a_yaml_found_in_the_folder_may_not_leave_it(make):
    make.image("outside/images/a.jpg")
    make.text("outside/labels/a.txt", "0 0.5 0.5 0.5 0.5")
    for path in (make.root / "outside", "../outside"):
        make.text("set/data.yaml", f"path: {path}\ntrain: images\nnames: [cat]\n")
        with pytest.raises(DataError, match="its splits have no image: train: there is no image at images"):
            read(make.root / "set")


def test_without_yaml_folders_tell_the_splits_and_ids_are_the_names(two_splits):
    splits = read(two_splits.root)
    assert [split.split for split in splits.given] == ["train", "val"]
    assert splits.labels.names == ("3",)
    assert splits.labels.file_ids == (3,)


def test_names_are_taken_from_classes_txt(two_splits):
    two_splits.text("classes.txt", "cat\ncow\nhorse\ndog\n")
    assert read(two_splits.root).labels.names == ("cat", "cow", "horse", "dog")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("a.jpg", "a.txt"),
        ("images/a.jpg", "labels/a.txt"),
        ("images/a.jpg", "images/a.txt"),
        ("images/x/a.jpg", "labels_all/x/a.txt"),
        ("set/images/images/a.jpg", "set/images/labels/a.txt"),
    ],
)
def test_label_files_are_found(make, image, label):
    make.image(image)
    make.text(label, "0 0.5 0.5 1 1")
    split = read(make.root).train
    assert split.name(0) == image
    assert split.truth.boxes_xyxy.tolist() == [[0, 0, 64, 48]]
    assert split.problems == ()


def test_label_folders_are_chosen_by_name(make):
    make.image("images/a.jpg")
    make.text("labels_one/a.txt", "0 0.5 0.5 1 1")
    make.text("labels_two/a.txt", "1 0.5 0.5 0.5 0.5")
    with pytest.raises(
        UsageError, match=r"choose one: fit --set data.labels=, .*\('labels_one' or 'labels_two'\)"
    ):
        read(make.root)
    splits = read(make.root, labels="labels_two")
    assert splits.labels.file_ids == (1,)
    assert splits.notes == ("label files from labels_two/",)
    with pytest.raises(
        UsageError, match=r"no folder 'labels' with .*\nfolders with text files: labels_one, lab"
    ):
        read(make.root, labels="labels")


def test_several_yaml_files_are_refused(two_splits):
    two_splits.text("a.yaml", YAML)
    two_splits.text("b.yml", YAML)
    with pytest.raises(UsageError, match=r"several yaml files: a\.yaml, b\.yml\ngive the one to read"):
        read(two_splits.root)
    assert read(two_splits.root / "b.yml").notes[0] == "classes and splits from b.yml"


def test_lists_of_images_tell_the_splits(make):
    for name in ("a", "b", "c"):
        make.image(f"obj/{name}.jpg")
        make.text(f"obj/{name}.txt", "0 0.5 0.5 1 1")
    make.text("train.txt", f"obj/a.jpg\n./obj/b.jpg\n{make.root}/obj/missing.jpg\n../obj/c.jpg\n\n")
    make.text("val.txt", "/content/darknet/data/obj/c.jpg\n")
    make.text("obj.names", "cat\n")
    splits = read(make.root)
    assert [splits.train.name(i) for i in range(len(splits.train))] == ["obj/a.jpg", "obj/b.jpg"]
    assert splits.val is not None
    assert splits.val.name(0) == "obj/c.jpg"
    assert names(splits.train.problems) == ["image-missing", "image-path-outside"]


def test_a_list_the_user_names_may_hold_absolute_paths(make):
    image = make.image("far/away/images/a.jpg")
    make.text("far/away/labels/a.txt", "0 0.5 0.5 1 1")
    listed = make.text("lists/train.txt", f"{image}\n")
    split = read(listed).train
    assert split.path(0) == image
    assert split.truth.boxes_xyxy.tolist() == [[0, 0, 64, 48]]


def test_an_image_without_label_file_is_a_negative_and_reported(make):
    for name in "ab":
        make.image(f"images/{name}.jpg")
    make.image("images/c.jpg")
    make.text("labels/a.txt", "0 0.5 0.5 1 1")
    make.text("labels/c.txt", "")
    make.text("labels/x.txt", "0 0.5 0.5 1 1")
    split = read(make.root).train
    assert np.diff(split.truth.offsets).tolist() == [1, 0, 0]
    assert [(found.name, found.file) for found in split.problems] == [
        ("image-without-label-file", "images/b.jpg"),
        ("annotation-without-image", "labels/x.txt"),
    ]


def test_faulty_rows_are_named_and_left_out(make):
    make.image("images/a.jpg")
    rows = [
        "0 0.5 0.5 1 1",
        "9 0.5 0.5 1 1",
        "0 0.5 0.5 1",
        "x 1 1 1 1",
        "0.5 0.5 0.5 1 1",
        "0 320 240 60 60",
    ]
    rows += ["0 nan 0.5 1 1", "0 0.5 0.5 0 1", "0 0.5 0.5 -0.1 1", "0 1.5 0.5 0.1 0.1", "0 1 0.5 0.5 1"]
    make.text("labels/a.txt", "\n".join(rows))
    make.text("data.yaml", "train: images\nnames: [cat]\n")
    split = read(make.root).train
    assert split.truth.boxes_xyxy.tolist() == [[0, 0, 64, 48], [48, 0, 64, 48]]
    assert names(split.problems) == ["unreadable-row"] * 4 + [
        "unknown-label",
        "non-finite-box",
        "inverted-box",
        "zero-area-box",
        "outside-box",
        "clipped-box",
    ]
    details = [found.detail for found in split.problems]
    assert details[0] == "line 3: it has 4 fields, where 5 (a box) or 7, 9, 11... (a polygon) are wanted"
    assert details[3] == "line 6: its numbers go to 320, where shares of the image's size (0-1) are wanted"
    assert details[4] == "line 2: class 9 is none of 0 to 0"


def test_polygons_and_key_points_keep_their_box(make):
    make.image("images/a.jpg")
    make.text("labels/a.txt", "0 0.25 0.25 0.75 0.5 0.5 1\n")
    assert read(make.root).train.truth.boxes_xyxy.tolist() == [[16, 12, 48, 48]]
    make.text("labels/a.txt", "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 2\n")
    make.text("data.yaml", "train: images\nnames: [cat]\nkpt_shape: [2, 3]\n")
    assert read(make.root).train.truth.boxes_xyxy.tolist() == [[16, 12, 48, 36]]


def test_binary_label_files_cost_one_image(make):
    make.image("images/a.jpg")
    make.image("images/b.jpg")
    make.text("labels/a.txt", "0 0.5 0.5 1 1")
    (make.root / "labels/b.txt").write_bytes(b"\xff\xfe\x00\xd8")
    split = read(make.root).train
    assert len(split) == 1
    assert names(split.problems) == ["annotation-unreadable"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: 3\ntrain: images\n", "names is a int that is neither a list of names nor a mapping"),
        ("names: {a: 3}\ntrain: images\n", "names is a dict that is neither"),
        ("names: [[]]\ntrain: images\n", "names is a list that is neither"),
        ("names: [cat]\ntrain: {a: 1}\n", "train is a path or a list of paths, got a dict"),
        ("names: [cat]\n", "its splits have no image"),
    ],
)
def test_a_malformed_yaml_is_refused(make, content, message):
    make.image("images/a.jpg")
    make.text("labels/a.txt", "0 0.5 0.5 1 1")
    make.text("data.yaml", content)
    with pytest.raises(DataError, match=message):
        read(make.root)


def test_yaml_runs_no_code(make):
    make.image("images/a.jpg")
    make.text("data.yaml", "names: !!python/object/apply:os.system ['touch hacked']\ntrain: images\n")
    with pytest.raises(UsageError, match="holds no data set"):
        read(make.root)


def test_sizes_are_those_after_the_exif_rotation(make):
    make.image("images/a.jpg", orientation=6)
    make.text("labels/a.txt", "0 0.5 0.5 1 1")
    split = read(make.root).train
    assert split.truth.boxes_xyxy.tolist() == [[0, 0, 48, 64]]
    assert split[0].image.shape == (64, 48, 3)


def test_shares_need_the_images(make):
    make.image("images/a.jpg")
    make.text("labels/a.txt", "0 0.5 0.5 1 1")
    with pytest.raises(DataError, match='need the images, which check="none" leaves alone'):
        read(make.root, check="none")


def test_coco128_has_its_known_faults_and_the_boxes_of_its_json(shared_data):
    path = shared_data / "coco128" / "classes_object_detection.yaml"
    splits = read(path, labels="labels_det")
    assert [(split.split, len(split), len(split.truth.labels)) for split in splits.given] == [
        ("train", 128, 929),
        ("val", 128, 898),
    ]
    assert (
        sorted(names(splits.problems)) == ["annotation-without-image"] * 2 + ["image-without-label-file"] * 2
    )
    of_json = read(shared_data / "coco128", format="coco").train
    assert of_json.labels.names == splits.labels.names
    place = {of_json.name(i): i for i in range(len(of_json))}
    for i in range(len(splits.train)):
        rows, own = of_json.truth.rows(place[splits.train.name(i)]), splits.train.truth.rows(i)
        plain = ~of_json.truth.crowd[rows]
        wanted = np.sort(of_json.truth.boxes_xyxy[rows][plain], axis=0)
        np.testing.assert_allclose(np.sort(splits.train.truth.boxes_xyxy[own], axis=0), wanted, atol=0.02)


def test_coco128_polygons_become_boxes(shared_data):
    splits = read(shared_data / "coco128" / "classes_instance_segmentation.yaml", labels="labels_inst")
    assert len(splits.train.truth.labels) == 746
    assert splits.labels.file_ids[-1] == 90
