import numpy as np
import pytest

from trivet.errors import UsageError
from trivet.evaluate.generalisation import gap_interval, generalisation_gap, wilson_interval
from trivet.evaluate.scores import Interval


def right(count, of):
    return np.arange(of) < count


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_newcombes_table(count, of, low, high):
    assert wilson_interval(count / of, of) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_gap_against_newcombes_table(one, other, low, high):
    gap = generalisation_gap(right(*one), right(*other))
    assert gap.gap == pytest.approx(one[0] / one[1] - other[0] / other[1])
    assert gap.interval95 == pytest.approx((low, high), abs=6e-5)
    assert (gap.train_images, gap.val_images) == (one[1], other[1])


def test_a_gap_needs_images():
    with pytest.raises(UsageError, match="0 train and 3 validation images"):
        generalisation_gap(right(0, 0), right(1, 3))


def test_a_gaps_interval_is_that_of_a_difference_of_two_normal_estimates():
    within = gap_interval(0.8, Interval(0.77, 0.83), 0.5, Interval(0.46, 0.54))
    assert within == pytest.approx((0.3 - 0.05, 0.3 + 0.05))
