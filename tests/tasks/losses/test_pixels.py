import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.errors import UsageError
from trivet.tasks.losses import PIXEL_LOSSES
from trivet.tasks.losses.dice import DiceLoss
from trivet.tasks.losses.lovasz import LovaszLoss
from trivet.tasks.losses.pixels import PixelCrossEntropy, PixelFocal


def case(classes: int = 4, pixels: int = 17, seed: int = 0, spread: float = 2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(classes, pixels, generator=generator, dtype=torch.float64) * spread
    return logits.requires_grad_(), torch.randint(0, classes, (pixels,), generator=generator)


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    raised = logits.detach().exp()
    return raised / raised.sum(dim=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 0.0, 1.0)])
def test_cross_entropy_is_its_definition(weights, smoothing):
    logits, labels = case()
    p, factor = probabilities(logits), weights or (1.0,) * 4
    expected = 0.0
    for i, label in enumerate(labels.tolist()):
        for c in range(4):
            target = (1 - smoothing) * (c == label) + smoothing / 4
            expected -= factor[c] * target * float(p[c, i].log())
    loss = PixelCrossEntropy(weights, smoothing)(logits, labels)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_is_its_definition(gamma):
    logits, labels = case()
    weights = (0.5, 2.0, 0.0, 1.0)
    p = probabilities(logits).gather(0, labels[None])[0]
    expected = sum(
        -weights[label] * (1 - float(q)) ** gamma * float(q.log())
        for q, label in zip(p, labels.tolist(), strict=True)
    )
    assert PixelFocal(gamma, weights)(logits, labels).item() == pytest.approx(expected, rel=1e-10)


def test_focal_without_fading_is_the_cross_entropy():
    logits, labels = case()
    torch.testing.assert_close(PixelFocal(0.0)(logits, labels), PixelCrossEntropy()(logits, labels))


def test_focal_of_certain_pixels_is_finite_with_its_gradient():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]]).requires_grad_()
    for labels in (torch.tensor([0, 1]), torch.tensor([1, 0])):
        loss = PixelFocal()(logits, labels)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_dice_is_its_definition_over_the_classes_present():
    logits, labels = case()
    labels = labels.clamp(max=2)  # class 3 is not there
    p = probabilities(logits)
    coefficients = []
    for c in range(3):
        truth = labels == c
        coefficients.append(2 * float(p[c][truth].sum()) / (float(p[c].sum()) + int(truth.sum())))
    expected = len(labels) * (1 - sum(coefficients) / 3)
    assert DiceLoss()(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def jaccard_loss(wrong: frozenset[int], truth: frozenset[int]) -> float:
    """1 - IoU of a class when these pixels are wrong: taken from it or given to it."""
    predicted = truth ^ wrong
    return 1 - len(truth & predicted) / len(truth | predicted)


def lovasz_extension(errors: list[float], truth: frozenset[int]) -> float:
    """The support function of the base polytope: the best over all orders of the pixels, as 1 - IoU is submodular."""
    values = []
    for order in itertools.permutations(range(len(errors))):
        total = 0.0
        for k, pixel in enumerate(order):
            grown, before = frozenset(order[: k + 1]), frozenset(order[:k])
            total += errors[pixel] * (jaccard_loss(grown, truth) - jaccard_loss(before, truth))
        values.append(total)
    return max(values)


@pytest.mark.parametrize("seed", range(4))
def test_lovasz_is_the_convex_extension_of_the_jaccard_loss(seed):
    logits, labels = case(3, 6, seed)
    p = probabilities(logits)
    extensions = []
    for c in sorted(set(labels.tolist())):
        truth = frozenset(i for i, label in enumerate(labels.tolist()) if label == c)
        errors = [1 - float(p[c, i]) if i in truth else float(p[c, i]) for i in range(6)]
        extensions.append(lovasz_extension(errors, truth))
    expected = 6 * sum(extensions) / len(extensions)
    assert LovaszLoss()(logits, labels).item() == pytest.approx(expected, rel=1e-12)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou(pairs):
    said, truth = (torch.tensor(column) for column in zip(*pairs, strict=True))
    logits = torch.full((3, len(pairs)), -1e3, dtype=torch.float64).scatter(0, said[None], 1e3)
    ious = [
        int(((said == c) & (truth == c)).sum()) / int(((said == c) | (truth == c)).sum())
        for c in truth.unique().tolist()
    ]
    expected = len(pairs) * (1 - sum(ious) / len(ious))
    assert float(LovaszLoss()(logits, truth)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
class TestEveryPixelLoss:
    def test_gradient_is_that_of_the_value(self, name):
        logits, labels = case(3, 7)
        assert torch.autograd.gradcheck(lambda x: PIXEL_LOSSES[name]()(x, labels), logits)

    def test_is_zero_where_all_is_right_and_positive_else(self, name):
        _, labels = case()
        right = torch.full((4, 17), -50.0).scatter(0, labels[None], 50.0)
        assert float(PIXEL_LOSSES[name]()(right, labels)) == pytest.approx(0, abs=1e-4)
        assert float(PIXEL_LOSSES[name]()(-right, labels)) > 1

    def test_the_order_of_pixels_does_not_matter(self, name):
        logits, labels = case()
        order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(
            PIXEL_LOSSES[name]()(logits[:, order], labels[order]), PIXEL_LOSSES[name]()(logits, labels)
        )

    def test_twice_the_pixels_cost_twice_as_much(self, name):
        logits, labels = case()
        twice = PIXEL_LOSSES[name]()(logits.repeat(1, 2), labels.repeat(2))
        torch.testing.assert_close(twice, 2 * PIXEL_LOSSES[name]()(logits, labels))

    def test_one_pixel_will_do(self, name):
        logits, labels = case(3, 1)
        assert PIXEL_LOSSES[name]()(logits, labels).item() > 0

    def test_steps_down_the_gradient_lower_it(self, name):
        logits, labels = case()
        loss = PIXEL_LOSSES[name]()
        first = loss(logits, labels)
        (gradient,) = torch.autograd.grad(first, logits)
        assert loss(logits - 0.01 * gradient, labels).item() < first.item()


@pytest.mark.parametrize("weights", [(1.0, -1.0), (float("nan"), 1.0), (0.0, 0.0)])
def test_faulty_class_weights_are_refused(weights):
    with pytest.raises(UsageError, match="class weights are finite, not negative and not all 0"):
        PixelCrossEntropy(weights)


@pytest.mark.parametrize("gamma", [-1.0, 0.5, float("nan")])
def test_a_faulty_gamma_is_refused(gamma):
    with pytest.raises(UsageError, match="gamma of at least 1, or 0"):
        PixelFocal(gamma)
