"""What a worker makes of draws: whole batches, or a fault that names its image."""

import pickle

import pytest
import torch

from tests.data.drawn_samples import DrawnDataset
from trivet.data.augment import build_augmentation
from trivet.data.mix import Mix
from trivet.data.order import Draw
from trivet.data.worker import EvalMaker, Fault, Samples, TrainMaker
from trivet.errors import DataError

SIZE_HW, FILL = (24, 32), (1, 2, 3)


def train_maker(dataset=None, *, augmentation="medium", mix=None, seed=0):
    built = build_augmentation(augmentation, size_hw=SIZE_HW)
    return TrainMaker(DrawnDataset() if dataset is None else dataset, built, mix, SIZE_HW, FILL, seed)


def draws(*images, mixed=False):
    return [Draw(0, slot, image, mixed) for slot, image in enumerate(images)]


class Hinting(DrawnDataset):
    def __getitem__(self, index):
        raise DataError("a.png is no image", "look at it")


def test_a_data_set_is_what_a_maker_needs():
    assert isinstance(DrawnDataset(), Samples)


@pytest.mark.parametrize("maker", [train_maker(), EvalMaker(DrawnDataset(), SIZE_HW, FILL)])
def test_draws_become_one_batch(maker):
    packed = maker[draws(3, 5, 3)]
    assert packed.image_ids == [103, 105, 103]
    assert packed.images.shape == (3, 3, *SIZE_HW)
    assert torch.equal(pickle.loads(pickle.dumps(maker))[draws(3, 5, 3)].images, packed.images)
    assert len(maker) == 13


def test_only_mixed_draws_are_mixed():
    maker = train_maker(mix=Mix(1.0, 1.0))
    plain = train_maker()
    assert torch.equal(maker[draws(1)].images, plain[draws(1)].images)
    assert not torch.equal(maker[draws(1, mixed=True)].images, plain[draws(1)].images)


def test_the_seed_changes_the_draw():
    assert not torch.equal(train_maker(seed=1)[draws(1)].images, train_maker(seed=2)[draws(1)].images)


def test_the_image_that_is_broken_is_named_in_a_mosaic():
    maker = train_maker(DrawnDataset(images=3, bad=2), mix=Mix(1.0, 0.0))
    faults = [maker[[Draw(0, slot, 0, mixed=True)]] for slot in range(12)]
    messages = {fault.message for fault in faults if isinstance(fault, Fault)}
    assert messages == {"images/2.png could not be read: OSError: broken on purpose"}


def test_the_readers_own_words_are_kept():
    assert train_maker(Hinting())[draws(0)] == Fault("a.png is no image", "look at it")


def test_our_own_bugs_are_not_the_datas_fault():
    with pytest.raises(AssertionError):
        train_maker(DrawnDataset(bad=1, fault=AssertionError))[draws(1)]
