import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from trivet.report.contents import Picture
from trivet.report.pictures import data_uri, drawn
from trivet.structures import BoxTarget, Detections

NOISE = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
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
    assert (picture.truths, picture.predictions, picture.missed) == (2, 1, 1)
    assert picture.legend == (("#56b4e9", "A", "a"), ("#e69f00", "B", "b"))
    pixels = np.asarray(opened(picture.prediction_uri)).astype(int)
    assert abs(pixels[300, 320] - 128).max() < 10  # inside the box
    assert abs(pixels[319, 320] - 128).max() > 40  # its lower edge, 800 * 0.4


def test_a_picture_without_objects_can_be_shown():
    nothing = BoxTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    picture = drawn(Picture(NOISE, "c", "typical", nothing, Detections.empty()), ["a"], most_bytes=100_000)
    assert picture.missed == 0
