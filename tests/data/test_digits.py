"""Drawn digits: exact truth, unseen handwriting, files that the ordinary reader reads."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tests.data.drawn_samples import bounds
from trivet.data.digits import FORMATS, NAMES, SPLITS, _handwriting, draw_digits, write_digits
from trivet.data.sources import read_dataset
from trivet.errors import UsageError

SEEDS = st.integers(0, 2**31)
SIZES = st.tuples(st.integers(64, 200), st.integers(64, 200))


def drawn(seed=0, *, size_hw=(160, 160), **arguments):
    return draw_digits(np.random.default_rng(seed), size_hw=size_hw, **arguments)


class TestDraw:
    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS, size_hw=SIZES, split=st.sampled_from(list(SPLITS)))
    def test_boxes_are_exact(self, seed, size_hw, split):
        image = drawn(seed, size_hw=size_hw, split=split)
        assert image.image.shape == (*size_hw, 3)
        assert image.image.dtype == np.uint8
        assert image.objects.max(initial=0) == len(image.labels) == len(image.boxes_xyxy)
        for number, box in enumerate(image.boxes_xyxy, start=1):
            np.testing.assert_array_equal(bounds(image.objects == number), box)

    @settings(max_examples=20, deadline=None)
    @given(seed=SEEDS)
    def test_mask_says_which_digit(self, seed):
        image = drawn(seed)
        assert ((image.mask == 0) == (image.objects == 0)).all()
        for number, label in enumerate(image.labels, start=1):
            assert set(image.mask[image.objects == number]) == {label + 1}

    def test_ink_stands_out(self):
        contrasts = []
        for image in map(drawn, range(60)):
            grey = cv2.cvtColor(image.image, cv2.COLOR_RGB2GRAY).astype(float)
            for number in range(1, len(image.labels) + 1):
                ink = image.objects == number
                ring = cv2.dilate(ink.astype(np.uint8), np.ones((9, 9))).astype(bool) & (image.objects == 0)
                contrasts.append(abs(grey[ink].mean() - grey[ring].mean()))
        assert np.quantile(contrasts, 0.02) > 40
        assert min(contrasts) > 10  # where another digit is near

    def test_empty_sparse_and_crowded_images(self):
        counts = np.array([len(drawn(seed).labels) for seed in range(300)])
        assert 0.04 < (counts == 0).mean() < 0.14
        assert 0.10 < (counts > 8).mean() < 0.25
        assert counts.max() >= 14

    def test_sizes_of_digits(self):
        heights = (
            np.concatenate([np.diff(drawn(seed).boxes_xyxy[:, [1, 3]])[:, 0] for seed in range(100)]) / 160
        )
        assert 0.05 < np.quantile(heights, 0.01) < 0.1
        assert 0.25 < np.quantile(heights, 0.99) < 0.4

    def test_light_on_dark_and_dark_on_light(self):
        lighter = []
        for seed in range(40):
            image = drawn(seed)
            grey = image.image.mean(axis=2)
            lighter += [
                grey[image.objects == n].mean() > grey.mean() for n in range(1, len(image.labels) + 1)
            ]
        assert 0.25 < np.mean(lighter) < 0.75

    def test_fewer_classes(self):
        assert {label for seed in range(40) for label in drawn(seed, classes=3).labels} == {0, 1, 2}

    @pytest.mark.parametrize("wrong", [{"classes": 0}, {"classes": 11}, {"size_hw": (63, 200)}])
    def test_what_is_refused(self, wrong):
        with pytest.raises(UsageError, match="1 to 10 classes on at least 64 x 64 pixels"):
            drawn(**wrong)

    def test_unknown_split(self):
        with pytest.raises(UsageError, match=r"unknown split 'trian'; did you mean 'train'\?"):
            drawn(split="trian")


def test_no_handwriting_is_in_two_splits():
    inks = {split: {ink.tobytes() for ink in _handwriting(split)[0]} for split in SPLITS}
    whole = load_digits()
    assert sum(len(_handwriting(split)[0]) for split in SPLITS) == len(whole.target)
    assert not inks["train"] & inks["val"]
    assert not inks["train"] & inks["test"]
    assert not inks["val"] & inks["test"]
    for split, share in SPLITS.items():
        counts = np.bincount(_handwriting(split)[1], minlength=10)
        assert counts.min() > 0.5 * share * len(whole.target) / 10


class TestWrite:
    def test_the_ordinary_reader_reads_it(self, tmp_path):
        splits = read_dataset(
            write_digits(tmp_path, images={"train": 8, "val": 3, "test": 4}, size_hw=(96, 128))
        )
        assert splits.format == "coco"
        assert splits.labels.names == NAMES
        assert [len(split) for split in splits.given] == [8, 3, 4]
        assert splits.problems == ()
        assert splits.made is None
        written = json.loads((tmp_path / "annotations" / "instances_train.json").read_text())
        assert len(written["annotations"]) == len(splits.train.truth.labels) > 8

    def test_masks_agree_with_boxes(self, tmp_path):
        train = read_dataset(write_digits(tmp_path, images=20, size_hw=(96, 128))).train
        seen = 0
        for index in range(len(train)):
            sample = train[index]
            stem = train.path(index).stem
            mask = cv2.imread(str(tmp_path / "masks" / "train" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
            assert mask.shape == sample.image.shape[:2]
            for (left, top, right, bottom), label in zip(
                sample.boxes_xyxy.astype(int), sample.labels, strict=True
            ):
                ink = mask[top:bottom, left:right] == label + 1
                assert ink[0].any()
                assert ink[-1].any()
                assert ink[:, 0].any()
                assert ink[:, -1].any()
                seen += 1
        assert seen > 20

    def test_sizes_vary_and_are_odd(self, tmp_path):
        train = read_dataset(write_digits(tmp_path, images=40, size_hw=(96, 128))).train
        others = [size for size in train.truth.sizes_hw.tolist() if size != [96, 128]]
        assert 2 <= len(others) < 20
        assert all(height % 2 and width % 2 for height, width in others)

    def test_same_seed_same_files(self, tmp_path):
        arguments = {"images": 6, "size_hw": (64, 64)}
        folders = [
            write_digits(tmp_path / str(i), seed=seed, **arguments) for i, seed in enumerate((0, 0, 1))
        ]
        files = [
            {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
            for folder in folders
        ]
        assert files[0] == files[1] != files[2]

    def test_shares(self, tmp_path):
        splits = read_dataset(write_digits(tmp_path, images=20, size_hw=(64, 64), classes=4))
        assert [len(split) for split in splits.given] == [14, 3, 3]
        assert len(splits.labels) == 4

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"images": 2}, "at least as many images, got images=2"),
            ({"images": {"trian": 4}}, r"unknown split 'trian'; did you mean 'train'\?"),
            (
                {"images": 6, "format": "cocoa"},
                r"unknown format of the digits data set 'cocoa'; did you mean 'coco'\?",
            ),
        ],
    )
    def test_what_is_refused(self, tmp_path, wrong, message):
        with pytest.raises(UsageError, match=message):
            write_digits(tmp_path, **wrong)

    def test_formats(self):
        assert list(FORMATS) == ["coco"]
