import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from trivet.report.contents import Picture
from trivet.report.pictures import data_uri, drawn
from trivet.structures import BoxTarget, ClassScores, Detections

NOISE = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head in ("data:image/jpeg;base64", "data:image/png;base64")
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("most_bytes", [5_000, 60_000, 400_000])
def test_a_picture_stays_within_its_bytes(most_bytes):
    uri = data_uri(NOISE, most_bytes=most_bytes)
    assert len(uri) <= most_bytes
    picture = opened(uri)
    assert picture.width / picture.height == pytest.approx(4 / 3, rel=0.05)


def test_a_small_picture_keeps_its_pixels():
    image = np.full((10, 20, 3), (200, 30, 90), np.uint8)
    np.testing.assert_allclose(np.asarray(opened(data_uri(image, most_bytes=100_000))), image, atol=4)


def test_a_drawn_picture_is_shrunk_with_its_boxes():
    image = np.full((1200, 1600, 3), 128, np.uint8)
    truth = BoxTarget(torch.tensor([[400.0, 400, 1200, 800], [0, 0, 99, 99]]), torch.tensor([0, 1]))
    found = Detections(torch.tensor([[404.0, 404, 1200, 800]]), torch.tensor([0.9]), torch.tensor([0]))
    picture = drawn(Picture(image, "c", "worst", truth, found), ["a", "b"], most_bytes=400_000)
    assert (picture.width, picture.height) == (640, 480)
    assert [panel.which for panel in picture.panels] == ["Truth, 2", "Prediction, 1; dashed: 1 missed"]
    assert picture.legend == (("#56b4e9", "A", "a"), ("#e69f00", "B", "b"))
    pixels = np.asarray(opened(picture.panels[1].uri)).astype(int)
    assert abs(pixels[300, 320] - 128).max() < 10  # inside the box
    assert abs(pixels[319, 320] - 128).max() > 40  # its lower edge, 800 * 0.4


def test_a_picture_without_objects_can_be_shown():
    nothing = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    picture = drawn(Picture(NOISE, "c", "typical", nothing, Detections.empty()), ["a"], most_bytes=100_000)
    assert picture.panels[1].which == "Prediction, 0"


def test_masks_are_drawn_in_four_panels_of_one_size():
    truth, found = np.zeros((900, 1200), np.uint8), np.zeros((900, 1200), np.uint8)
    found[:, 600:], truth[:90] = 1, 255
    picture = drawn(Picture(NOISE, "c", "worst", truth, found), ["a", "b"], most_bytes=240_000)
    assert [panel.which for panel in picture.panels] == ["Image", "Truth", "Prediction", "Mistakes, 50.0%"]
    assert {opened(panel.uri).size for panel in picture.panels} <= {(640, 480), (480, 360), (360, 270)}
    assert sum(len(panel.uri) for panel in picture.panels) <= 240_000
    assert [entry.name for entry in picture.legend] == ["a", "b", "wrong", "void, not scored"]


def test_a_small_mask_is_enlarged_each_pixel_to_a_square():
    image, mask = np.zeros((8, 10, 3), np.uint8), np.zeros((8, 10), np.uint8)
    image[2, 3] = 255
    picture = drawn(Picture(image, "c", "worst", mask, mask), ["a"], most_bytes=400_000)
    assert (picture.width, picture.height) == (320, 256)
    bright = np.asarray(opened(picture.panels[0].uri)).min(axis=2) > 128
    assert bright[64:96, 96:128].mean() > 0.98
    assert bright.sum() == pytest.approx(32 * 32, rel=0.05)


def test_a_class_is_shown_with_its_score_and_the_truth():
    scores = ClassScores(torch.tensor([0.25, 0.75]))
    picture = drawn(Picture(NOISE[:20, :32], "c", "worst", 0, scores), ["cat", "dog"], most_bytes=9000)
    assert picture.panels[0].which == "dog 0.75; is cat 0.25"
    assert (picture.width, picture.height, picture.crisp) == (160, 100, True)
    np.testing.assert_array_equal(np.asarray(opened(picture.panels[0].uri)), NOISE[:20, :32])
    right = drawn(Picture(NOISE, "c", "worst", 1, scores), ["cat", "dog"], most_bytes=20_000)
    assert right.panels[0].which == "dog 0.75"
    assert (right.width, right.height, right.crisp) == (160, 120, False)
