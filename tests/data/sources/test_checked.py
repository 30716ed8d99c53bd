import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.data.sources.checked import ROUNDING, to_dataset
from trivet.data.sources.folder import Folder
from trivet.data.sources.found import Found
from trivet.structures import LabelMap

coordinate = st.one_of(
    st.floats(-200, 200, width=32),
    st.sampled_from([0.0, 64.0, 48.0, -1.0, np.nan, np.inf, -np.inf, 1e300, -0.01, 64.01]),
)
boxes = st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=12)


def found_of(rows, *, normalised=False, images=2):
    count = len(rows)
    return Found(
        split="train",
        names=[f"{i}.jpg" for i in range(images)],
        files=["a.json"],
        image_ids=np.arange(images),
        sizes_hw=np.tile(np.array([[48, 64]], np.int32), (images, 1)),
        image_index=np.arange(count) % images,
        boxes_xyxy=np.array(rows, np.float64).reshape(-1, 4),
        labels=np.zeros(count, np.int64),
        crowd=np.zeros(count, bool),
        areas=np.full(count, np.nan),
        where=np.arange(count),
        where_word="row",
        normalised=normalised,
    )


def checked(found, tmp_path):
    return to_dataset(found, Folder(tmp_path), LabelMap.from_names(["a"]), check="none")


@settings(max_examples=200)
@given(boxes)
def test_what_is_kept_is_sound_and_what_is_not_is_named(tmp_path_factory, rows):
    dataset = checked(found_of(rows), tmp_path_factory.getbasetemp())
    kept = dataset.truth.boxes_xyxy
    assert np.isfinite(kept).all()
    assert (kept[:, 2:] > kept[:, :2]).all()
    assert (kept >= 0).all()
    assert (kept <= [64, 48, 64, 48]).all()
    assert (dataset.truth.areas > 0).all()
    named = [found for found in dataset.problems if found.action == "skipped box"]
    assert len(kept) + len(named) == len(rows)
    assert int(dataset.truth.offsets[-1]) == len(kept)


def test_rounding_is_clipped_without_a_word(tmp_path):
    dataset = checked(found_of([(-ROUNDING / 2, 0, 64 + ROUNDING / 2, 48)]), tmp_path)
    assert dataset.truth.boxes_xyxy.tolist() == [[0, 0, 64, 48]]
    assert dataset.problems == ()


def test_shares_are_scaled_by_each_images_own_size(tmp_path):
    found = found_of([(0.25, 0.5, 0.75, 1.0)], normalised=True)
    assert checked(found, tmp_path).truth.boxes_xyxy.tolist() == [[16, 24, 48, 48]]


def test_no_boxes_and_no_images_are_fine(tmp_path):
    assert len(checked(found_of([]), tmp_path).truth.labels) == 0
    assert len(checked(found_of([], images=0), tmp_path)) == 0
