import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec, anchors_xyxy
from trivet.geometry.boxes import pairwise_iou
from trivet.geometry.coverage import best_iou, measure_coverage


def random_boxes(count: int, size_hw: tuple[int, int]) -> torch.Tensor:
    torch.manual_seed(count)
    centre = torch.rand(count, 2) * torch.tensor([size_hw[1], size_hw[0]])
    half = (torch.rand(count, 2) * 5).exp()
    return torch.cat([centre - half, centre + half], dim=1)


@pytest.mark.parametrize("size_hw", [(320, 320), (200, 333), (64, 500)])
def test_best_iou_equals_the_comparison_with_every_anchor(size_hw):
    boxes = random_boxes(200, size_hw)
    brute = pairwise_iou(boxes, anchors_xyxy(AnchorSpec(), size_hw)).amax(dim=1)
    torch.testing.assert_close(best_iou(AnchorSpec(), size_hw, boxes), brute, atol=1e-5, rtol=0)


def test_many_boxes_are_measured_in_parts():
    boxes = random_boxes(300, (128, 128)).repeat(100, 1)
    whole = best_iou(AnchorSpec(), (128, 128), boxes)
    torch.testing.assert_close(whole[:300], best_iou(AnchorSpec(), (128, 128), boxes[:300]))
    torch.testing.assert_close(whole[-300:], whole[:300])


@pytest.mark.parametrize(("side", "best"), [(8, 0.06), (16, 0.25), (20, 0.39), (24, 0.56), (32, 1.0)])
def test_small_squares_have_the_known_best_anchors(side, best):
    """A square that sits on a cell's centre; the smallest anchor of scale 4 is 32 pixels."""
    box = torch.tensor([[100.0 - side / 2, 100.0 - side / 2, 100.0 + side / 2, 100.0 + side / 2]])
    assert float(best_iou(AnchorSpec(), (512, 512), box)[0]) == pytest.approx(best, abs=0.01)


def test_coverage_by_size():
    small, medium = torch.tensor([[100.0, 100, 110, 110]]), torch.tensor([[84.0, 84, 116, 116]])
    coverage = measure_coverage(AnchorSpec(), (512, 512), torch.cat([small, small, medium]))
    assert coverage.boxes == 3
    assert coverage.share == pytest.approx(1 / 3)
    assert (coverage.by_size["small"].boxes, coverage.by_size["small"].share) == (2, 0)
    assert (coverage.by_size["medium"].boxes, coverage.by_size["medium"].share) == (1, 1)
    assert (coverage.by_size["large"].boxes, coverage.by_size["large"].share) == (0, 1)


def test_coverage_of_nothing_is_refused():
    with pytest.raises(UsageError, match="at least one box"):
        measure_coverage(AnchorSpec(), (64, 64), torch.zeros(0, 4))
