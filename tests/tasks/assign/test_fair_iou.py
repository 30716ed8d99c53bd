import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.grid import AnchorGrid
from trivet.tasks.assign import fair_iou
from trivet.tasks.assign.argmax_iou import ArgmaxIou
from trivet.tasks.assign.fair_iou import FairIou
from trivet.tasks.truth import join_truth

SIZE = (128, 192)
GRID = AnchorGrid.of_input(AnchorSpec(), SIZE)


def assign(make, *images, assigner=None):
    batch = make.batch(
        SIZE, [(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels)) for boxes, labels in images]
    )
    return (assigner or FairIou())(join_truth(batch.targets, batch.names, 9, torch.device("cpu")), GRID)


def owners(assigned) -> set[tuple[float, ...]]:
    return {tuple(box) for box in assigned.boxes_xyxy.tolist()}


def test_two_classes_of_one_box_share_all_its_anchors(make):
    box = [40.0, 40.0, 80.0, 80.0]
    both = assign(make, ([box, box], [3, 1]))
    alone = assign(make, ([box], [3]))
    assert both.anchors.equal(alone.anchors)
    for label in (1, 3):
        assert both.class_anchors[both.class_labels == label].sort().values.equal(alone.anchors.sort().values)


def test_the_same_object_twice_counts_once(make):
    box = [40.0, 40.0, 80.0, 80.0]
    twice, once = assign(make, ([box, box], [3, 3])), assign(make, ([box], [3]))
    assert twice.class_anchors.equal(once.class_anchors)
    assert twice.class_labels.equal(once.class_labels)


def test_small_objects_that_share_a_best_anchor_both_train(make):
    """Two thin objects in one cell: neither overlaps any anchor by half, and one anchor is best for both."""
    boxes = [[63.0, 48.0, 73.0, 88.0], [63.5, 48.0, 73.5, 88.0]]
    assert owners(assign(make, (boxes, [0, 1]), assigner=ArgmaxIou())) == {tuple(boxes[0])}
    assigned = assign(make, (boxes, [0, 1]))
    assert owners(assigned) == {tuple(box) for box in boxes}
    assert sorted(assigned.class_labels.tolist()) == [0, 1]


def test_the_same_boxes_in_two_images_do_not_meet(make):
    box = [40.0, 40.0, 80.0, 80.0]
    assigned = assign(make, ([box], [3]), ([box], [1]))
    first, second = (
        assigned.anchors[assigned.anchors < GRID.count],
        assigned.anchors[assigned.anchors >= GRID.count],
    )
    assert second.equal(first + GRID.count)
    assert assigned.class_labels[assigned.class_anchors >= GRID.count].unique().tolist() == [1]


@pytest.mark.parametrize(
    "box",
    [
        [-50.0, 10.0, -5.0, 60.0],
        [192.0, 0.0, 250.0, 40.0],
        [30.0, 30.0, 30.0, 60.0],
        [50.0, 50.0, 50.0, 50.0],
    ],
)
def test_an_object_that_cannot_be_seen_trains_nothing(make, box):
    assert len(assign(make, ([box], [2])).anchors) == 0
    assert len(assign(make, ([box], [2]), assigner=ArgmaxIou()).anchors) > 0


def test_an_object_that_sticks_out_trains(make):
    assert len(assign(make, ([[-30.0, -30.0, 10.0, 10.0]], [2])).anchors) > 0


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), counts=st.lists(st.integers(0, 14), min_size=1, max_size=3))
def test_every_object_owns_an_anchor(make, seed, counts):
    batch = make.random_batch(SIZE, counts, 9, seed)
    truth = join_truth(batch.targets, batch.names, 9, torch.device("cpu"))
    assigned = FairIou()(truth, GRID)
    image = (assigned.anchors // GRID.count).tolist()
    owned = {(i, *box) for i, box in zip(image, assigned.boxes_xyxy.tolist(), strict=True)}
    assert owned == {
        (i, *box) for i, box in zip(truth.image.tolist(), truth.boxes_xyxy.tolist(), strict=True)
    }


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_objects_that_do_not_compete_train_as_in_effdet(make, seed):
    batch = make.random_batch(SIZE, [1, 1, 1, 0, 1], 9, seed)
    truth = join_truth(batch.targets, batch.names, 9, torch.device("cpu"))
    ours, theirs = FairIou()(truth, GRID), ArgmaxIou()(truth, GRID)
    extra = set(ours.anchors.tolist()) ^ set(theirs.anchors.tolist())
    # where an object overlaps several anchors equally well effdet takes any of them and we the nearest
    overlap = pairwise_iou(truth.boxes_xyxy, GRID.anchors_xyxy())
    for anchor in extra:
        row = int((truth.image == anchor // GRID.count).nonzero()[0, 0])
        assert overlap[row, anchor % GRID.count] >= overlap[row].max() - 2e-4


def test_objects_compared_in_parts_give_the_same(make, monkeypatch):
    batch = make.random_batch(SIZE, [30, 3, 0, 12], 9)
    truth = join_truth(batch.targets, batch.names, 9, torch.device("cpu"))
    whole = FairIou()(truth, GRID)
    monkeypatch.setattr(fair_iou, "_MOST_PAIRS", 1)
    parts = FairIou()(truth, GRID)
    assert parts.anchors.equal(whole.anchors)
    assert parts.boxes_xyxy.equal(whole.boxes_xyxy)
    assert parts.class_labels.equal(whole.class_labels)


def test_the_order_of_objects_does_not_matter(make):
    batch = make.random_batch(SIZE, [25], 9)
    (target,) = batch.targets
    order = torch.randperm(25)
    turned = make.batch(SIZE, [(target.boxes_xyxy[order], target.labels[order])])
    first, second = (
        FairIou()(join_truth(b.targets, b.names, 9, torch.device("cpu")), GRID) for b in (batch, turned)
    )
    assert first.anchors.equal(second.anchors)
    assert first.class_labels.equal(second.class_labels)


def test_of_equally_good_anchors_a_small_object_gets_the_nearest(make):
    """All anchors of 32 pixels that hold an object of 6 pixels overlap it alike."""
    assigned = assign(make, ([[65.0, 65.0, 71.0, 71.0]], [0]))
    centre = GRID.anchors_xyxy()[assigned.anchors].reshape(-1, 2, 2).mean(dim=1)
    torch.testing.assert_close(centre, torch.tensor([[68.0, 68.0]]))


def test_a_crowd_within_one_cell_is_served_from_its_neighbours(make):
    torch.manual_seed(0)
    corner = 64 + torch.rand(40, 2) * 4
    boxes = torch.cat([corner, corner + 5], dim=1)
    assigned = assign(make, (boxes.tolist(), [0] * 40))
    assert len(owners(assigned)) == 40
