"""Packed batches: few tensors on the way, exact batches after it."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch

from tests.data import drawn_samples
from trivet.data.packed import PackedBatch
from trivet.errors import UsageError

painted = partial(drawn_samples.painted, masked=False)

SAMPLES = [
    painted((8, 9), [(1, 2, 5, 6), (0, 0, 3, 3)], crowd=[1], image_id=4),
    painted((8, 9), image_id=7),
    painted((8, 9), [(2, 2, 4, 4), (5, 5, 9, 8)], first=3, image_id=9),
]


def test_unpacks_to_what_was_packed():
    batch = PackedBatch.of(SAMPLES).unpack()
    assert [target.boxes_xyxy.tolist() for target in batch.targets] == [
        [[1, 2, 5, 6]],
        [],
        [[2, 2, 4, 4], [5, 5, 9, 8]],
    ]
    assert [target.labels.tolist() for target in batch.targets] == [[1], [], [3, 4]]
    assert batch.image_ids.tolist() == [4, 7, 9]
    for image, sample in zip(batch.images, SAMPLES, strict=True):
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), sample.image)


def test_targets_are_views():
    packed = PackedBatch.of(SAMPLES)
    packed.boxes_xyxy[0, 0] = 0.5
    assert packed.unpack().targets[0].boxes_xyxy[0, 0] == 0.5


def test_travels():
    packed = pickle.loads(pickle.dumps(PackedBatch.of(SAMPLES)))
    batch = packed.unpack()
    assert torch.equal(batch.images, PackedBatch.of(SAMPLES).images)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.names == tuple(sample.name for sample in SAMPLES)


def test_three_tensors_however_many_images():
    tensors = [
        value for value in vars(PackedBatch.of(SAMPLES * 5)).values() if isinstance(value, torch.Tensor)
    ]
    assert len(tensors) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only CUDA has use for page-locked memory")
def test_pinned_targets_stay_pinned():
    batch = PackedBatch.of(SAMPLES).pin_memory().unpack()
    assert batch.images.is_pinned()
    assert all(target.boxes_xyxy.is_pinned() for target in batch.targets if len(target.labels))


def test_what_is_refused():
    with pytest.raises(UsageError, match="at least one sample, got none"):
        PackedBatch.of([])
    with pytest.raises(UsageError, match=r"one size, got \(8, 9\) .* and \(9, 9\) .*\nletterbox or augment"):
        PackedBatch.of([SAMPLES[0], painted((9, 9))])
