import pytest

from trivet.data.sources.folder import Folder
from trivet.data.sources.yolo_config import config_files, images_of, is_image_list, read_config
from trivet.errors import DataError


def test_only_yaml_files_with_names_count_as_configurations(make):
    make.text("data.yaml", "names: [cat]")
    make.text("other.yml", "steps: 3")
    make.text("broken.yaml", "names: [cat")
    make.text("list.yaml", "- names")
    make.text("deep/data.yaml", "names: [cat]")
    assert config_files(Folder(make.root)) == ["data.yaml"]


@pytest.mark.parametrize(
    ("text", "is_list"),
    [("a.jpg\n", True), ("\ufeff/x/a.PNG", True), ("0 0.5 0.5 1 1", False), ("", False), ("cat\ndog", False)],
)
def test_a_list_of_images_is_told_by_its_first_line(make, text, is_list):
    make.text("train.txt", text)
    assert is_image_list(Folder(make.root), "train.txt") is is_list
    assert not is_image_list(Folder(make.root), "missing.txt")


def test_an_entry_may_be_a_folder_a_list_or_several(make):
    for name in ("one/a.jpg", "two/deep/b.jpg", "three/c.jpg"):
        make.image(name)
    make.text("more.txt", "three/c.jpg\nmissing.jpg\n")
    config = images_of(Folder(make.root), {"train": ["one", "./two/"], "val": "more.txt", "test": "nowhere"})
    assert config.images == {"train": ["one/a.jpg", "two/deep/b.jpg"], "val": ["three/c.jpg"]}
    assert [found.name for found in config.problems["val"]] == ["image-missing"]
    assert config.notes == ("test: there is no image at nowhere",)


def test_a_folder_is_not_a_prefix_of_its_neighbour(make):
    make.image("train/a.jpg")
    make.image("train_more/b.jpg")
    assert images_of(Folder(make.root), {"train": "train"}).images == {"train": ["train/a.jpg"]}


def test_a_file_that_is_no_mapping_is_refused(make):
    make.text("data.yaml", "- a")
    with pytest.raises(DataError, match="it is no yaml mapping\nit needs names, train and val"):
        read_config(Folder(make.root), "data.yaml")
