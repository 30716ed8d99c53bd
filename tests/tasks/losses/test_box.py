import pytest
import torch

from trivet.errors import UsageError
from trivet.geometry.box_code import encode
from trivet.tasks.losses import BOX_LOSSES, build_box_loss
from trivet.tasks.losses.box import HuberLoss


def pairs(count: int = 12, dtype=torch.float32):
    torch.manual_seed(0)
    left_top = torch.rand(2, count, 2, dtype=dtype) * 40
    return torch.cat([left_top, left_top + 20 + torch.rand(2, count, 2, dtype=dtype) * 20], dim=-1).unbind()


@pytest.fixture(params=sorted(BOX_LOSSES))
def loss(request):
    return build_box_loss(request.param)


def test_a_perfect_box_costs_nothing(loss):
    anchors, boxes = pairs()
    assert float(loss(encode(boxes, anchors), anchors, boxes)) == pytest.approx(0, abs=1e-4)


def test_a_worse_box_costs_more(loss):
    anchors, boxes = pairs()
    codes = encode(boxes, anchors)
    costs = [float(loss(codes + shift, anchors, boxes)) for shift in (0.0, 0.1, 0.5)]
    assert costs == sorted(costs)
    assert costs[0] < costs[1] < costs[2]


def test_no_boxes_cost_nothing_and_can_be_differentiated(loss):
    codes = torch.zeros(0, 4, requires_grad=True)
    cost = loss(codes, torch.zeros(0, 4), torch.zeros(0, 4))
    cost.backward()
    assert float(cost.detach()) == 0


@pytest.mark.parametrize("name", sorted(BOX_LOSSES.keys() - {"ciou"}))
def test_gradients_are_those_of_the_value(name):
    """All but CIoU's, whose trade-off weight is a constant by definition (see test_boxes for its gradient)."""
    anchors, boxes = pairs(3, torch.float64)
    codes = (encode(boxes, anchors) + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: build_box_loss(name)(x, anchors, boxes), codes)


def test_wild_codes_stay_finite(loss):
    anchors, boxes = pairs(1)
    codes = torch.tensor([[50.0, -50.0, 300.0, -300.0]], requires_grad=True)
    cost = loss(codes, anchors, boxes)
    cost.backward()
    assert cost.isfinite()
    assert codes.grad.isfinite().all()


@pytest.mark.parametrize("skip", [True, False])
def test_huber_equals_effdet_but_for_its_mask(effdet, skip):
    anchors, boxes = pairs()
    boxes = torch.cat([boxes, anchors[:3]])  # three objects exactly on their anchors
    anchors = torch.cat([anchors, anchors[:3]])
    codes = torch.randn(15, 4)
    targets = encode(boxes, anchors)
    weights = (targets != 0) if skip else torch.ones_like(targets)
    theirs = effdet.loss.huber_loss(codes, targets, delta=0.1, weights=weights, size_average=False) / 4
    torch.testing.assert_close(HuberLoss(skip_zero_targets=skip)(codes, anchors, boxes), theirs)


def test_unknown_box_loss():
    with pytest.raises(UsageError, match="unknown box loss 'huger'; did you mean 'huber'"):
        build_box_loss("huger")
