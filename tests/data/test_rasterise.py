"""Outlines -> pixels: equal to pycocotools' to the pixel."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from trivet.data.rasterise import polygon_patch, rasterise, read_runs, runs_patch, to_fifths
from trivet.errors import DataError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools' own


def by_pycocotools(polygon, size_hw):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([list(polygon)], *size_hw))).astype(bool)


def runs_of(covered):
    """Uncompressed run lengths, column after column."""
    flat = np.concatenate([[False], covered.T.ravel(), [False]])
    if not covered.any():
        return [covered.size]
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = [*changes.tolist()] + ([covered.size] if changes[-1] != covered.size else [])
    return np.diff([0, *ends]).tolist()


class TestPolygons:
    @given(
        st.integers(1, 40),
        st.integers(1, 40),
        st.lists(st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5)), min_size=3, max_size=9),
        st.sampled_from([0, 1, 2, None]),
    )
    @settings(max_examples=100)
    def test_equal_to_pycocotools(self, height, width, points, decimals):
        polygon = (np.array(points) * [width, height]).ravel()
        polygon = polygon if decimals is None else polygon.round(decimals)
        np.testing.assert_array_equal(
            rasterise(polygon, (height, width)), by_pycocotools(polygon, (height, width))
        )

    def test_whole_pixels_are_exact(self):
        covered = rasterise(np.float64([2, 1, 7, 1, 7, 5, 2, 5]), (8, 9))
        expected = np.zeros((8, 9), bool)
        expected[1:5, 2:7] = True
        np.testing.assert_array_equal(covered, expected)

    def test_nothing_is_left_of_what_lies_outside_or_has_no_area(self):
        assert not rasterise(np.float64([20, 20, 30, 20, 30, 30]), (8, 9)).any()
        assert not rasterise(np.float64([3, 1, 3, 5, 3, 7]), (8, 9)).any()
        assert polygon_patch(to_fifths(np.float64([[1, 1], [1, 1], [1, 1]])), (8, 9)).covered.size == 0

    def test_where_lines_cross_inside_and_outside_alternate(self):
        star = rasterise(
            np.float64([0, 0, 20, 0, 20, 20, 0, 20, 0, 0, 5, 5, 15, 5, 15, 15, 5, 15, 5, 5]), (20, 20)
        )
        assert star[1, 1]
        assert not star[10, 10]


class TestRuns:
    @given(
        st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 0.9])
    )
    def test_both_spellings_of_any_mask(self, height, width, seed, share):
        covered = np.random.default_rng(seed).random((height, width)) < share
        encoded = coco_mask.encode(np.asfortranarray(covered.astype(np.uint8)))
        counts = read_runs(encoded["counts"].decode())
        np.testing.assert_array_equal(runs_patch(counts, (height, width)).covered, covered)
        assert counts.tolist() == runs_of(covered)

    def test_wrong_lengths_and_texts(self):
        with pytest.raises(DataError, match=r"run lengths of 5 pixels, and the image has 6 \(3 x 2\)"):
            runs_patch(np.array([2, 3]), (2, 3))
        with pytest.raises(DataError, match="no compressed run length"):
            read_runs("\x01\x02")
        with pytest.raises(DataError, match="no compressed run length"):
            read_runs("oo")


@pytest.mark.parametrize(
    "file",
    [
        "trash_competition_sample/val.json",
        pytest.param("trash_competition_sample/train.json", marks=pytest.mark.slow),
        pytest.param("coco128/instances_train2017.json", marks=pytest.mark.slow),
    ],
)
def test_every_annotation_of_real_data(shared_data, file):
    content = json.loads((shared_data / file).read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        size_hw, shape = sizes[annotation["image_id"]], annotation["segmentation"]
        if isinstance(shape, dict):
            encoded = coco_mask.frPyObjects(shape, *size_hw)
            np.testing.assert_array_equal(read_runs(encoded["counts"].decode()), shape["counts"])
            got, expected = runs_patch(np.array(shape["counts"]), size_hw).covered, coco_mask.decode(encoded)
        else:
            got = np.logical_or.reduce([rasterise(np.float64(polygon), size_hw) for polygon in shape])
            expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(shape, *size_hw)))
        np.testing.assert_array_equal(got, expected.astype(bool), err_msg=str(annotation["id"]))
