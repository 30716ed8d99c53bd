import os

import numpy as np
import pytest

from trivet.data import cache_images as module
from trivet.data.augment import build_augmentation
from trivet.data.cache_images import cache_images, free_memory
from trivet.data.mix import Mix
from trivet.data.sources import read_dataset
from trivet.errors import UsageError


@pytest.fixture
def split(digits):
    return read_dataset(digits).train


def files(home):
    return list(home.rglob("*.rgb"))


def test_the_images_are_the_same_and_decoded_once(split, cache_home, monkeypatch):
    cached = cache_images(split, "yes")
    assert not files(cache_home)
    for i in range(len(split)):
        assert (cached.image(i) == split.image(i)).all()
        assert (cached[i].boxes_xyxy == split[i].boxes_xyxy).all()
    assert len(files(cache_home)) == 1
    monkeypatch.setattr("trivet.data.dataset.read_image", lambda *a, **k: pytest.fail("decoded again"))
    assert cache_images(split, "yes").image(0).shape == cached.image(0).shape


def test_part_of_a_cached_split_shares_its_file(split, cache_home):
    cached = cache_images(split, "yes")
    assert (cached.take(np.array([3])).image(0) == split.image(3)).all()
    assert len(files(cache_home)) == 1


def test_mosaics_of_cached_images_are_those_of_files(split, cache_home):
    cached = cache_images(split, "yes")
    augmentation = build_augmentation("medium", size_hw=(64, 80))
    mix = Mix(mosaic=1.0, mixup=0.5)
    for index in range(6):
        made = [
            mix.draw(
                images,
                index,
                np.random.default_rng(index),
                augmentation=augmentation,
                size_hw=(64, 80),
            )
            for images in (split, cached)
        ]
        assert np.array_equal(made[0].image, made[1].image)
        assert np.array_equal(made[0].boxes_xyxy, made[1].boxes_xyxy)
    assert (cached.image(0) == split.image(0)).all()


def test_a_changed_file_is_decoded_again(split, cache_home):
    cache_images(split, "yes").image(0)
    status = split.path(0).stat()
    os.utime(split.path(0), ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    cache_images(split, "yes").image(0)
    assert len(files(cache_home)) == 2


def test_auto_asks_whether_it_pays(split, monkeypatch):
    assert cache_images(split, "auto").pictures is not None
    monkeypatch.setattr(module, "_decoding_gain", lambda dataset: 1.5)
    assert cache_images(split, "auto").pictures is None
    monkeypatch.undo()
    monkeypatch.setattr(module, "free_memory", lambda: 1000)
    assert cache_images(split, "auto").pictures is None


def test_no_and_wrong_modes(split):
    assert cache_images(split, "no") is split
    cached = cache_images(split, "yes")
    assert cache_images(cached, "yes") is cached
    with pytest.raises(UsageError, match="cache is 'yes', 'no' or 'auto', got 'perhaps'"):
        cache_images(split, "perhaps")


def test_unknown_sizes(make_unsized):
    assert cache_images(make_unsized, "auto") is make_unsized
    with pytest.raises(UsageError, match='some are not known\nread the data set with check="headers"'):
        cache_images(make_unsized, "yes")


@pytest.fixture
def make_unsized(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "x.png")
    return read_dataset(tmp_path, check="none", val_share=0.0).train


def test_free_memory_is_plausible():
    assert 2**20 < free_memory() < 2**50
