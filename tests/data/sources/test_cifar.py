import json

import numpy as np
import pytest

from tests.data.tiny_cifar import CLASSES, write_mosaics
from trivet.data.sources import read_dataset
from trivet.errors import DataError


def test_tiles_names_and_labels_belong_together(tmp_path):
    images = write_mosaics(tmp_path)
    splits = read_dataset(tmp_path, val_share=0.0)
    assert (splits.format, splits.task, splits.labels.names) == ("cifar", "classification", CLASSES)
    for split, word in ((splits.train, "train"), (splits.test, "test")):
        assert len(split) == len(images[word])
        for i in range(len(split)):
            sample = split[i]
            assert (sample.image == images[word][i]).all()
            assert (sample.class_label, sample.name) == (i % 3, f"{word}/{word[0]}{i}.png")


def test_a_validation_share_is_held_back_by_class(tmp_path):
    images = write_mosaics(tmp_path)
    splits = read_dataset(tmp_path, val_share=1 / 3, seed=4)
    assert np.bincount(splits.train.class_labels).tolist() == [4, 4, 4]
    assert np.bincount(splits.val.class_labels).tolist() == [2, 2, 2]
    for split in (splits.train, splits.val):
        for i in range(len(split)):
            number = int(split.name(i).removeprefix("train/t").removesuffix(".png"))
            assert (split.image(i) == images["train"][number]).all()
    again = read_dataset(tmp_path, val_share=1 / 3, seed=4)
    assert [again.val.name(i) for i in range(6)] == [splits.val.name(i) for i in range(6)]


def change_meta(folder, change):
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(tile=0), "needs 'tile' of at least 1, got 0"),
        (lambda m: m.update(tile=4), "the mosaic is 40 x 16 pixels, its tiles need 20 x 8"),
        (lambda m: m["splits"]["test"].update(n=11), "11 whole numbers are wanted, got \\(10,\\)"),
        (lambda m: m.update(classes=["cat"]), "labels are from 0 to 0, got 0 to 2"),
        (
            lambda m: m["splits"]["train"].update(files=["../x.webp"]),
            "'../x.webp' leaves the data set's folder",
        ),
        (lambda m: m["splits"]["train"].update(files=["gone.webp"]), "gone.webp"),
        (lambda m: m["splits"]["train"].update(files=["train_00.webp"]), "cannot hold 18 images"),
        (lambda m: m["splits"]["train"].pop("labels"), "split 'train' needs 'labels' as str"),
        (
            lambda m: m["splits"]["train"].update(names="test_names.txt"),
            "18 different names are wanted, got 10",
        ),
    ],
)
def test_a_meta_file_that_does_not_fit_is_refused(tmp_path, change, message):
    write_mosaics(tmp_path)
    change_meta(tmp_path, change)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path)


def test_labels_are_never_unpickled(tmp_path):
    write_mosaics(tmp_path)
    np.save(tmp_path / "train_labels.npy", np.array([{"a": 1}] * 18, dtype=object))
    with pytest.raises(DataError, match="labels cannot be read"):
        read_dataset(tmp_path)


def test_other_pixels_than_the_hash_says_are_refused(tmp_path):
    write_mosaics(tmp_path)
    change_meta(tmp_path, lambda m: m["splits"]["train"].update(sha256_pixels="0" * 64))
    with pytest.raises(
        DataError, match=r"not those that meta\.json tells the hash of\ncopy the data set again"
    ):
        read_dataset(tmp_path).train.image(0)


def test_changed_mosaics_are_decoded_anew(tmp_path):
    write_mosaics(tmp_path)
    before = read_dataset(tmp_path, val_share=0.0).train.image(0)
    images = write_mosaics(tmp_path, counts={"test": 10, "train": 18})
    after = read_dataset(tmp_path, val_share=0.0).train.image(0)
    assert (after == images["train"][0]).all()
    assert (after != before).any()


def test_real_cifar(shared_data):
    splits = read_dataset(shared_data / "cifar10", check="none", val_share=0.1)
    assert [len(split) for split in splits.given] == [45_000, 5_000, 10_000]
    assert np.bincount(splits.train.class_labels).tolist() == [4_500] * 10
    assert splits.labels.names[3] == "cat"
