import cv2
import numpy as np
import pytest
import torch

from trivet.errors import UsageError
from trivet.tasks.losses.class_weights import median_frequency_weights


def test_weights_of_a_small_set_by_hand():
    # class 0: 170 of 200 pixels; class 1: 10 of the 100 of its image; class 2 nowhere; class 3: 20 of 100
    weights = median_frequency_weights(torch.tensor([[90, 10, 0, 0], [80, 0, 0, 20]]))
    assert weights == pytest.approx((0.2 / 0.85, 2.0, 1.0, 1.0))


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle():
    assert median_frequency_weights(torch.tensor([[75, 25]])) == pytest.approx((0.5 / 0.75, 2.0))


def test_camvid_gives_nearly_the_weights_segnet_was_trained_with(shared_data):
    # The published prototxt was made from other labels than the published ones: its signs are far rarer. Counting
    # over all images instead of those with the class would double fence and bicyclist.
    files = sorted((shared_data / "camvid" / "trainannot").glob("*.png"))[::2]
    counts = np.stack(
        [np.bincount(cv2.imread(str(f), cv2.IMREAD_UNCHANGED).ravel(), minlength=12)[:11] for f in files]
    )
    weights = median_frequency_weights(torch.from_numpy(counts))
    published = [0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614]
    signs = 6
    for label in set(range(11)) - {signs}:
        assert weights[label] == pytest.approx(published[label], rel=0.25)


@pytest.mark.parametrize("counts", [[[0, 0]], [[1, -1]]])
def test_counts_of_nothing_are_refused(counts):
    with pytest.raises(UsageError, match="class weights need the pixels of each class in each image"):
        median_frequency_weights(torch.tensor(counts))
