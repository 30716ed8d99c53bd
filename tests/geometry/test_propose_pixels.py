import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.propose_pixels import propose_shapes, shape_iou

PUBLISHED = ((12.0, 16.0), (19.0, 36.0), (40.0, 28.0))


def clustered(*centres, each=50):
    torch.manual_seed(0)
    return torch.cat([torch.tensor(centre) * (1 + 0.05 * torch.randn(each, 2)) for centre in centres])


def test_finds_the_shapes_there_are_smallest_first():
    found = propose_shapes(clustered((200.0, 60.0), (40.0, 400.0), (20.0, 20.0)), PUBLISHED)
    for shape, wanted in zip(found.shapes, ((20, 20), (200, 60), (40, 400)), strict=True):
        assert shape == pytest.approx(wanted, rel=0.05)
    assert found.after > 0.9 > found.before
    assert "clusters of the boxes with 0.9" in found.reason


def test_keeps_anchors_that_fit():
    found = propose_shapes(clustered(*PUBLISHED), PUBLISHED)
    assert found.shapes == PUBLISHED
    assert found.before == found.after
    assert "clusters" not in found.reason


def test_repeats_and_does_not_depend_on_the_order():
    boxes = torch.rand(300, 2) * 200 + 5
    assert propose_shapes(boxes, PUBLISHED) == propose_shapes(boxes.flip(0), PUBLISHED)


def test_fewer_boxes_than_anchors():
    found = propose_shapes(torch.tensor([[300.0, 10.0]]), PUBLISHED)
    assert found.shapes == ((300.0, 10.0),) * 3


def test_shape_iou_is_that_of_boxes_with_one_centre():
    first, second = torch.rand(7, 2) * 50 + 1, torch.rand(4, 2) * 50 + 1
    corners = [torch.cat([-sides / 2, sides / 2], dim=1) for sides in (first, second)]
    torch.testing.assert_close(shape_iou(first, second), pairwise_iou(*corners))


@pytest.mark.parametrize(
    "boxes", [torch.zeros(0, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, torch.nan]])]
)
def test_refuses_boxes_without_sides(boxes):
    with pytest.raises(UsageError, match="finite widths and heights above 0"):
        propose_shapes(boxes, PUBLISHED)
