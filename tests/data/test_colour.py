"""Random changes of colour."""

import cv2
import numpy as np
import pytest

from trivet.data.colour import change_colours, hue_and_saturation

LUMA = np.array([0.299, 0.587, 0.114])


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize(("turn", "saturation"), [(0.0, 1.0), (0.3, 1.4), (-0.35, 0.6)])
def test_greys_and_luma_stay(turn, saturation):
    matrix = hue_and_saturation(turn=turn, saturation=saturation)
    np.testing.assert_allclose(matrix @ np.ones(3), np.ones(3), atol=1e-5)
    np.testing.assert_allclose(LUMA @ matrix, LUMA, atol=1e-5)


def test_without_a_turn_hue_and_saturation_are_those_of_the_formula():
    np.testing.assert_allclose(hue_and_saturation(turn=0.0, saturation=1.0), np.eye(3), atol=1e-6)
    pale = hue_and_saturation(turn=0.0, saturation=0.5)
    np.testing.assert_allclose(pale, 0.5 * np.eye(3) + 0.5 * np.tile(LUMA, (3, 1)), atol=1e-5)
    full = 2 * np.pi
    np.testing.assert_allclose(hue_and_saturation(turn=full, saturation=1.0), np.eye(3), atol=1e-6)


def test_the_same_draw_gives_the_same_picture_and_others_differ():
    image = picture()
    results = [
        change_colours(image, np.random.default_rng(seed), strength=0.8) for seed in (1, 1, *range(2, 12))
    ]
    assert np.array_equal(results[0], results[1])
    assert len({result.tobytes() for result in results}) > 8
    assert all(result.dtype == np.uint8 and result.shape == image.shape for result in results)


def test_nothing_changes_at_strength_0_and_the_image_itself_never():
    image = picture()
    before = image.copy()
    for seed in range(20):
        assert np.array_equal(change_colours(image, np.random.default_rng(seed), strength=0.0), before)
        change_colours(image, np.random.default_rng(seed), strength=1.0)
    assert np.array_equal(image, before)


def test_as_many_random_numbers_whatever_is_changed():
    after = set()
    for strength in (0.01, 1.0):
        rng = np.random.default_rng(3)
        change_colours(picture(), rng, strength=strength)
        after.add(rng.random())
    assert len(after) == 1


def test_some_pictures_turn_grey_and_most_keep_their_colours():
    flat = np.full((4, 4, 3), (200, 60, 90), np.uint8)
    results = [change_colours(flat, np.random.default_rng(seed), strength=1.0) for seed in range(400)]
    grey = [np.ptp(result[0, 0].astype(int)) <= 1 for result in results]
    assert 0.02 < np.mean(grey) < 0.09
    hues = [
        cv2.cvtColor(result, cv2.COLOR_RGB2HSV)[0, 0, 0]
        for result, g in zip(results, grey, strict=True)
        if not g
    ]
    assert len(set(hues)) > 15
