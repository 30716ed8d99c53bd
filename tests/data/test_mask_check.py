"""A user's transform may not invent labels."""

from dataclasses import replace

import albumentations
import cv2
import numpy as np
import pytest

from tests.data.drawn_samples import painted
from trivet.data.augment import build_augmentation
from trivet.data.mask_check import checked_mask, label_counts
from trivet.errors import UsageError

SAMPLE = painted((40, 60), [(5, 5, 20, 20), (30, 10, 50, 30)], first=5)


def run(augmentation, sample=SAMPLE, seed=0):
    return build_augmentation(augmentation, size_hw=(40, 60))(sample, np.random.default_rng(seed))


def test_counts():
    assert label_counts(SAMPLE.mask)[[0, 5, 6]].tolist() == [2400 - 225 - 400, 225, 400]


class TestWhatIsRefused:
    def test_an_invented_label_is_named_with_the_image(self):
        def blurred(sample):
            return replace(sample, mask=cv2.blur(sample.mask, (5, 5)))

        with pytest.raises(
            UsageError, match=r"images/0.png: the augmentation invented the label 1, 2.*\(0, 5, 6\)"
        ):
            run(blurred)

    def test_a_mask_that_is_gone_or_of_floats(self):
        with pytest.raises(UsageError, match="without its mask"):
            run(lambda sample: replace(sample, mask=None))
        with pytest.raises(UsageError, match="returned a mask of float32"):
            run(lambda sample: replace(sample, mask=sample.mask.astype(np.float32)))

    def test_interpolation_of_masks(self):
        with pytest.raises(UsageError, match=r"Affine interpolates masks \(mask_interpolation=1\)"):
            run(
                albumentations.Compose(
                    [albumentations.Affine(rotate=10, mask_interpolation=cv2.INTER_LINEAR)]
                )
            )
        rotate = albumentations.Rotate(mask_interpolation=cv2.INTER_CUBIC)
        nested = albumentations.Compose([albumentations.OneOf([rotate], p=1)])
        with pytest.raises(UsageError, match="Rotate interpolates masks"):
            run(nested)


def test_whole_numbers_of_another_type_become_uint8():
    result = checked_mask(SAMPLE, replace(SAMPLE, mask=SAMPLE.mask.astype(np.int64)))
    assert result.mask.dtype == np.uint8
    np.testing.assert_array_equal(result.mask, SAMPLE.mask)


def test_what_a_transform_uncovers_is_ignored_not_label_0():
    everywhere = replace(SAMPLE, mask=np.full((40, 60), 3, np.uint8))
    result = run(albumentations.Compose([albumentations.Affine(rotate=(30, 30), p=1)]), everywhere)
    assert set(np.unique(result.mask)) == {3, 255}


def test_samples_without_masks_pass():
    plain = replace(SAMPLE, mask=None)
    assert checked_mask(plain, plain) is plain
