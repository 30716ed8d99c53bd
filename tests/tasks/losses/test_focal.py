from contextlib import nullcontext

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from trivet.errors import UsageError
from trivet.memory.ledger import Ledger
from trivet.memory.step import FakeTensors
from trivet.memory.tracker import Tracker
from trivet.tasks.losses import CLASS_LOSSES, build_class_loss
from trivet.tasks.losses.focal import CACHED, LARGE, FocalLoss, as_elsewhere

NONE = (torch.zeros(0, dtype=torch.int64),) * 4


def case(dtype=torch.float32, spread: float = 3.0, shape=(2, 6, 5, 7), count: int = 9):
    torch.manual_seed(0)
    logits = (torch.randn(shape) * spread).to(dtype).requires_grad_()
    flat = torch.randperm(logits.numel())[:count]
    positives = torch.unravel_index(flat, shape)
    targets = torch.zeros(shape)
    targets[positives] = 1
    return logits, positives, targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 1.5), (0.5, 2.0), (0.9, 1.0)])
def test_value_and_gradient_equal_effdet(effdet, alpha, gamma, smoothing):
    logits, positives, targets = case()
    ours = FocalLoss(alpha, gamma, smoothing)(logits, positives)
    (gradient,) = torch.autograd.grad(ours, logits)
    theirs = effdet.loss.new_focal_loss(logits, targets, alpha, gamma, 1.0, smoothing).sum()
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_without_smoothing_it_is_the_legacy_variant_too(effdet):
    logits, positives, targets = case()
    theirs = effdet.loss.focal_loss_legacy(logits, targets, 0.25, 1.5, 1.0).sum()
    torch.testing.assert_close(FocalLoss()(logits, positives), theirs, rtol=1e-5, atol=1e-5)


def test_equal_to_torchvision_at_retinanets_settings():
    logits, positives, targets = case()
    theirs = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0, reduction="sum")
    torch.testing.assert_close(FocalLoss(0.25, 2.0)(logits, positives), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0, 2.7])
def test_gradient_is_that_of_the_value(gamma, smoothing):
    logits, positives, _ = case(torch.float64, shape=(1, 4, 3, 3), count=4)
    loss = FocalLoss(0.25, gamma, smoothing)
    assert torch.autograd.gradcheck(lambda x: loss(x, positives) * 3, logits)


def test_more_logits_than_one_piece(effdet):
    logits, positives, targets = case(shape=(2, 90, 41, 37))
    ours, theirs = (
        FocalLoss()(logits, positives),
        effdet.loss.new_focal_loss(logits, targets, 0.25, 1.5, 1.0, 0.0).sum(),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits)[0], torch.autograd.grad(theirs, logits)[0], rtol=1e-5, atol=1e-6
    )


def test_memory_layout_does_not_matter():
    logits, positives, _ = case()
    turned = logits.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    strided = logits.detach().repeat(1, 1, 1, 2)[..., ::1][..., :7].requires_grad_()
    results = []
    for values in (logits, turned, strided):
        loss = FocalLoss()(values, positives)
        results.append((loss.detach(), torch.autograd.grad(loss, values)[0]))
    for loss, gradient in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(gradient, results[0][1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    logits, positives, _ = case(dtype)
    loss = FocalLoss()(logits, positives)
    (gradient,) = torch.autograd.grad(loss, logits)
    exact = FocalLoss()(logits.detach().float(), positives)
    assert loss.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(loss, exact)


@pytest.mark.parametrize("value", [-1e4, -100.0, 100.0, 1e4])
def test_extreme_logits_stay_finite(value):
    logits = torch.full((1, 1, 1, 2), value, requires_grad=True)
    at = tuple(torch.zeros(1, dtype=torch.int64) for _ in range(4))
    loss = FocalLoss(smoothing=0.1)(logits, at)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_gradient_can_be_taken_twice_and_scaled():
    logits, positives, _ = case()
    loss = FocalLoss()(logits, positives)
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (again,) = torch.autograd.grad(loss * 2, logits)
    torch.testing.assert_close(again, once * 2)


def test_no_positives_leave_only_negatives():
    logits, _, _ = case()
    theirs = sigmoid_focal_loss(logits, torch.zeros_like(logits), alpha=0.25, gamma=1.5, reduction="sum")
    torch.testing.assert_close(FocalLoss()(logits, NONE), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"alpha": 0.0}, "alpha=0.0"), ({"gamma": 0.5}, "gamma=0.5"), ({"smoothing": 1.0}, "smoothing=1.0")],
)
def test_numbers_out_of_range_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        FocalLoss(**values)


@pytest.mark.parametrize("name", sorted(CLASS_LOSSES))
def test_every_class_loss_rewards_being_right(name):
    _, positives, targets = case()
    loss = build_class_loss(name)
    right, wrong = targets * 8 - 4, 4 - targets * 8
    assert loss(right, positives) < loss(torch.zeros_like(right), positives) < loss(wrong, positives)


def test_unknown_class_loss():
    with pytest.raises(UsageError, match="unknown class loss 'focus'; did you mean 'focal'"):
        build_class_loss("focus")


@pytest.mark.parametrize(("elsewhere", "piece"), [(False, CACHED), (True, LARGE)])
def test_beside_the_gradient_there_are_maps_of_one_piece_only(elsewhere, piece):
    ledger = Ledger(1)
    with FakeTensors(), as_elsewhere() if elsewhere else nullcontext():
        logits = torch.empty(4, 90, 256, 256, requires_grad=True)
        with Tracker(ledger, torch.nn.Identity()):
            FocalLoss()(logits, NONE)
    sizes = sorted((storage.size for storage in ledger.storages), reverse=True)
    assert sizes[:2] == [4 * logits.numel()] * 2  # the logits and their gradient
    assert sizes[2] == 4 * piece
