import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trivet.data.dataset import Dataset, Names, Splits
from trivet.data.problems import problem
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap, TruthTable


@pytest.fixture
def dataset(tmp_path):
    """Three images: one with two boxes, one without, one with a crowd region and a size that is not known."""
    for i, size in enumerate([(64, 48), (32, 16), (20, 10)]):
        Image.new("RGB", size, (i, 0, 0)).save(tmp_path / f"{i}.png")
    truth = TruthTable(
        np.array([7, 8, 9]),
        np.array([[48, 64], [16, 32], [0, 0]], np.int32),
        np.array([0, 2, 2, 3]),
        np.array([[0, 0, 9, 9], [1, 2, 3, 4], [0, 0, 20, 10]], np.float32),
        np.array([1, 0, 1]),
        np.array([False, False, True]),
        np.array([81, 4, 200], np.float32),
    )
    faults = (problem("clipped-box", "a", "b"),)
    return Dataset(
        tmp_path,
        "train",
        LabelMap.from_names(["a", "b"]),
        truth,
        Names.of(["0.png", "1.png", "2.png"]),
        faults,
    )


@given(st.lists(st.text()))
def test_names_come_back_as_they_were(strings):
    strings = [string.encode("utf-8", "replace").decode() for string in strings]
    names = Names.of(strings)
    assert [names[i] for i in range(len(names))] == strings


def test_names_that_are_no_utf8_come_back_too():
    assert Names.of(["caf\udce9.jpg"])[0] == "caf\udce9.jpg"


def test_an_item_is_the_image_with_its_boxes(dataset):
    sample = dataset[0]
    assert sample.image.shape == (48, 64, 3)
    assert sample.boxes_xyxy.tolist() == [[0, 0, 9, 9], [1, 2, 3, 4]]
    assert sample.labels.tolist() == [1, 0]
    assert (sample.image_id, sample.name) == (7, "0.png")
    assert sample.placement.original_hw == (48, 64)
    assert dataset[1].boxes_xyxy.shape == (0, 4)
    assert dataset[2].crowd.tolist() == [True]
    assert dataset[-1].image_id == 9


def test_an_item_can_be_written_without_touching_the_data_set(dataset):
    dataset[0].boxes_xyxy[:] = -1
    dataset[0].labels[:] = -1
    assert dataset[0].boxes_xyxy.max() == 9
    assert dataset[0].labels.max() == 1


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_an_index_error(dataset, index):
    with pytest.raises(IndexError, match=f"image {index} of a split of 3 images"):
        dataset[index]


def test_iterating_ends(dataset):
    assert [sample.image_id for sample in dataset] == [7, 8, 9]


def test_a_selection_keeps_the_order_given(dataset):
    taken = dataset.take([2, 0], split="val")
    assert taken.split == "val"
    assert [taken.name(i) for i in range(2)] == ["2.png", "0.png"]
    assert taken.truth.boxes_xyxy.tolist() == [[0, 0, 20, 10], [0, 0, 9, 9], [1, 2, 3, 4]]
    assert taken.problems == dataset.problems
    assert len(dataset.take([])) == 0


def test_a_changed_image_is_named(dataset):
    Image.new("RGB", (65, 48)).save(dataset.path(0))
    with pytest.raises(DataError, match=r"0\.png: the image is 65 x 48 pixels, its annotation says 64 x 48"):
        dataset[0]


def test_boxes_on_the_pixels_as_stored_get_them(dataset):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(dataset.path(0), exif=exif)
    assert dataset[0].image.shape == (48, 64, 3)
    Image.new("RGB", (48, 64)).save(dataset.path(0), exif=exif)
    assert dataset[0].image.shape == (48, 64, 3)
    Image.new("RGB", (48, 64)).save(dataset.path(0))
    with pytest.raises(DataError, match="the image is 48 x 64 pixels"):
        dataset[0]


def test_it_survives_pickling(dataset):
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[0].image, dataset[0].image)


def test_names_and_truth_have_to_agree(dataset):
    with pytest.raises(UsageError, match="got 1 names for 3 images"):
        Dataset(dataset.root, "train", dataset.labels, dataset.truth, Names.of(["a"]))


def test_splits_join_the_problems_of_all(dataset):
    val = dataset.take([0], split="val")
    splits = Splits("coco", dataset.labels, dataset, val, None)
    assert splits.given == (dataset, val)
    assert splits.problems == dataset.problems
