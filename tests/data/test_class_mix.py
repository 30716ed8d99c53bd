import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trivet.data.class_mix import ClassMix
from trivet.data.packed import PackedBatch
from trivet.errors import UsageError
from trivet.structures import Placement

SIDE = 12


def packed(count, *, side=SIDE):
    """Images filled with ten times their number; image i is of class i."""
    values = torch.arange(count, dtype=torch.uint8) * 10
    images = values.view(-1, 1, 1, 1).expand(-1, 3, side, side).clone()
    return PackedBatch(
        images,
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.int64),
        [0] * count,
        list(range(count)),
        ("x",) * count,
        (Placement((side, side)),) * count,
        class_labels=torch.arange(count),
    )


@given(st.integers(0, 2**32), st.integers(2, 12), st.sampled_from([0.2, 1.0, 8.0]))
def test_cutmix_shares_are_the_pasted_pixels_exactly(seed, count, alpha):
    mixed = ClassMix(cutmix=1.0, cutmix_alpha=alpha).batch(packed(count), np.random.default_rng(seed))
    own = (torch.arange(count) * 10).view(-1, 1, 1)
    other = (mixed.other_labels * 10).view(-1, 1, 1)
    plane = mixed.images[:, 0].long()
    assert ((plane == own) | (plane == other)).all()
    assert torch.equal((plane == other).float().mean(dim=(1, 2)), mixed.other_share)
    assert (mixed.other_labels != mixed.class_labels).all()


@given(st.integers(0, 2**32), st.integers(2, 12))
def test_mixup_blends_by_the_share(seed, count):
    mixed = ClassMix(mixup=1.0, mixup_alpha=1.0).batch(packed(count), np.random.default_rng(seed))
    share = mixed.other_share
    expected = (1 - share) * torch.arange(count) * 10 + share * mixed.other_labels * 10
    assert (mixed.images[:, 0, 0, 0] - expected).abs().max() <= 0.501
    assert ((share >= 0) & (share <= 1)).all()


def test_how_often():
    mixed = ClassMix(mixup=0.25, cutmix=0.25, mixup_alpha=1.0).batch(packed(25), np.random.default_rng(0))
    many = [ClassMix(mixup=0.25, cutmix=0.25).batch(packed(25), np.random.default_rng(s)) for s in range(40)]
    touched = torch.stack([(one.images[:, 0] != packed(25).images[:, 0]).flatten(1).any(1) for one in many])
    assert touched.float().mean().item() == pytest.approx(0.45, abs=0.06)  # some mixtures change no pixel
    untouched = mixed.other_share == 0
    assert torch.equal(mixed.images[untouched], packed(25).images[untouched])


def test_a_batch_of_one_stays_as_it_is():
    mixed = ClassMix(mixup=1.0).batch(packed(1), np.random.default_rng(0))
    assert torch.equal(mixed.images, packed(1).images)
    assert mixed.unpack().class_targets.other_share.tolist() == [0.0]


def test_targets_arrive_mixed():
    targets = ClassMix(cutmix=1.0).batch(packed(6), np.random.default_rng(1)).unpack().class_targets
    assert targets.other_share.max() > 0
    assert targets.other_labels.tolist() != targets.labels.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "sum to more than 0 and at most 1, got 0.0 and 0.0"),
        ({"mixup": 0.7, "cutmix": 0.7}, "at most 1, got 0.7 and 0.7"),
        ({"mixup": -0.1, "cutmix": 0.7}, "got -0.1 and 0.7"),
        ({"mixup": 0.5, "mixup_alpha": 0.0}, "above 0, got 0.0 and 1.0"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        ClassMix(**options)


def test_what_is_mixed_is_not_mixed_again():
    rng = np.random.default_rng(0)
    once = ClassMix(mixup=1.0).batch(packed(3), rng)
    with pytest.raises(UsageError, match="one class each"):
        ClassMix(mixup=1.0).batch(once, rng)
