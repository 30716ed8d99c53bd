"""Small pictures in whole batches: the same as one by one, whatever the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.tiny_cifar import pixels, tiny_dataset
from trivet.data.batching import eval_loader, train_loader
from trivet.data.class_mix import ClassMix
from trivet.data.mix import Mix
from trivet.data.order import Draw, uniforms
from trivet.data.small_images import SmallImageAugmentation
from trivet.errors import UsageError
from trivet.structures import Sample

SIZE_HW = (8, 8)


@pytest.fixture
def dataset(tmp_path):
    return tiny_dataset(tmp_path)


def loader(dataset, *, batch=4, **options):
    return train_loader(dataset, size_hw=SIZE_HW, batch=batch, **options)


def same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        assert a.names == b.names
        for field in ("labels", "other_labels", "other_share"):
            assert torch.equal(getattr(a.class_targets, field), getattr(b.class_targets, field))


class TestLoader:
    def test_eval_gives_the_images_themselves(self, dataset):
        batches = list(eval_loader(dataset, size_hw=SIZE_HW, batch=7))
        assert [len(batch) for batch in batches] == [7, 7, 4]
        images = torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1).numpy()
        assert (images == np.stack([dataset.image(i) for i in range(18)])).all()
        assert torch.cat([batch.class_targets.labels for batch in batches]).tolist() == [0, 1, 2] * 6
        assert batches[1].names[0] == "train/t7.png"
        assert batches[1].image_ids[0] == 7
        assert batches[0].placements[0].original_hw == SIZE_HW

    def test_eval_is_as_letterboxing_gives_it(self, dataset):
        quick = list(eval_loader(dataset, size_hw=SIZE_HW, batch=7))
        plain = list(eval_loader(Plain(dataset), size_hw=SIZE_HW, batch=7))
        same(quick, plain)
        assert quick[0].placements == plain[0].placements

    @pytest.mark.parametrize("mix", [None, ClassMix(mixup=0.4, cutmix=0.4)])
    def test_an_epoch_can_be_repeated_and_entered_anywhere(self, dataset, mix):
        whole = list(loader(dataset, augmentation="strong", mix=mix).epoch(3))
        same(whole, list(loader(dataset, augmentation="strong", mix=mix).epoch(3)))
        same(whole[2:], list(loader(dataset, augmentation="strong", mix=mix).epoch(3, start_step=2)))
        other = list(loader(dataset, augmentation="strong", mix=mix).epoch(4))
        assert not torch.equal(whole[0].images, other[0].images)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
    def test_workers_change_nothing(self, dataset):
        mix = ClassMix(cutmix=0.5)
        here = list(loader(dataset, augmentation="strong", mix=mix).epoch(0))
        same(here, list(loader(dataset, augmentation="strong", mix=mix, workers=2).epoch(0)))

    def test_an_images_change_does_not_depend_on_the_batch(self, dataset):
        small, large = (
            torch.cat([batch.images for batch in loader(dataset, batch=size, augmentation="strong").epoch(1)])
            for size in (3, 9)
        )
        assert torch.equal(small, large)

    def test_a_plain_epoch_is_not_mixed(self, dataset):
        plain = list(loader(dataset, mix=ClassMix(mixup=1.0)).epoch(0, plain=True))
        same(plain, list(loader(dataset).epoch(0)))

    def test_none_changes_nothing(self, dataset):
        batch = next(iter(loader(dataset, augmentation="none").epoch(0)))
        for image, number in zip(batch.images, batch.image_ids.tolist(), strict=True):
            assert (image.permute(1, 2, 0).numpy() == dataset.image(number)).all()

    def test_rare_classes_can_be_shown_more_often(self, dataset):
        few = dataset.take(np.array([0, 3, 6, 9, 12, 1]))  # five cats, one dog
        order = loader(few, batch=1, repeat_threshold=1.0)
        labels = [batch.class_targets.labels.item() for batch in order.epoch(0)]
        assert labels.count(1) >= 2

    @pytest.mark.parametrize("mix", [Mix()])
    def test_boxes_mix_is_refused(self, dataset, mix):
        with pytest.raises(
            UsageError, match=r"a class each are mixed by ClassMix \(mixup, cutmix\), got Mix"
        ):
            loader(dataset, mix=mix)


class Plain:
    """The same samples by way of the general path."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.truth = dataset.truth

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]

    def name(self, index):
        return self.dataset.name(index)


class TestAugmentation:
    def test_the_middle_of_the_shift_is_the_image(self):
        images = pixels(3)
        assert (SmallImageAugmentation(shift=2).batch(images, np.full((3, 7), 0.5)) == images).all()

    def test_a_shift_moves_and_reflects(self):
        images = pixels(1)
        chances = np.full((1, 7), 0.9)
        chances[:, :2] = 0.0  # up and left by 2
        moved = SmallImageAugmentation(shift=2).batch(images, chances)[0]
        assert (moved == np.pad(images[0], ((2, 0), (2, 0), (0, 0)), mode="reflect")[:8, :8]).all()

    @pytest.mark.parametrize(
        ("column", "expected"),
        [(2, lambda x: x[:, ::-1]), (3, lambda x: x[::-1]), (4, lambda x: x.swapaxes(0, 1))],
    )
    def test_turns(self, column, expected):
        images = pixels(2)
        chances = np.full((2, 7), 0.9)
        chances[0, column] = 0.1
        turned = SmallImageAugmentation(shift=0, orientation="free").batch(images, chances)
        assert (turned[0] == expected(images[0])).all()
        assert (turned[1] == images[1]).all()

    def test_cutout_is_cut_at_the_border(self):
        images = np.full((2, 8, 8, 3), 9, np.uint8)
        chances = np.full((2, 7), 0.9)
        chances[:, 5:] = [[0.0, 0.0], [0.5, 0.5]]
        painted = SmallImageAugmentation(shift=0, cutout=4, fill_rgb=(1, 2, 3)).batch(images, chances)
        squares = (painted != 9).all(axis=-1)
        assert squares.sum(axis=(1, 2)).tolist() == [4, 16]
        assert squares[0, :2, :2].all()
        assert squares[1, 2:6, 2:6].all()
        assert painted[0, 0, 0].tolist() == [1, 2, 3]

    @given(st.integers(0, 2**32), st.sampled_from(["light", "medium", "strong"]))
    def test_the_size_stays_and_the_input_too(self, seed, name):
        images = pixels(4, seed=seed)
        before = images.copy()
        strength = {"light": 0.3, "medium": 0.6, "strong": 1.0}[name]
        augmentation = SmallImageAugmentation.of_strength(
            strength, size_hw=SIZE_HW, orientation="free", fill_rgb=(0, 0, 0)
        )
        result = augmentation.batch(images, np.random.default_rng(seed).random((4, 7)))
        assert result.shape == images.shape
        assert result.dtype == np.uint8
        assert (images == before).all()

    @pytest.mark.parametrize(
        ("strength", "shift", "cutout"), [(0.0, 0, 0), (0.3, 2, 0), (0.6, 4, 0), (0.8, 4, 8), (1.0, 4, 16)]
    )
    def test_strengths(self, strength, shift, cutout):
        made = SmallImageAugmentation.of_strength(
            strength, size_hw=(32, 32), orientation="upright", fill_rgb=(0, 0, 0)
        )
        assert (made.shift, made.cutout) == (shift, cutout)
        assert made.orientation == ("upright" if strength else "fixed")

    def test_it_also_works_on_one_sample(self):
        sample = Sample.of_image(pixels(1)[0], image_id=0, name="x", class_label=2)
        result = SmallImageAugmentation(shift=1)(sample, np.random.default_rng(0))
        assert (result.image.shape, result.class_label) == ((8, 8, 3), 2)

    def test_what_cannot_be_is_refused(self):
        with pytest.raises(UsageError, match="shift of 8 pixels is too large for images of 8 x 8"):
            SmallImageAugmentation(shift=8).batch(pixels(1), np.zeros((1, 7)))
        with pytest.raises(UsageError, match="unknown orientation 'upside'"):
            SmallImageAugmentation(orientation="upside")
        with pytest.raises(UsageError, match="pixels from 0, got -1 and 0"):
            SmallImageAugmentation(shift=-1)
        with pytest.raises(UsageError, match="swaps rows and columns"):
            SmallImageAugmentation(shift=0, orientation="free").batch(pixels(1)[:, :4], np.zeros((1, 7)))


@given(st.integers(0, 50), st.integers(1, 20), st.integers(1, 8))
def test_uniforms_are_a_function_of_the_slot(first, count, numbers):
    draws = [Draw(2, slot, 0) for slot in range(first + count)]
    whole = uniforms(draws, numbers, seed=5)
    assert (uniforms(draws[first:], numbers, seed=5) == whole[first:]).all()
    assert (uniforms(draws, numbers, seed=6) != whole).all()
    assert len(np.unique(whole)) == whole.size
