import numpy as np
import pytest
import torch

from tests.data.drawn_samples import painted
from tests.data.tiny_cifar import pixels, tiny_dataset
from trivet.data.augment import Chain, build_augmentation
from trivet.data.batching import train_loader
from trivet.data.rand_augment import RandAugment
from trivet.errors import UsageError
from trivet.structures import Sample


def sample():
    return Sample.of_image(pixels(1, side=24)[0], image_id=0, name="x", class_label=1)


def test_the_same_generator_gives_the_same_picture():
    augment = RandAugment(magnitude=15)
    pictures = [augment(sample(), np.random.default_rng(seed)).image for seed in (1, 1, *range(2, 12))]
    assert (pictures[0] == pictures[1]).all()
    assert len({picture.tobytes() for picture in pictures}) > 5


def test_torchs_own_random_numbers_go_on_as_if_nothing_was():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    RandAugment()(sample(), np.random.default_rng(0))
    assert torch.equal(torch.rand(1), expected)


def test_it_comes_first_in_a_chain(tmp_path):
    dataset = tiny_dataset(tmp_path)
    chain = [RandAugment(), "medium"]
    assert isinstance(build_augmentation(chain, size_hw=(16, 16)), Chain)
    batches = [
        next(train_loader(dataset, size_hw=(16, 16), batch=4, augmentation=chain).epoch(0)) for _ in range(2)
    ]
    assert batches[0].images.shape == (4, 3, 16, 16)
    assert torch.equal(batches[0].images, batches[1].images)
    assert len(batches[0].class_targets) == 4


def test_boxes_and_masks_are_refused():
    with pytest.raises(UsageError, match="moves pixels and not boxes or masks"):
        RandAugment()(painted((24, 24), [(2, 2, 9, 9)]), np.random.default_rng(0))


@pytest.mark.parametrize("options", [{"operations": 0}, {"magnitude": 31}])
def test_values_out_of_range(options):
    with pytest.raises(UsageError, match="1 or more operations at a magnitude of 0 to 30"):
        RandAugment(**options)
