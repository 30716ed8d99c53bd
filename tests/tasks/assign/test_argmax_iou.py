import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.grid import AnchorGrid
from trivet.tasks.assign import argmax_iou
from trivet.tasks.assign.argmax_iou import ArgmaxIou
from trivet.tasks.truth import join_truth

SIZE = (128, 192)
SPEC = AnchorSpec()
GRID = AnchorGrid.of_input(SPEC, SIZE)
place = st.floats(-20, 180, width=32)
side = st.floats(0.5, 190, width=32)
objects = st.lists(st.tuples(place, place, side, side, st.integers(0, 3)), max_size=12)


def dense_labels(assigned, images: int) -> torch.Tensor:
    labels = torch.full((images * GRID.count,), -1)
    labels[assigned.class_anchors] = assigned.class_labels
    return labels.reshape(images, -1)


def assert_equal_to_effdet(batch, effdet_labels):
    assigned = ArgmaxIou()(join_truth(batch.targets, batch.names, 4, torch.device("cpu")), GRID)
    theirs, _, positives = effdet_labels(SPEC, SIZE, batch, 4)
    flat = torch.cat([level.flatten(1) for level in theirs], dim=1)
    expected = torch.where(flat < 0, -1, flat)
    assert torch.equal(dense_labels(assigned, len(batch)), expected)
    assert len(assigned.anchors) == int(positives.sum())


@settings(deadline=None, max_examples=30)
@given(images=st.lists(objects, min_size=1, max_size=3))
def test_equal_to_effdet_on_any_truth(images, make, effdet_labels):
    targets = []
    for rows in images:
        boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h, _ in rows]).reshape(-1, 4)
        targets.append((boxes, torch.tensor([row[4] for row in rows], dtype=torch.int64)))
    assert_equal_to_effdet(make.batch(SIZE, targets), effdet_labels)


def test_objects_compared_in_parts_give_the_same(make, effdet_labels, monkeypatch):
    monkeypatch.setattr(argmax_iou, "_MOST_PAIRS", 3 * GRID.count)
    batch = make.random_batch(SIZE, [20, 0, 7], 4)
    boxes = batch.targets[0].boxes_xyxy[[0, 0, 3, 5, 5, 5, 9, 0, 1, 19]]
    twins = make.batch(SIZE, [(boxes, torch.arange(10) % 4)])
    assert_equal_to_effdet(batch, effdet_labels)
    assert_equal_to_effdet(twins, effdet_labels)


def test_of_two_identical_boxes_only_the_first_trains(make):
    box = torch.tensor([[40.0, 40.0, 80.0, 80.0]]).repeat(2, 1)
    batch = make.batch(SIZE, [(box, torch.tensor([3, 1]))])
    assigned = ArgmaxIou()(join_truth(batch.targets, batch.names, 4, torch.device("cpu")), GRID)
    assert assigned.class_labels.unique().tolist() == [3]


@pytest.mark.parametrize("threshold", [0.4, 0.7])
def test_the_threshold_moves_how_many_are_positive(make, threshold):
    truth = join_truth(
        (batch := make.random_batch(SIZE, [6], 4)).targets, batch.names, 4, torch.device("cpu")
    )
    usual, other = ArgmaxIou()(truth, GRID), ArgmaxIou(threshold)(truth, GRID)
    assert (len(other.anchors) > len(usual.anchors)) == (threshold < 0.5)
