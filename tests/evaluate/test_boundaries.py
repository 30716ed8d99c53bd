import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.evaluate.boundaries import boundary_f1


def edges(mask, label):
    """Return the pixels of a label with another label beside them, one pixel at a time."""
    height, width = mask.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if mask[y, x] == label
        and any(
            0 <= y + dy < height and 0 <= x + dx < width and mask[y + dy, x + dx] != label
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
        )
    ]


def brute_force(predicted, truth, classes, tolerance):
    radius = tolerance * math.hypot(*truth.shape)
    scores = []
    for label in range(classes):
        found, there = edges(predicted, label), edges(truth, label)

        def share(some, others):
            return sum(any(math.dist(p, q) <= radius for q in others) for p in some) / max(len(some), 1)

        precision, recall = share(found, there), share(there, found)
        total = precision + recall
        f1 = 2 * precision * recall / total if total else 0.0
        scores.append(f1 if found or there else math.nan)
    return scores


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.0721, 0.15]))
def test_against_every_pair_of_pixels(seed, tolerance):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 3, (4, 5)), np.ones((3, 3))).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.1, rng.integers(0, 3, truth.shape), truth).astype(
        np.uint8
    )
    found = boundary_f1(predicted, truth, classes=4, tolerance=tolerance)
    np.testing.assert_allclose(found, brute_force(predicted, truth, 4, tolerance), atol=1e-6)


def test_a_distance_equal_to_the_tolerance_matches():
    truth, predicted = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)  # the diagonal is 50
    truth[:, 20:], predicted[:, 23:] = 1, 1
    assert boundary_f1(predicted, truth, classes=2, tolerance=0.06).tolist() == [1, 1]
    assert boundary_f1(predicted, truth, classes=2, tolerance=0.0599).tolist() == [0, 0]


def test_the_edge_of_the_image_is_no_boundary():
    mask = np.zeros((9, 9), np.uint8)
    assert np.isnan(boundary_f1(mask, mask, classes=2)).all()


def test_a_thin_line_of_void_along_a_boundary_does_not_hide_it():
    whole = np.zeros((60, 80), np.uint8)
    whole[:, 40:] = 1
    truth = whole.copy()
    truth[:, 39:42] = 255
    shifted = np.roll(whole, 9, axis=1)
    shifted[:, :9] = 0
    assert boundary_f1(whole, truth, classes=2, tolerance=0.02).tolist() == [1, 1]
    assert boundary_f1(shifted, truth, classes=2, tolerance=0.02).tolist() == [0, 0]


def test_a_boundary_deep_inside_void_does_not_count():
    truth = np.zeros((60, 80), np.uint8)
    truth[:, 20:] = 1
    truth[:, 40:] = 255
    predicted = np.where(truth == 255, 1, truth).astype(np.uint8)
    perfect = boundary_f1(predicted, truth, classes=3)
    predicted[20:40, 60:70] = 2
    np.testing.assert_array_equal(boundary_f1(predicted, truth, classes=3), perfect)
    assert perfect[:2].tolist() == [1, 1]


@pytest.mark.parametrize("label", [0, 255])
def test_a_mask_that_is_one_label_everywhere(label):
    mask = np.full((5, 7), label, np.uint8)
    predicted = np.zeros((5, 7), np.uint8)
    predicted[2] = 1
    found = boundary_f1(predicted, mask, classes=2)
    assert np.isnan(found).all() if label == 255 else (found == 0).all()
