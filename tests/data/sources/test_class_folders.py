import pytest

from trivet.data.sources import read_dataset
from trivet.errors import UsageError


def written(make, *names):
    for name in names:
        make.image(name)
    return make.root


def truth(split):
    return [(split.name(i), split.labels.names[split.class_labels[i]]) for i in range(len(split))]


def test_folders_are_classes(make):
    root = written(make, "cat/a.jpg", "dog/b.jpg", "dog/deeper/c.jpg")
    splits = read_dataset(root, val_share=0.0)
    assert (splits.format, splits.task, splits.labels.names) == (
        "class-folders",
        "classification",
        ("cat", "dog"),
    )
    assert truth(splits.train) == [("cat/a.jpg", "cat"), ("dog/b.jpg", "dog"), ("dog/deeper/c.jpg", "dog")]
    assert splits.train[1].class_label == 1
    assert splits.train.truth.sizes_hw.tolist() == [[48, 64]] * 3


def test_folders_of_splits_and_of_an_archive_above_them(make):
    root = written(
        make, "pets/train/cat/a.jpg", "pets/train/dog/b.jpg", "pets/valid/dog/c.jpg", "pets/test/cat/d.jpg"
    )
    splits = read_dataset(root)
    assert [truth(split) for split in splits.given] == [
        [("pets/train/cat/a.jpg", "cat"), ("pets/train/dog/b.jpg", "dog")],
        [("pets/valid/dog/c.jpg", "dog")],
        [("pets/test/cat/d.jpg", "cat")],
    ]


def test_numbers_are_in_their_order(make):
    assert read_dataset(written(make, "10/a.jpg", "9/b.jpg"), val_share=0.0).labels.names == ("9", "10")


def test_a_class_of_one_split_alone_keeps_its_number(make):
    root = written(make, "train/b/1.jpg", "train/c/2.jpg", "val/a/3.jpg")
    splits = read_dataset(root)
    assert splits.labels.names == ("a", "b", "c")
    assert truth(splits.val) == [("val/a/3.jpg", "a")]


def test_what_is_faulty_is_named(make):
    root = written(make, "cat/a.jpg", "dog/b.jpg", "loose.jpg", "dog/c.jpg")
    (root / "dog/c.jpg").write_bytes(b"nonsense")
    splits = read_dataset(root, val_share=0.0)
    assert len(splits.train) == 2
    assert [(found.name, found.file) for found in splits.problems] == [
        ("image-without-class", "loose.jpg"),
        ("image-unreadable", "dog/c.jpg"),
    ]


@pytest.mark.parametrize("names", [["cat/a.jpg"], ["images/a.jpg", "masks/a.jpg"], ["a.jpg", "b.jpg"]])
def test_other_folders_are_no_classes(make, names):
    with pytest.raises(UsageError):
        read_dataset(written(make, *names), task="classification")


def test_other_formats_come_first(make):
    root = written(make, "train/a.jpg", "val/b.jpg", "cat/c.jpg", "dog/d.jpg")
    make.text("boxes.csv", "train/a.jpg,8,12,24,36,cat\n")
    assert read_dataset(root, val_share=0.0).format == "csv"
    assert read_dataset(root, task="classification", val_share=0.0).format == "class-folders"
