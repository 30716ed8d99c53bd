"""The focal loss of negatives beside its formula in float64."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.kernels.needs import needs_kernels
from trivet.models.kernels.focal import can_sum_focal, focal_sum

pytestmark = needs_kernels

GAMMAS = [1.0, 1.5, 2.0, 2.7]


def by_formula(x: torch.Tensor, gamma: float, smoothing: float) -> torch.Tensor:
    return torch.sigmoid(x) ** gamma * (F.softplus(x, threshold=1e9) - smoothing / 2 * x)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_each_logit_is_right_to_the_last_digits(gamma, smoothing):
    x = torch.cat([torch.linspace(-40, 40, 4001), torch.tensor([0.0, -0.0, 1e-30, -1e-30])])
    exact = x.double().requires_grad_()
    losses = by_formula(exact, gamma, smoothing)
    (slopes,) = torch.autograd.grad(losses.sum(), exact)
    found = torch.empty_like(x)
    options = {"gamma": gamma, "smoothing": smoothing}
    sums = [float(focal_sum(x[i : i + 1], found[i : i + 1], **options)) for i in range(len(x))]
    # a general exponent multiplies the logarithm's rounding: 2.7 * 40 * 6e-8
    rtol = 1e-6 if gamma in (1.5, 2.0) else 1e-5
    torch.testing.assert_close(torch.tensor(sums).double(), losses.detach(), rtol=rtol, atol=1e-30)
    # with smoothing the gradient crosses 0, where only its terms are right to the last digits
    torch.testing.assert_close(found.double(), slopes, rtol=rtol, atol=1e-30 if smoothing == 0 else 1e-7)


@pytest.mark.parametrize("count", [0, 1, 15, 4096, 4097, 100_003])
def test_any_number_of_logits_sums_up(count):
    torch.manual_seed(0)
    x = torch.randn(count) * 3 - 4
    slope = torch.full_like(x, torch.nan)
    total = focal_sum(x, slope, gamma=1.5, smoothing=0.0)
    torch.testing.assert_close(total.double(), by_formula(x.double(), 1.5, 0.0).sum(), rtol=2e-6, atol=0)
    assert slope.isfinite().all()


def test_the_number_of_threads_changes_nothing():
    x = torch.randn(50_000)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            slope = torch.empty_like(x)
            results.append((focal_sum(x, slope, gamma=1.5, smoothing=0.1), slope))
    finally:
        torch.set_num_threads(before)
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("gamma", GAMMAS)
def test_what_is_no_number_stays_so(gamma):
    x = torch.tensor([0.0, torch.nan, 1.0])
    slope = torch.empty_like(x)
    assert focal_sum(x, slope, gamma=gamma, smoothing=0.0).isnan()
    assert slope.isnan().tolist() == [False, True, False]


def test_other_tensors_are_left_to_pytorch():
    x = torch.randn(8)
    assert can_sum_focal(x, torch.empty_like(x))
    assert not can_sum_focal(x.double(), torch.empty_like(x).double())
    assert not can_sum_focal(x[::2], torch.empty(4))
