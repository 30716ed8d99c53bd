import time

import numpy as np
import pytest
from PIL import Image

from trivet.data.fingerprints import Fingerprints, fingerprint
from trivet.data.near_duplicates import MOST_BITS, find_duplicates


def prints_of(hashes, *, digests=None, thumbnails=None, faults=None):
    count = len(hashes)
    digests = (
        np.arange(count, dtype=np.uint64)[:, None].repeat(2, 1).view(np.uint8) if digests is None else digests
    )
    thumbnails = np.zeros((count, 32, 32, 3), np.uint8) if thumbnails is None else thumbnails
    return Fingerprints(digests, thumbnails, np.asarray(hashes, np.uint8), faults or {})


def flipped(row, *places):
    bits = np.unpackbits(row)
    bits[list(places)] ^= 1
    return np.packbits(bits)


@pytest.fixture
def base():
    return np.random.default_rng(0).integers(0, 256, (1, 16), dtype=np.uint8)[0]


@pytest.mark.parametrize("seed", range(20))
def test_every_pair_within_the_most_bits_is_found(base, seed):
    places = np.random.default_rng(seed).choice(128, MOST_BITS + 1, replace=False)
    near = flipped(base, *places[:MOST_BITS])
    assert find_duplicates(prints_of([base, near])).near == ((0, 1),)
    assert find_duplicates(prints_of([base, flipped(base, *places)])).near == ()


def test_looks_are_compared_after_the_hashes(base):
    thumbnails = np.zeros((4, 32, 32, 3), np.uint8)
    thumbnails[1] = 60  # lighter all over: the same picture
    thumbnails[2, ::2] = 60
    thumbnails[3, ::2] = 61
    assert find_duplicates(prints_of([base] * 4, thumbnails=thumbnails)).near == ((0, 1),)


def test_groups_join_pairs_and_leave_out_what_is_all_exact(base):
    digests = np.array([[0] * 16, [1] * 16, [1] * 16, [2] * 16], np.uint8)
    far = np.bitwise_not(base)
    groups = find_duplicates(prints_of([base, far, far, base], digests=digests))
    assert groups.exact == ((1, 2),)
    assert groups.near == ((0, 3),)


def test_unreadable_images_equal_nothing(base):
    assert find_duplicates(prints_of([base, base], faults={1: "cut short"})).near == ()


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_have_no_duplicates(count, base):
    groups = find_duplicates(prints_of(np.tile(base, (count, 1)).reshape(count, 16)))
    assert groups.exact == groups.near == ()


@pytest.mark.parametrize(("count", "alike"), [(20_000, False), (2500, True)])
def test_many_images_take_seconds(count, alike):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    if alike:
        hashes[:, :10] = hashes[0, :10]  # five of eight bands in common, as among frames of one scene
    thumbnails = rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)
    hashes[-1], thumbnails[-1] = flipped(hashes[17], 3, 50, 90), thumbnails[17]
    start = time.perf_counter()
    groups = find_duplicates(prints_of(hashes, thumbnails=thumbnails))
    assert (17, count - 1) in groups.near
    assert time.perf_counter() - start < 10


def test_the_known_pair_of_bccd_is_found(shared_data):
    names = ["BloodImage_00037.jpg", "BloodImage_00001.jpg", "BloodImage_00038.jpg", "BloodImage_00003.jpg"]
    groups = find_duplicates(fingerprint(shared_data / "bccd" / "JPEGImages" / name for name in names))
    assert groups.near == ((0, 2),)
    assert groups.exact == ()


def test_a_copy_is_exact_and_a_new_compression_is_near(tmp_path, shared_data):
    source = shared_data / "bccd" / "JPEGImages" / "BloodImage_00001.jpg"
    (tmp_path / "a.jpg").write_bytes(source.read_bytes())
    Image.open(source).resize((320, 240)).save(tmp_path / "b.jpg", quality=60)
    groups = find_duplicates(fingerprint([source, tmp_path / "a.jpg", tmp_path / "b.jpg"]))
    assert groups.exact == ((0, 1),)
    assert groups.near == ((0, 1, 2),)
