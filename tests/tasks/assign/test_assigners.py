"""What every assigner of the table keeps to."""

import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.grid import AnchorGrid
from trivet.tasks.assign import ASSIGNERS, build_assigner
from trivet.tasks.truth import join_truth

SIZE = (160, 224)
GRID = AnchorGrid.of_input(AnchorSpec(), SIZE)


def join(batch, classes=4):
    return join_truth(batch.targets, batch.names, classes, torch.device("cpu"))


@pytest.fixture(params=sorted(ASSIGNERS))
def assigner(request):
    return build_assigner(request.param)


@pytest.mark.parametrize("counts", [[0], [0, 0], [1], [3, 0, 7], [40]])
def test_positives_are_well_formed(assigner, make, counts):
    truth = join(make.random_batch(SIZE, counts, 4))
    assigned = assigner(truth, GRID)
    assert len(assigned.anchors.unique()) == len(assigned.anchors)
    pairs = torch.stack([assigned.class_anchors, assigned.class_labels])
    assert pairs.unique(dim=1).shape == pairs.shape
    assert assigned.class_anchors.unique().equal(assigned.anchors.sort().values)
    image = assigned.anchors // GRID.count
    for i, count in enumerate(counts):
        boxes = assigned.boxes_xyxy[image == i]
        assert (len(boxes) > 0) == (count > 0)
        assert all(any(torch.equal(box, own) for own in truth.boxes_xyxy[truth.image == i]) for box in boxes)


def test_every_anchor_with_enough_overlap_is_positive_and_labelled(assigner, make):
    truth = join(make.random_batch(SIZE, [6, 2], 4))
    assigned = assigner(truth, GRID)
    for i in range(2):
        rows = truth.image == i
        overlap = pairwise_iou(truth.boxes_xyxy[rows], GRID.anchors_xyxy()).amax(dim=0)
        expected = (overlap >= 0.5).nonzero()[:, 0] + i * GRID.count
        assert set(expected.tolist()) <= set(assigned.anchors.tolist())


def test_an_unknown_name_shows_the_known_ones():
    with pytest.raises(UsageError, match="unknown assigner 'fair'; did you mean 'fair_iou'"):
        build_assigner("fair")


def test_an_object_is_taken_as_it_is(assigner):
    assert build_assigner(assigner) is assigner
