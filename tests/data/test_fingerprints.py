import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_cifar import tiny_dataset
from trivet.data.fingerprints import fingerprint, fingerprint_pictures


def noise(seed, height=60, width=80):
    """Blurred noise: a picture of its own for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def bits(one, other):
    return int(np.unpackbits(one ^ other).sum())


def test_equal_files_have_equal_digests_and_others_do_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        noise(seed).save(tmp_path / f"{name}.png")
    prints = fingerprint([tmp_path / f"{name}.png" for name in "abc"])
    assert (prints.digests[0] == prints.digests[1]).all()
    assert not (prints.digests[0] == prints.digests[2]).all()


@pytest.mark.parametrize(("size", "quality"), [((80, 60), 50), ((160, 120), 90), ((40, 30), 90)])
def test_the_hash_outlasts_compression_and_scaling_but_not_another_picture(tmp_path, size, quality):
    noise(0).save(tmp_path / "a.png")
    noise(0).resize(size, Image.Resampling.BICUBIC).save(tmp_path / "b.jpg", quality=quality)
    noise(1).save(tmp_path / "c.png")
    prints = fingerprint([tmp_path / name for name in ("a.png", "b.jpg", "c.png")])
    assert bits(prints.hashes[0], prints.hashes[1]) <= 7
    assert bits(prints.hashes[0], prints.hashes[2]) > 30


def test_images_without_colour_are_told_whatever_their_mode(tmp_path):
    noise(0).convert("L").save(tmp_path / "a.jpg")
    noise(0).convert("L").convert("RGB").save(tmp_path / "b.png")
    noise(0).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_bytes(b"")
    assert fingerprint([tmp_path / n for n in ("a.jpg", "b.png", "c.png", "d.png")]).gray.tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_what_cannot_be_read_is_a_fault_and_equals_nothing(tmp_path):
    done = []
    for name in "ab":
        (tmp_path / name).write_bytes(b"no image")
    prints = fingerprint([tmp_path / "a", tmp_path / "b", tmp_path / "missing"], progress=done.append)
    assert sorted(prints.faults) == [0, 1, 2]
    assert len({row.tobytes() for row in prints.digests}) == 3
    assert done == [1, 2, 3]


def test_nothing_has_no_fingerprints():
    assert len(fingerprint([])) == 0


def test_pictures_in_mosaics_are_told_apart_by_their_pixels(tmp_path):
    pictures, done = tiny_dataset(tmp_path).pictures.take(np.array([3, 5, 3])), []
    prints = fingerprint_pictures(pictures, progress=done.append)
    assert (prints.digests[0] == prints.digests[2]).all()
    assert not (prints.digests[0] == prints.digests[1]).all()
    assert bits(prints.hashes[0], prints.hashes[1]) > 30
    assert prints.thumbnails.shape == (3, 32, 32, 3)
    assert (prints.faults, done) == ({}, [1, 2, 3])
