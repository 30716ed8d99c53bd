"""Loaders: the same batches for any number of workers, from any step, on any rank."""

import os
import random
import signal
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data import drawn_samples
from tests.data.drawn_samples import DrawnDataset
from trivet.data.batching import collate, eval_loader, train_loader
from trivet.data.letterbox import letterbox
from trivet.data.mix import Mix
from trivet.errors import DataError, TrainingError, UsageError
from trivet.structures import Batch

painted = partial(drawn_samples.painted, masked=False)

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
SIZE_HW = (32, 40)
WORKERS = (0, 1, 2)


def loader(dataset=None, *, batch=3, **arguments):
    return train_loader(
        DrawnDataset() if dataset is None else dataset, size_hw=SIZE_HW, batch=batch, **arguments
    )


def assert_same(one, other):
    assert one.names == other.names
    assert torch.equal(one.images, other.images)
    assert one.image_ids.tolist() == other.image_ids.tolist()
    for a, b in zip(one.targets, other.targets, strict=True):
        assert torch.equal(a.boxes_xyxy, b.boxes_xyxy)
        assert torch.equal(a.labels, b.labels)


def assert_all_same(ones, others):
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        assert_same(one, other)


class Killer(DrawnDataset):
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


class AskedForSignals(DrawnDataset):
    def __getitem__(self, index):
        raise DataError(str(signal.getsignal(signal.SIGINT) is signal.SIG_IGN))


class Noisy:
    """An augmentation of the user's own that draws from the global random numbers."""

    def __call__(self, sample):
        sample.image[:] = np.random.randint(256) ^ int(random.random() * 256)
        return sample


class TestCollate:
    def test_exact_values(self):
        samples = [
            painted((8, 9), [(1, 2, 5, 6), (0, 0, 3, 3)], crowd=[1], image_id=4),
            painted((8, 9), image_id=7),
        ]
        batch = collate(samples)
        assert batch.images.shape == (2, 3, 8, 9)
        assert batch.images.dtype == torch.uint8
        np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0).numpy(), samples[0].image)
        assert batch.targets[0].boxes_xyxy.tolist() == [[1, 2, 5, 6]]
        assert batch.targets[0].labels.tolist() == [1]
        assert batch.targets[1].boxes_xyxy.shape == (0, 4)
        assert batch.image_ids.tolist() == [4, 7]
        assert batch.names == ("images/4.png", "images/7.png")
        assert batch.placements == tuple(sample.placement for sample in samples)

    def test_channels_last(self):
        assert collate([painted((8, 9))] * 2).images.is_contiguous(memory_format=torch.channels_last)

    def test_sizes_that_differ(self):
        with pytest.raises(
            UsageError, match=r"one size, got \(8, 9\) \(images/0.png\) and \(9, 9\) \(images/5.png\)"
        ):
            collate([painted((8, 9)), painted((9, 9), image_id=5)])

    def test_nothing(self):
        with pytest.raises(UsageError, match="at least one sample"):
            collate([])


class TestTrainLoader:
    @pytest.mark.parametrize("augmentation", ["strong", Noisy()], ids=["default", "own"])
    def test_workers_change_nothing(self, augmentation):
        mix = Mix(0.4, 0.4)
        runs = []
        for workers in WORKERS:
            made = loader(workers=workers, mix=mix, augmentation=augmentation)
            runs.append([batch for number in (0, 1) for batch in made.epoch(number)])
        assert_all_same(runs[0], runs[1])
        assert_all_same(runs[0], runs[2])

    @pytest.mark.parametrize("workers", [0, 2])
    def test_resumes_at_any_step(self, workers):
        made = loader(workers=workers, mix=Mix())
        whole = list(made.epoch(1))
        for start_step in range(len(made)):
            assert_all_same(list(made.epoch(1, start_step=start_step)), whole[start_step:])
        assert list(made.epoch(1, start_step=len(made))) == []
        assert_all_same(list(loader(workers=workers, mix=Mix()).epoch(1)), whole)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_an_epoch_can_be_left(self, workers):
        made = loader(workers=workers)
        whole = list(made.epoch(0))
        next(made.epoch(1))
        assert_all_same(list(made.epoch(0)), whole)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_starting_an_epoch_ends_the_one_before(self, workers):
        made = loader(workers=workers)
        unbegun, begun = made.epoch(0), made.epoch(1)
        next(begun)
        whole = list(made.epoch(2))
        assert len(whole) == len(made)
        assert list(begun) == list(unbegun) == []

    @pytest.mark.parametrize("workers", [0, 2])
    def test_no_two_draws_are_augmented_alike(self, workers):
        made = loader(DrawnDataset(same=True), workers=workers, batch=4, drop_last=False)
        images = [
            image.numpy().tobytes() for number in range(3) for b in made.epoch(number) for image in b.images
        ]
        assert len(set(images)) == len(images) == 3 * 16

    def test_seeds_differ(self):
        one, other = (next(loader(seed=seed).epoch(0)) for seed in (0, 1))
        assert not torch.equal(one.images, other.images)

    def test_global_random_numbers_are_left_alone(self):
        # Python's own are not compared here: the type checker of the tests draws from them.
        before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
        for workers in (0, 1):
            list(loader(workers=workers, mix=Mix(), augmentation=Noisy()).epoch(0))
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]

    @settings(max_examples=15, deadline=None)
    @given(
        images=st.integers(1, 17), world=st.integers(1, 3), batch=st.integers(1, 4), drop_last=st.booleans()
    )
    def test_ranks_share_one_large_batch(self, images, world, batch, drop_last):
        dataset = DrawnDataset(images)
        ranks = [
            list(
                loader(
                    dataset, batch=batch, rank=rank, world=world, drop_last=drop_last, augmentation="none"
                ).epoch(2)
            )
            for rank in range(world)
        ]
        whole = loader(dataset, batch=batch * world, drop_last=drop_last, augmentation="none")
        assert {len(batches) for batches in ranks} == {len(whole)}
        for step, batch_of_all in enumerate(whole.epoch(2)):
            assert torch.equal(torch.cat([batches[step].images for batches in ranks]), batch_of_all.images)

    def test_fewer_images_than_a_batch(self):
        batches = list(loader(DrawnDataset(2), batch=5).epoch(0))
        assert [len(batch) for batch in batches] == [5]
        assert len({image.numpy().tobytes() for image in batches[0].images}) == 5

    def test_plain_epochs_are_not_mixed(self):
        mixed = loader(mix=Mix(1.0, 1.0), augmentation="none")
        pure = loader(augmentation="none")
        assert_all_same(list(mixed.epoch(0, plain=True)), list(pure.epoch(0)))
        assert not torch.equal(next(mixed.epoch(0)).images, next(pure.epoch(0)).images)

    def test_rare_classes_are_shown_more_often(self):
        dataset = DrawnDataset(images=12, classes=12)
        made = loader(dataset, batch=4, augmentation="none", repeat_threshold=1 / 3)
        assert len(made) == 24 // 4
        ids = torch.cat([batch.image_ids for batch in made.epoch(0)])
        assert set(torch.bincount(ids - 100).tolist()) == {2}

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("fault", [OSError, ValueError, DataError, KeyError])
    def test_a_bad_image_is_named(self, workers, fault):
        dataset = DrawnDataset(bad=5, fault=fault)
        expected = (
            "broken on purpose"
            if fault is DataError
            else rf"images/5.png could not be read: {fault.__name__}"
        )
        with pytest.raises(DataError, match=f"^{expected}"):
            list(loader(dataset, workers=workers, drop_last=False, mix=Mix(1.0)).epoch(0))

    def test_a_bad_augmentation_names_the_image(self):
        with pytest.raises(DataError, match=r"^images/\d+.png could not be augmented: ZeroDivisionError"):
            next(loader(augmentation=lambda sample: 1 // 0).epoch(0))

    def test_a_worker_that_dies(self):
        with pytest.raises(TrainingError, match=r"a loader worker died: (.|\n)*use fewer workers"):
            list(loader(Killer(), workers=1, augmentation="none").epoch(0))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_an_interrupt_is_for_the_main_process(self, workers):
        ignores = bool(workers) or signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with pytest.raises(DataError, match=str(ignores)):
            list(loader(AskedForSignals(), workers=workers).epoch(0))

    def test_workers_after_opencv_has_used_threads(self):
        cv2.resize(np.zeros((3000, 3000, 3), np.uint8), (2500, 2500), interpolation=cv2.INTER_AREA)
        dataset = DrawnDataset(size_hw=(800, 900))
        assert len(list(loader(dataset, workers=1, augmentation="none").epoch(0))) == 4

    def test_waiting_is_measured(self):
        made = loader()
        assert made.waited_seconds == 0
        batches = made.epoch(0)
        next(batches)
        first = made.waited_seconds
        assert first > 0
        list(batches)
        assert made.waited_seconds > first

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"rank": 2, "world": 2}, "rank=2 of world=2"),
            ({"batch": 0}, "batch=0"),
            ({"workers": -1}, "workers=-1"),
            ({"dataset": DrawnDataset(0)}, "images=0.*\n.*training split is not empty"),
            ({"augmentation": "strange"}, "unknown augmentation 'strange'"),
        ],
    )
    def test_what_is_refused(self, wrong, message):
        with pytest.raises(UsageError, match=message):
            loader(**wrong)

    @pytest.mark.parametrize(("number", "start_step"), [(-1, 0), (0, -1), (0, 5)])
    def test_epochs_and_steps_there_are_not(self, number, start_step):
        with pytest.raises(UsageError, match=f"has 4 batches, got epoch={number}, start_step={start_step}"):
            loader().epoch(number, start_step=start_step)


class TestEvalLoader:
    @pytest.mark.parametrize("workers", WORKERS)
    def test_every_image_once_in_order(self, workers):
        dataset = DrawnDataset()
        made = eval_loader(dataset, size_hw=SIZE_HW, batch=5, workers=workers, fill_rgb=(1, 2, 3))
        for _ in range(2):
            batches = list(made)
            assert [len(batch) for batch in batches] == [5, 5, 3]
            assert torch.cat([batch.image_ids for batch in batches]).tolist() == list(range(100, 113))
        sample = letterbox(dataset[12], size_hw=SIZE_HW, fill_rgb=(1, 2, 3))
        assert_same(collate([sample]), collate_last(batches[-1]))
        assert batches[-1].placements[-1] == sample.placement
        assert len(made) == 3

    def test_no_images(self):
        assert list(eval_loader(DrawnDataset(0), size_hw=SIZE_HW, batch=5)) == []

    def test_a_bad_image_is_named(self):
        with pytest.raises(DataError, match=r"images/5.png could not be read"):
            list(eval_loader(DrawnDataset(bad=5), size_hw=SIZE_HW, batch=5))

    @pytest.mark.parametrize("wrong", [{"batch": 0}, {"workers": -2}])
    def test_what_is_refused(self, wrong):
        name, value = next(iter(wrong.items()))
        with pytest.raises(UsageError, match=f"{name}={value}"):
            eval_loader(DrawnDataset(), **{"size_hw": SIZE_HW, "batch": 2, **wrong})


def collate_last(batch):
    """The last image of a batch as a batch of its own."""
    return Batch(
        batch.images[-1:], batch.targets[-1:], batch.image_ids[-1:], batch.names[-1:], batch.placements[-1:]
    )
