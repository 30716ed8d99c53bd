from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.data.dataset import Dataset, Names, Splits
from trivet.data.sources import read_dataset
from trivet.data.splits import divide, group_of, named_splits
from trivet.errors import DataError, UsageError
from trivet.structures import LabelMap, TruthTable


def dataset_of(labels, names=None, classes=4):
    """A data set whose image i shows the classes `labels[i]`."""
    counts = [len(own) for own in labels]
    flat = np.array([label for own in labels for label in own], np.int64)
    truth = TruthTable(
        np.arange(len(labels)),
        np.full((len(labels), 2), 100, np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.tile(np.array([[0, 0, 9, 9]], np.float32), (len(flat), 1)),
        flat,
        np.zeros(len(flat), bool),
        np.full(len(flat), 81, np.float32),
    )
    names = names or [f"{i}.jpg" for i in range(len(labels))]
    return Dataset(
        Path("/x"), "train", LabelMap.from_names([f"c{i}" for i in range(classes)]), truth, Names.of(names)
    )


def presence(dataset):
    table = np.zeros((len(dataset), len(dataset.labels) + 1), int)
    for i in range(len(dataset)):
        table[i, dataset.truth.labels[dataset.truth.rows(i)]] = 1
    table[:, -1] = table.sum(axis=1) == 0
    return table


images = st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=5, max_size=60)


@given(images, st.integers(0, 5))
def test_every_image_is_in_one_part_and_the_seed_decides(labels, seed):
    dataset = dataset_of(labels)
    part = divide(dataset, [0.5, 0.3, 0.2], seed=seed)
    assert part.shape == (len(labels),)
    assert set(part.tolist()) <= {0, 1, 2}
    np.testing.assert_array_equal(part, divide(dataset, [0.5, 0.3, 0.2], seed=seed))


@settings(max_examples=50)
@given(st.lists(st.integers(-1, 3), min_size=10, max_size=80), st.integers(0, 5))
def test_with_one_class_an_image_every_share_is_met_within_one(classes, seed):
    dataset = dataset_of([[] if c < 0 else [c] for c in classes])
    part = divide(dataset, [0.8, 0.2], seed=seed)
    table = presence(dataset)
    for part_number, share in enumerate([0.8, 0.2]):
        got = table[part == part_number].sum(axis=0)
        assert (np.abs(got - share * table.sum(axis=0)) <= 1).all()


def test_a_class_of_two_images_is_in_both_parts():
    labels = [[0, 1] for _ in range(50)] + [[0, 2], [1, 2]] + [[] for _ in range(10)]
    part = divide(dataset_of(labels), [0.5, 0.5], seed=0)
    assert sorted(part[50:52].tolist()) == [0, 1]


def test_groups_stay_together():
    rng = np.random.default_rng(0)
    names = [f"scene{i % 17:02d}_{i:03d}.jpg" for i in range(170)]
    dataset = dataset_of([rng.integers(0, 4, rng.integers(0, 6)).tolist() for _ in names], names)
    for groups in (r"(scene\d+)", r"scene\d+", lambda name: name.split("_")[0]):
        part = divide(dataset, [0.8, 0.2], seed=0, groups=groups)
        for scene in range(17):
            assert (
                len({int(p) for p, n in zip(part, names, strict=True) if n.startswith(f"scene{scene:02d}")})
                == 1
            )
        assert 20 <= (part == 1).sum() <= 50


def test_a_groups_name_is_the_first_group_or_the_match_or_the_whole_name():
    assert group_of("a12_3.jpg", r"a(\d+)") == "12"
    assert group_of("a12_3.jpg", r"a\d+") == "a12"
    assert group_of("b.jpg", r"a\d+") == "b.jpg"
    assert group_of("b.jpg", len) == "5"


def test_too_few_groups_and_a_broken_expression_are_refused():
    dataset = dataset_of([[0], [1]])
    with pytest.raises(UsageError, match="2 images in 1 groups cannot be divided into 2 parts"):
        divide(dataset, [0.5, 0.5], seed=0, groups=lambda name: "one")
    with pytest.raises(UsageError, match=r"groups='\(' is no regular expression: missing \)"):
        divide(dataset, [0.5, 0.5], seed=0, groups="(")


def given_splits(dataset):
    return Splits("coco", dataset.labels, dataset, None, None)


def names_of(by_name, *, val_share=0.0):
    dataset = next(iter(by_name.values()))
    splits = named_splits(given_splits(dataset), by_name, val_share=val_share, seed=0, groups=None)
    return splits, {split.split: len(split) for split in splits.given}


def sized(count):
    return dataset_of([[0]] * count)


@pytest.mark.parametrize(
    ("sizes", "wanted", "made", "notes"),
    [
        ({"train": 5, "val": 2, "test": 1}, {"train": 5, "val": 2, "test": 1}, None, 0),
        ({"train": 5, "test": 1}, {"train": 4, "val": 1, "test": 1}, "val: 1 of 5 training images", 0),
        ({None: 5}, {"train": 4, "val": 1}, "val: 1 of 5 training images", 0),
        ({"test": 5}, {"train": 4, "val": 1}, "the only split, test, was taken as train; val: 1 of 5", 0),
        ({None: 5, "val": 2}, {"train": 5, "val": 2}, None, 0),
        ({"trainval": 5, "test": 2}, {"train": 4, "val": 1, "test": 2}, "val: 1 of 5", 0),
        ({None: 5, "train": 3, "val": 2}, {"train": 3, "val": 2}, None, 1),
        ({"train": 3, "val": 2, "trainval": 5}, {"train": 3, "val": 2}, None, 1),
    ],
)
def test_splits_are_taken_as_given_and_made_where_they_are_not(sizes, wanted, made, notes):
    by_name = {
        name: Dataset(d.root, str(name), d.labels, d.truth, d.names)
        for name, d in ((n, sized(s)) for n, s in sizes.items())
    }
    splits, got = names_of(by_name, val_share=0.2)
    assert got == wanted
    assert (splits.made or "").startswith(made or "")
    assert (splits.made is None) == (made is None)
    assert len(splits.notes) == notes


def test_no_validation_split_is_made_when_none_is_wanted():
    assert names_of({"train": sized(5)})[1] == {"train": 5}


def test_without_training_images_there_is_an_error():
    with pytest.raises(UsageError, match="no training split, only: val, test"):
        names_of({"val": sized(2), "test": sized(2)})
    with pytest.raises(DataError, match="no image of the training split can be used"):
        names_of({"train": sized(0), "val": sized(2)})


def test_real_annotations_are_divided_as_asked(shared_data):
    path = shared_data / "trash_annotations" / "recycle_trash_train.json"
    splits = read_dataset(path, check="none")
    train, val = presence(splits.train).sum(axis=0), presence(splits.val).sum(axis=0)
    share = val / np.maximum(train + val, 1)
    assert abs(len(splits.val) / 4883 - 0.2) < 0.01
    assert (np.abs(share[train + val > 50] - 0.2) < 0.02).all()
    assert splits.made == f"val: {len(splits.val)} of 4883 training images, stratified by class, seed 0"
    again = read_dataset(path, check="none")
    assert [again.val.name(i) for i in range(9)] == [splits.val.name(i) for i in range(9)]
