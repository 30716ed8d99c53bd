import pytest

from trivet.data.sources import read_dataset
from trivet.errors import DataError


@pytest.fixture
def root(make):
    for name in ("a.jpg", "b.jpg", "images/c.jpg"):
        make.image(name)
    return make.root


def truth(split):
    return [(split.name(i), split.labels.names[split.class_labels[i]]) for i in range(len(split))]


@pytest.mark.parametrize(
    "table",
    [
        "image,label\na.jpg,dog\nb.jpg,cat\nc.jpg,dog\n",
        "id;target\na;dog\nb;cat\nc;dog\n",
        "Filename\tsize\tClass Name\na.jpg\t1\tdog\nb.jpg\t1\tcat\nimages/c.jpg\t1\tdog\n",
    ],
)
def test_columns_are_found_by_name(make, root, table):
    make.text("all.csv", table)
    splits = read_dataset(root, val_share=0.0)
    assert (splits.format, splits.task) == ("csv-classes", "classification")
    assert truth(splits.train) == [("a.jpg", "dog"), ("b.jpg", "cat"), ("images/c.jpg", "dog")]


def test_splits_by_file_and_by_column(make, root):
    make.text("train.csv", "image,label\na.jpg,x\n")
    make.text("val.csv", "image,label\nb.jpg,x\n")
    assert [truth(split) for split in read_dataset(root).given] == [[("a.jpg", "x")], [("b.jpg", "x")]]
    for name in ("train.csv", "val.csv"):
        (root / name).unlink()
    make.text("all.csv", "image,label,split\na.jpg,x,train\nb.jpg,x,valid\n")
    assert [truth(split) for split in read_dataset(root).given] == [[("a.jpg", "x")], [("b.jpg", "x")]]


def test_a_class_list_gives_the_numbers(make, root):
    make.text("classes.csv", "name,id\nzebra,0\nant,1\n")
    make.text("all.csv", "image,label\na.jpg,ant\nb.jpg,bee\n")
    splits = read_dataset(root, val_share=0.0)
    assert splits.labels.names == ("zebra", "ant")
    assert truth(splits.train) == [("a.jpg", "ant")]
    assert "image-of-unknown-class" in [found.name for found in splits.problems]


def test_what_is_faulty_is_named(make, root):
    make.text(
        "all.csv", "image,label\na.jpg,x\na.jpg,x\na.jpg,y\n../../etc/passwd,x\ngone.jpg,x\nb.jpg,\nc.jpg,y\n"
    )
    splits = read_dataset(root, val_share=0.0)
    assert truth(splits.train) == [("a.jpg", "x"), ("images/c.jpg", "y")]
    assert [found.name for found in splits.problems] == [
        "image-listed-twice",
        "image-of-two-classes",
        "image-path-outside",
        "image-missing",
        "image-without-class",
        "image-without-annotation",
    ]
    with pytest.raises(DataError, match=r"image-of-two-classes: a\.jpg: line 4 has 'y', line 2 'x'"):
        read_dataset(root, on_bad="error")


def test_no_class_at_all_is_an_error(make, root):
    make.text("all.csv", "image,label\na.jpg,\n")
    with pytest.raises(DataError, match="hold no class"):
        read_dataset(root)
