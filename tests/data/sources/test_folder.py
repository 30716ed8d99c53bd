import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.data.sources.folder import Folder, clean_name, split_of, stem_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017.json", "val"),
        ("annotations/TRAIN.json", "train"),
        ("valid/_annotations.coco.json", "val"),
        ("train/test.csv", "test"),
        ("trainval.txt", "trainval"),
        ("trains/strain.json", None),
        ("a.json", None),
        ("", None),
    ],
)
def test_the_split_is_told_by_whole_words_the_files_first(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("name", "near", "clean"),
    [
        ("a/./b//c.jpg", "", "a/b/c.jpg"),
        ("../images/a.jpg", "annotations", "images/a.jpg"),
        ("a\\b.jpg", "", "a/b.jpg"),
        (" a.jpg ", "x", "x/a.jpg"),
        ("../a.jpg", "", None),
        ("/a.jpg", "x", None),
        ("C:\\a.jpg", "", None),
        ("a\0.jpg", "", None),
        ("", "", None),
        ("..", "x/y/../..", None),
    ],
)
def test_names_are_normalised_and_kept_inside(name, near, clean):
    assert clean_name(name, near=near) == clean


@given(st.text(alphabet="./\\ab:C \0", max_size=20), st.sampled_from(["", "x", "x/y"]))
def test_no_name_ever_leaves_the_folder(name, near):
    clean = clean_name(name, near=near)
    assert clean is None or (clean.split("/")[0] not in ("", "..") and "\0" not in clean)


def test_the_stem_is_the_last_part_without_suffix():
    assert stem_of("a.b/c.d.jpg") == "c.d"


@pytest.mark.parametrize(
    ("path", "root", "file"),
    [
        ("set/a.json", "set", "a.json"),
        ("set/annotations/a.json", "set", "annotations/a.json"),
        ("set", "set", None),
    ],
)
def test_a_file_in_an_annotation_folder_belongs_to_the_folder_above(make, path, root, file):
    make.text("set/a.json", "")
    make.text("set/annotations/a.json", "")
    folder = Folder.at(make.root / path)
    assert (folder.root, folder.file) == (make.root / root, file)


def test_the_folder_is_described_by_its_suffixes(make):
    for name in ("a.jpg", "b.JPG", "c.txt", "LICENSE"):
        make.text(name, "")
    assert Folder(make.root).in_words() == "2 .jpg, 1 no suffix, 1 .txt"
    assert list(Folder(make.root).images) == ["a.jpg", "b.JPG"]
