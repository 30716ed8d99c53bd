"""Overlapping outlines: which pixels depend on the order, by image, pair and rule."""

from dataclasses import replace

import numpy as np
import pytest

from trivet.data.mask_shapes import ShapeMasks
from trivet.data.order_dependence import contested_picture, contested_pixels, order_dependence
from trivet.data.sources import read_dataset
from trivet.data.sources.shape_rows import ShapeRows
from trivet.errors import UsageError
from trivet.structures import IGNORE_LABEL


def square(left, top, side):
    return [float(c) for c in (left, top, left + side, top, left + side, top + side, left, top + side)]


def masks_of(*images, size_hw=(40, 50)):
    """Masks of images given as lists of (label, square)."""
    rows = ShapeRows()
    for image, shapes in enumerate(images):
        for label, outline in shapes:
            rows.add_polygons(image, [outline], label=label, size_hw=size_hw, area=None)
    return ShapeMasks(rows.shapes(len(images)), np.tile(np.int32(size_hw), (len(images), 1)), background=0)


@pytest.fixture
def dataset(digits):
    train = read_dataset(digits, task="segmentation").train.take([0, 1, 2])
    first = [(1, square(0, 0, 20)), (2, square(10, 10, 20))]  # 10 x 10 pixels of both
    second = [(1, square(0, 0, 20)), (1, square(10, 10, 20))]  # one class: nothing to decide
    third = [(3, square(0, 0, 10)), (2, square(5, 5, 10)), (1, square(5, 0, 10))]
    return replace(train, masks=masks_of(first, second, third))


def test_counts(dataset):
    found = order_dependence(dataset)
    assert found.contested.tolist() == [100, 0, 75]
    assert found.pixels.tolist() == [2000] * 3
    assert found.by_pair == {(1, 2): 100 + 50, (1, 3): 50, (2, 3): 25}
    assert found.share == 175 / 6000
    assert found.worst() == [0, 2]
    # Equal areas: the later outline is on top; by id the higher one.
    assert found.between["small-on-top", "highest-id"].tolist() == [0, 0, 75]


def test_shapes_that_touch_without_a_common_pixel_do_not_count(dataset):
    beside = [(1, square(0, 0, 10)), (2, square(10, 0, 10)), (2, square(0, 10, 10)), (1, [0.0] * 6)]
    assert order_dependence(replace(dataset.take([0]), masks=masks_of(beside))).contested.tolist() == [0]


def test_pictures_of_the_worst(dataset):
    assert contested_pixels(dataset, 0).sum() == 100
    assert contested_pixels(dataset, 0)[10:20, 10:20].all()


def test_the_picture_shows_the_image_darkened(shared_data):
    train = read_dataset(shared_data / "trash_competition_sample", task="segmentation").train
    picture, image = contested_picture(train, 0), train.image(0)
    contested = contested_pixels(train, 0)
    assert (picture[~contested] == image[~contested] // 2).all()
    assert (picture[contested][:, 0] >= 191).all()


def test_ignored_boxes_do_not_count(dataset):
    rows = ShapeRows()
    rows.add_polygons(0, [square(0, 0, 20)], label=1, size_hw=(40, 50), area=None)
    rows.add_ignored_box(0, (10.0, 10.0, 30.0, 30.0), size_hw=(40, 50))
    masks = ShapeMasks(rows.shapes(1), np.int32([[40, 50]]), background=0)
    assert order_dependence(replace(dataset.take([0]), masks=masks)).contested.tolist() == [0]
    assert (masks[0] == IGNORE_LABEL).sum() == 300


def test_files_of_masks_have_no_order(digits):
    with pytest.raises(UsageError, match="the truth is MaskFiles"):
        order_dependence(read_dataset(digits, task="segmentation").train)


@pytest.mark.slow
def test_the_competition_sample(shared_data):
    """Max-id against area: 0.07 % of pixels on average, 2.3 % at most; the first polygon's length: 0.12 %."""
    train = read_dataset(shared_data / "trash_competition_sample", task="segmentation").train
    found = order_dependence(train)
    by_id = found.between["small-on-top", "highest-id"] / found.pixels
    assert by_id.mean() == pytest.approx(0.0007, abs=0.00005)
    assert by_id.max() == pytest.approx(0.023, abs=0.0005)
    by_length = found.between["small-on-top", "longest-first"] / found.pixels
    assert by_length.mean() == pytest.approx(0.0012, abs=0.00005)


def test_taking_images_takes_their_shapes():
    masks = masks_of([(1, square(0, 0, 4))], [], [(2, square(8, 8, 4)), (3, square(20, 20, 4))])
    taken = masks.take(np.array([2, 0, 1, 2]))
    assert [sorted(set(taken[i].ravel().tolist())) for i in range(4)] == [[0, 2, 3], [0, 1], [0], [0, 2, 3]]
    for place, image in enumerate([2, 0, 1, 2]):
        np.testing.assert_array_equal(taken[place], masks[image])
