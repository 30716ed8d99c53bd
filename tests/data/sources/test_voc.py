import numpy as np
import pytest

from trivet.data.sources import read_dataset
from trivet.errors import DataError


def read(path, **options):
    return read_dataset(path, val_share=0.0, **options)


def names(problems):
    return [found.name for found in problems]


def test_pixels_count_from_one_and_include_the_last(make):
    make.image("a.jpg")
    make.voc("a.xml", ("cat", 1, 1, 64, 48), ("dog", 11, 21, 30, 40))
    splits = read(make.root)
    assert splits.train.truth.boxes_xyxy.tolist() == [[0, 0, 64, 48], [10, 20, 30, 40]]
    assert splits.notes == ("boxes count pixels from 1 and include the last",)
    assert splits.labels.names == splits.labels.file_ids == ("cat", "dog")


def test_files_that_count_from_zero_are_told_by_their_boxes(make):
    make.image("a.jpg")
    make.voc("a.xml", ("cat", 0, 0, 64, 48), ("cat", 1, 20, 30, 40))
    splits = read(make.root)
    assert splits.train.truth.boxes_xyxy.tolist() == [[0, 0, 64, 48], [1, 20, 30, 40]]
    assert splits.notes == ("boxes count pixels from 0 and exclude the last",)


def test_difficult_objects_are_crowd(make):
    make.image("a.jpg")
    make.voc("a.xml", ("cat", 1, 1, 9, 9, 1), ("cat", 1, 1, 9, 9))
    assert read(make.root).train.truth.crowd.tolist() == [True, False]


def test_image_sets_tell_the_splits(make):
    for name in "abcd":
        make.image(f"JPEGImages/{name}.jpg")
        make.voc(f"Annotations/{name}.xml", ("cat", 1, 1, 9, 9))
    for split, listed in (("train", "a\n"), ("val", "b  1\n\n"), ("trainval", "a\nb\n"), ("test", "d\nx\n")):
        make.text(f"ImageSets/Main/{split}.txt", listed)
    make.text("ImageSets/Main/cat_train.txt", "a 1\nb -1\n")
    splits = read(make.root)
    assert [[split.name(i) for i in range(len(split))] for split in splits.given] == [
        ["JPEGImages/a.jpg"],
        ["JPEGImages/b.jpg"],
        ["JPEGImages/d.jpg"],
    ]
    assert [(found.name, found.file) for found in splits.problems] == [
        ("image-without-annotation", "JPEGImages/c.jpg"),
        ("image-without-annotation", "x"),
    ]


def test_trainval_alone_is_divided(make):
    for name in "abcdefghij":
        make.image(f"JPEGImages/{name}.jpg")
        make.voc(f"Annotations/{name}.xml", ("cat", 1, 1, 9, 9))
    make.text("ImageSets/Main/trainval.txt", "\n".join("abcdefghij"))
    splits = read_dataset(make.root)
    assert (len(splits.train), len(splits.val)) == (8, 2)
    assert splits.made == "val: 2 of 10 training images, stratified by class, seed 0"


@pytest.mark.parametrize(
    ("xml", "image"),
    [("train/a.xml", "train/a.jpg"), ("annotations/a.xml", "images/a.png"), ("a.xml", "a.JPG")],
)
def test_the_image_is_found_by_the_files_own_name(make, xml, image):
    path = make.image(image.lower())
    path.rename(make.root / image)
    make.voc(xml, ("cat", 1, 1, 9, 9), filename="left_from_elsewhere.jpg")
    assert read(make.root).train.name(0) == image


def test_the_image_is_found_by_the_name_in_the_file(make):
    make.image("images/b.jpg")
    make.voc("annotations/a.xml", ("cat", 1, 1, 9, 9), filename="b.jpg")
    assert read(make.root).train.name(0) == "images/b.jpg"


def test_an_image_without_objects_is_a_negative(make):
    make.image("a.jpg")
    make.image("b.jpg")
    make.voc("a.xml", ("cat", 1, 1, 9, 9))
    make.voc("b.xml")
    split = read(make.root).train
    assert np.diff(split.truth.offsets).tolist() == [1, 0]
    assert split[1].boxes_xyxy.shape == (0, 4)


def test_a_size_that_is_not_told_is_the_files(make):
    make.image("a.jpg")
    make.voc("a.xml", ("cat", 1, 1, 9, 9), size=(0, 0))
    assert read(make.root).train.truth.sizes_hw.tolist() == [[48, 64]]
    assert read(make.root, check="names").train.truth.sizes_hw.tolist() == [[48, 64]]


def test_faulty_objects_are_named_and_left_out(make):
    make.image("a.jpg")
    make.voc(
        "a.xml",
        ("cat", 1, 1, 9, 9),
        ("cat", 5, 5, 5, 5),
        ("cat", 9, 5, 5, 9),
        ("", 1, 1, 5, 5),
        ("cat", "x", 1, 5, 5),
        ("cat", "nan", 1, 5, 5),
        ("cat", 60, 1, 66, 5),
    )
    split = read(make.root).train
    assert split.truth.boxes_xyxy.tolist() == [[0, 0, 9, 9], [59, 0, 64, 5]]
    assert names(split.problems) == ["unreadable-row"] * 2 + [
        "non-finite-box",
        "inverted-box",
        "zero-area-box",
        "clipped-box",
    ]
    assert split.problems[4].detail == "object 2: (5, 5, 5, 5) in a.jpg, 64 x 48"


def test_an_object_without_box_is_named(make):
    make.image("a.jpg")
    make.voc("a.xml", ("cat", 1, 1, 9, 9))
    make.image("b.jpg")
    make.text("b.xml", "<annotation><object><name>cat</name></object></annotation>")
    problems = read(make.root).train.problems
    assert problems[0].detail == "object 1: 'cat' has no <bndbox> with xmin, ymin, xmax, ymax"


BOMB = (
    '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><annotation><filename>&i;</filename></annotation>"
)
OUTSIDE = '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>'


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (BOMB, "it declares a document type ('annotation'), which no VOC file needs"),
        (OUTSIDE, "it declares a document type ('annotation'), which no VOC file needs"),
        ("<annotation><object>", "no element found"),
        ("<boxes/>", "its root is <boxes>, where <annotation> is wanted"),
        ("", "no element found"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "unknown encoding"),
    ],
)
def test_hostile_and_broken_xml_is_named_and_costs_one_image(make, content, detail):
    make.image("a.jpg")
    make.voc("a.xml", ("cat", 1, 1, 9, 9))
    make.image("b.jpg")
    make.text("b.xml", content)
    split = read(make.root).train
    assert len(split) == 1
    found = next(found for found in split.problems if found.name == "annotation-unreadable")
    assert found.file == "b.xml"
    assert detail in found.detail


def test_a_document_type_in_another_encoding_is_found_too(make):
    make.image("a.jpg")
    make.voc("a.xml", ("cat", 1, 1, 9, 9))
    make.image("b.jpg")
    (make.root / "b.xml").write_bytes(('<?xml version="1.0" encoding="utf-16"?>' + BOMB).encode("utf-16"))
    assert names(read(make.root).train.problems)[0] == "annotation-unreadable"


@pytest.mark.parametrize("name", ["../../outside.jpg", "/etc/outside.jpg"])
def test_a_name_that_leaves_the_folder_is_not_followed(make, name):
    make.image("outside.jpg")
    make.image("set/a.jpg")
    make.voc("set/a.xml", ("cat", 1, 1, 9, 9))
    make.voc("set/b.xml", ("cat", 1, 1, 9, 9), filename=name)
    split = read(make.root / "set").train
    assert len(split) == 1
    assert names(split.problems) == ["annotation-without-image"]


def test_without_any_object_there_is_nothing_to_learn(make):
    make.image("a.jpg")
    make.voc("a.xml")
    with pytest.raises(DataError, match="its 1 XML files hold no object"):
        read(make.root)


def test_bccd_is_read_with_its_two_faults(shared_data):
    splits = read_dataset(shared_data / "bccd")
    assert [(split.split, len(split)) for split in splits.given] == [
        ("train", 205),
        ("val", 87),
        ("test", 72),
    ]
    labels = np.concatenate([split.truth.labels for split in splits.given])
    assert dict(zip(splits.labels.names, np.bincount(labels).tolist(), strict=True)) == {
        "Platelets": 361,
        "RBC": 4155 - 2,
        "WBC": 372,
    }
    assert [(found.name, found.file) for found in splits.problems] == [
        ("zero-area-box", "Annotations/BloodImage_00343.xml"),
        ("zero-area-box", "Annotations/BloodImage_00338.xml"),
    ]
    assert splits.made is None
    assert splits.notes == ("boxes count pixels from 1 and include the last",)
    boxes = np.concatenate([split.truth.boxes_xyxy for split in splits.given])
    assert boxes.min() == 0
    assert boxes.max(axis=0).tolist()[2:] == [640, 480]
    assert splits.train[0].image.shape == (480, 640, 3)
    assert all(found in splits.train.problems for found in splits.problems[:1])


def test_strict_reading_of_bccd_names_both_faults(shared_data):
    with pytest.raises(DataError, match=r"has 2 faults:\n  zero-area-box: Annotations/BloodImage_00343"):
        read_dataset(shared_data / "bccd", on_bad="error")
