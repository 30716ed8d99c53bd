"""YOLOv4's assignment against its rule written as loops, object by object and anchor by anchor."""

import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.geometry.grid import AnchorGrid
from trivet.geometry.pixel_anchors import PixelAnchors
from trivet.models.heads.yolo import COCO_ANCHORS
from trivet.tasks.assign.shape_iou import ShapeIou
from trivet.tasks.truth import join_truth

ANCHORS = PixelAnchors(3, tuple(COCO_ANCHORS[i : i + 3] for i in (0, 3, 6)), (1.2, 1.1, 1.05))
SIZE = (160, 224)
GRID = AnchorGrid.of_input(ANCHORS, SIZE)


def join(batch, classes=4):
    return join_truth(batch.targets, batch.names, classes, torch.device("cpu"))


def by_loops(truth, threshold):
    """Anchor number -> [(IoU of shapes, object)]; darknet's rule in float64."""
    found = {}
    for row, box in enumerate(truth.boxes_xyxy.double().tolist()):
        x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
        overlaps = []
        for anchor_w, anchor_h in COCO_ANCHORS:
            shared = min(w, anchor_w) * min(h, anchor_h)
            overlaps.append(shared / (w * h + anchor_w * anchor_h - shared))
        best = max(range(9), key=lambda n: overlaps[n])
        for n in range(9):
            if n == best or overlaps[n] > threshold:
                level, slot = n // 3, n % 3
                rows, columns = GRID.feature_hw[level]
                i = min(int(x / SIZE[1] * columns), columns - 1)
                j = min(int(y / SIZE[0] * rows), rows - 1)
                number = (
                    int(truth.image[row]) * GRID.count + GRID.starts[level] + (j * columns + i) * 3 + slot
                )
                found.setdefault(number, []).append((overlaps[n], row))
    return found


@pytest.mark.parametrize("threshold", [0.213, 0.6, 1.0])
@pytest.mark.parametrize("counts", [[0], [1], [5, 0, 9], [40, 3]])
def test_is_the_rule_object_by_object(make, counts, threshold):
    truth = join(make.random_batch(SIZE, counts, 4))
    assigned = ShapeIou(threshold)(truth, GRID)
    wanted = by_loops(truth, threshold)
    assert sorted(assigned.anchors.tolist()) == sorted(wanted)
    for number, box in zip(assigned.anchors.tolist(), assigned.boxes_xyxy, strict=True):
        _, best = max(wanted[number], key=lambda pair: pair[0])
        assert torch.equal(box, truth.boxes_xyxy[best])
    pairs = {(n, int(truth.labels[row])) for n, hits in wanted.items() for _, row in hits}
    assert sorted(
        zip(assigned.class_anchors.tolist(), assigned.class_labels.tolist(), strict=True)
    ) == sorted(pairs)


def test_an_object_always_trains_its_best_anchor(make):
    truth = join(make.batch(SIZE, [(torch.tensor([[0.0, 0.0, 224.0, 2.0]]), torch.tensor([1]))]))
    assigned = ShapeIou()(truth, GRID)
    assert len(assigned.anchors) == 1
    assert assigned.class_labels.tolist() == [1]


def test_two_objects_of_one_place_share_its_anchors(make):
    boxes = torch.tensor([[40.0, 40.0, 76.0, 115.0], [41.0, 41.0, 75.0, 114.0]])
    assigned = ShapeIou(0.9)(join(make.batch(SIZE, [(boxes, torch.tensor([0, 3]))])), GRID)
    assert len(assigned.anchors) == 1
    assert torch.equal(assigned.boxes_xyxy[0], boxes[0])  # 36 x 75 is the anchor itself
    assert assigned.class_labels.tolist() == [0, 3]


def test_an_object_outside_trains_nothing(make):
    boxes = torch.tensor([[300.0, 10.0, 340.0, 50.0], [10.0, 10.0, 10.0, 30.0]])
    assigned = ShapeIou()(join(make.batch(SIZE, [(boxes, torch.tensor([0, 1]))])), GRID)
    assert len(assigned.anchors) == len(assigned.class_labels) == 0


def test_a_centre_beyond_the_border_counts_for_the_last_cell(make):
    boxes = torch.tensor([[200.0, 100.0, 300.0, 260.0]])
    assigned = ShapeIou()(join(make.batch(SIZE, [(boxes, torch.tensor([0]))])), GRID)
    for level, rows in enumerate(GRID.by_level(assigned.anchors)):
        at = GRID.cells(level, assigned.anchors[rows])
        assert set(at.x.tolist()) <= {GRID.feature_hw[level][1] - 1}
        assert set(at.y.tolist()) <= {GRID.feature_hw[level][0] - 1}


def test_serves_anchors_in_strides_too(make):
    grid = AnchorGrid.of_input(AnchorSpec(), SIZE)
    truth = join(make.random_batch(SIZE, [6, 2], 4))
    assigned = ShapeIou()(truth, grid)
    assert len(assigned.anchors.unique()) == len(assigned.anchors) > 0


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_refuses_a_threshold_that_means_nothing(threshold):
    with pytest.raises(UsageError, match=r"threshold in \(0, 1\], got"):
        ShapeIou(threshold)
