import multiprocessing
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from trivet.data import cache
from trivet.data.cache import CachedPictures, cache_folder, open_pixels
from trivet.errors import DataError


@dataclass
class Drawn:
    """Images of the given sizes, image i filled with i; counts how often they are decoded."""

    sizes: tuple = ((2, 3), (4, 1), (1, 1))
    fails_at: int | None = None
    decoded: list = field(default_factory=list)

    @property
    def sizes_hw(self):
        return np.array(self.sizes, np.int32).reshape(-1, 2)

    def key(self):
        return f"drawn{len(self.sizes)}"

    def blocks(self):
        self.decoded.append(1)
        for number, (height, width) in enumerate(self.sizes):
            if number == self.fails_at:
                raise DataError("broken on purpose")
            yield np.full((height, width, 3), number, np.uint8)


def test_images_come_back_as_they_were_decoded_once(tmp_path):
    source = Drawn()
    pictures = CachedPictures(source, folder=tmp_path)
    assert [pictures[i].shape for i in range(3)] == [(2, 3, 3), (4, 1, 3), (1, 1, 3)]
    assert [set(pictures[i].ravel().tolist()) for i in range(3)] == [{0}, {1}, {2}]
    again = CachedPictures(source, folder=tmp_path)
    assert (again[1] == 1).all()
    assert source.decoded == [1]


def test_what_is_given_out_is_a_copy_and_the_file_read_only(tmp_path):
    pictures = CachedPictures(Drawn(), folder=tmp_path)
    pictures[0][:] = 77
    assert (pictures[0] == 0).all()
    assert not pictures.pixels.flags.writeable


def test_what_is_lent_for_reading_is_no_copy_and_cannot_be_written_to(tmp_path):
    pictures = CachedPictures(Drawn(), folder=tmp_path)
    for index in range(len(pictures)):
        lent = pictures.for_reading(index)
        assert np.array_equal(lent, pictures[index])
        assert np.shares_memory(lent, pictures.pixels)
        with pytest.raises(ValueError, match="read-only"):
            lent[...] = 0


def test_take_keeps_order_and_shares_the_file(tmp_path):
    taken = CachedPictures(Drawn(), folder=tmp_path).take(np.array([2, 0, 2])).take(np.array([1, 0]))
    assert [image.max() for image in taken] == [0, 2]
    assert len(taken) == 2


def test_gathering_gives_one_array_of_equal_images(tmp_path):
    pictures = CachedPictures(Drawn(((2, 3),) * 4), folder=tmp_path).take(np.array([3, 1, 0]))
    assert pictures.common_hw == (2, 3)
    assert pictures.gather(np.array([0, 2])).tolist() == [np.full((2, 3, 3), v).tolist() for v in (3, 0)]
    assert CachedPictures(Drawn(), folder=tmp_path).common_hw is None


def test_a_pickle_carries_no_pixels(tmp_path):
    pictures = CachedPictures(Drawn(((50, 50),) * 40), folder=tmp_path)
    assert (pictures[39] == 39).all()
    sent = pickle.dumps(pictures)
    assert len(sent) < 5_000
    assert (pickle.loads(sent)[39] == 39).all()


def test_no_images_need_no_file(tmp_path):
    assert len(open_pixels(Drawn(()), folder=tmp_path)) == 0


@pytest.mark.parametrize("left_behind", [b"", b"too short"])
def test_a_file_that_is_not_whole_is_made_again(tmp_path, left_behind):
    pixels = open_pixels(Drawn(), folder=tmp_path)
    expected = bytes(pixels)
    file = next((tmp_path / "pixels").glob("*.rgb"))
    file.write_bytes(left_behind)
    assert bytes(open_pixels(Drawn(), folder=tmp_path)) == expected


def test_a_fault_half_way_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="broken on purpose"):
        open_pixels(Drawn(fails_at=1), folder=tmp_path)
    assert [path.suffix for path in (tmp_path / "pixels").iterdir()] == [".lock"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        DataError, match=r"(?s)cannot be kept there: .*the disk has 1 MB left\nmake room, set XDG"
    ):
        open_pixels(Drawn(), folder=tmp_path)
    assert not list((tmp_path / "pixels").glob("*.rgb*partial"))


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        open_pixels(Drawn(), folder=tmp_path)
    assert [path.suffix for path in (tmp_path / "pixels").iterdir()] == [".lock"]


def _open(folder, queue):
    queue.put(bytes(open_pixels(Drawn(((30, 30),) * 50), folder=folder)))


@pytest.mark.slow
def test_several_processes_at_once_get_the_same(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_open, args=(tmp_path, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    got = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert set(got) == {bytes(np.repeat(np.arange(50, dtype=np.uint8), 2700))}
    assert len(list((tmp_path / "pixels").glob("*.rgb"))) == 1


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "trivet"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == Path.home() / ".cache" / "trivet"
