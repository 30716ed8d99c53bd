import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import complete_box_iou_loss, generalized_box_iou, generalized_box_iou_loss

from trivet.geometry import boxes

corner = st.floats(-50, 600, width=32)
side = st.floats(1, 400, width=32)
box = st.tuples(corner, corner, side, side).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
many = st.lists(box, min_size=1, max_size=12).map(torch.tensor)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (boxes.xywh_from_xyxy, boxes.xyxy_from_xywh),
        (boxes.cxcywh_from_xyxy, boxes.xyxy_from_cxcywh),
    ],
)
@given(given=many)
def test_conversions_are_inverse(there, back, given):
    torch.testing.assert_close(back(there(given)), given, atol=1e-3, rtol=1e-5)


def test_conversions_have_the_values_their_names_say():
    corners = torch.tensor([[10.0, 20.0, 40.0, 100.0]])
    assert boxes.xywh_from_xyxy(corners).tolist() == [[10, 20, 30, 80]]
    assert boxes.cxcywh_from_xyxy(corners).tolist() == [[25, 60, 30, 80]]
    assert boxes.areas(corners).tolist() == [2400]


@pytest.mark.parametrize("function", [boxes.pairwise_iou, boxes.pairwise_giou])
def test_pairwise_overlap_of_no_boxes_is_empty(function):
    assert function(torch.zeros(0, 4), torch.ones(3, 4)).shape == (0, 3)


def test_overlap_of_known_boxes():
    first = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 1.0, 1.0]])
    second = torch.tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 3.0, 1.0]])
    torch.testing.assert_close(boxes.matched_iou(first, second), torch.tensor([1 / 3, 1.0, 0.0]))
    torch.testing.assert_close(boxes.matched_giou(first, second), torch.tensor([1 / 3, 1.0, -1 / 3]))
    assert boxes.matched_ciou(first, second)[1] == 1


@given(first=many, second=many)
def test_pairwise_giou_equals_torchvision(first, second):
    torch.testing.assert_close(
        boxes.pairwise_giou(first, second), generalized_box_iou(first, second), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(boxes.matched_giou, generalized_box_iou_loss), (boxes.matched_ciou, complete_box_iou_loss)],
)
def test_matched_losses_and_their_gradients_equal_torchvision(ours, theirs):
    torch.manual_seed(0)
    first = boxes.xyxy_from_xywh(torch.rand(40, 4) * 50 + 1).double()
    second = boxes.xyxy_from_xywh(torch.rand(40, 4) * 50 + 1).double()
    mine, other = first.clone().requires_grad_(), first.clone().requires_grad_()
    loss, oracle = 1 - ours(mine, second), theirs(other, second)
    torch.testing.assert_close(loss, oracle, atol=1e-6, rtol=1e-6)
    loss.sum().backward()
    oracle.sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("function", [boxes.matched_giou, boxes.matched_ciou])
def test_boxes_without_area_give_finite_overlaps(function):
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]], requires_grad=True)
    value = function(point, torch.tensor([[3.0, 3.0, 3.0, 3.0]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert point.grad.isfinite().all()


@given(given=many)
def test_clipped_boxes_lie_inside(given):
    cut = boxes.clip(given, (300, 400))
    assert (cut >= 0).all()
    assert (cut[:, [0, 2]] <= 400).all()
    assert (cut[:, [1, 3]] <= 300).all()


def test_reach_into_says_which_boxes_can_be_seen():
    given = torch.tensor(
        [[-5.0, 0, 5, 5], [-5, 0, 0, 5], [3, 3, 3, 9], [399, 299, 500, 500], [400, 0, 500, 9]]
    )
    assert boxes.reach_into(given, (300, 400)).tolist() == [True, False, False, True, False]
