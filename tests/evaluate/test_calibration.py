import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.evaluate.calibration import expected_calibration_error, reliability


def naive_ece(confidence, right, bins=15):
    """Guo et al.'s equation 3, bin by bin."""
    total = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 300))
def test_against_the_paper(seed, count):
    rng = np.random.default_rng(seed)
    confidence = rng.random(count)
    right = rng.random(count) < confidence**2
    bins = reliability(confidence, right)
    assert expected_calibration_error(bins) == pytest.approx(naive_ece(confidence, right))
    assert sum(one.images for one in bins) == count


def test_an_edge_belongs_to_the_bin_below_it():
    bins = reliability(np.array([0.0, 1 / 15, 2 / 15, 1.0]), np.array([True, False, True, True]))
    assert [(round(one.low * 15), one.images) for one in bins] == [(0, 2), (1, 1), (14, 1)]
    assert bins[0].accuracy == 0.5


def test_a_perfectly_calibrated_model_has_no_error():
    bins = reliability(np.array([0.75] * 4), np.array([True, True, True, False]))
    assert expected_calibration_error(bins) == 0
