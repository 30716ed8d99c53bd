"""Batch norm with its activation, against PyTorch's operators in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.models.kernels.needs import needs_kernels
from trivet.models.kernels.activations import Activation
from trivet.models.kernels.batch_norm import batch_norm, can_normalise

ACTIVATIONS = {
    "none": (Activation(0), nn.Identity()),
    "relu": (Activation(1), nn.ReLU()),
    "relu6": (Activation(2), nn.ReLU6()),
    "leaky_relu": (Activation(3, 0.1), nn.LeakyReLU(0.1)),
    "hard_swish": (Activation(4), nn.Hardswish()),
    "silu": (Activation(5), nn.SiLU()),
}
SHAPES = st.tuples(*(st.integers(1, most) for most in (3, 37, 9, 11))).filter(
    lambda shape: shape[0] * shape[2] * shape[3] > 1
)


def make_norm(channels: int, **options) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-3, **options)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.normal_(norm.bias, 2)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


def drawn(*shape: int, offset: float = 0.0) -> Tensor:
    return (torch.randn(shape) * 2 + offset).to(memory_format=torch.channels_last)


def both(norm: nn.BatchNorm2d, x: Tensor, dy: Tensor, name: str) -> tuple[list[Tensor], list[Tensor]]:
    """Results, gradients and running statistics of the kernel, and of PyTorch in float64."""
    activation, module = ACTIVATIONS[name]
    exact = copy.deepcopy(norm).double()
    x, exact_x = x.clone().requires_grad_(), x.double().requires_grad_()
    y, exact_y = batch_norm(norm, x, activation), module(exact(exact_x))
    found = [y, *torch.autograd.grad(y, (x, norm.weight, norm.bias), dy), norm.running_mean, norm.running_var]
    wanted = [
        exact_y,
        *torch.autograd.grad(exact_y, (exact_x, exact.weight, exact.bias), dy.double()),
        *(exact.running_mean, exact.running_var),
    ]
    return found, wanted


def assert_close(found: list[Tensor], wanted: list[Tensor]) -> None:
    for value, exact in zip(found, wanted, strict=True):
        value, exact = value.detach(), exact.detach()
        assert value.shape == exact.shape
        torch.testing.assert_close(
            value.double(), exact, rtol=2e-5, atol=2e-5 * (1 + float(exact.abs().max()))
        )


@needs_kernels
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(shape=SHAPES, seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_equals_torch_whatever_the_shape(name, shape, seed):
    torch.manual_seed(seed)
    norm, x, dy = make_norm(shape[1]), drawn(*shape), drawn(*shape)
    z = nn.functional.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    # Rounding may put a value on the other side of a kink, where the gradient is another.
    dy[((z - torch.tensor([-3.0, 0.0, 3.0, 6.0]).view(4, 1, 1, 1, 1)).abs() < 1e-3).any(dim=0)] = 0
    found, wanted = both(norm, x, dy, name)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert_close(found, wanted)


@needs_kernels
def test_a_mean_far_from_zero_costs_no_accuracy():
    torch.manual_seed(0)
    x, dy = drawn(2, 24, 30, 30, offset=1000.0), drawn(2, 24, 30, 30)
    found, wanted = both(make_norm(24), x, dy, "silu")
    torch.testing.assert_close(found[0].double(), wanted[0], rtol=0, atol=1e-3)  # 1000 has 6e-5 of rounding
    torch.testing.assert_close(found[5].double(), wanted[5], rtol=1e-5, atol=0)


@needs_kernels
def test_running_statistics_without_momentum_are_the_mean_of_all_batches():
    torch.manual_seed(0)
    norm = make_norm(5, momentum=None)
    stock = copy.deepcopy(norm)
    for _ in range(3):
        x = drawn(2, 5, 4, 4)
        batch_norm(norm, x, Activation())
        stock(x)
    for name, value in stock.state_dict().items():
        torch.testing.assert_close(norm.state_dict()[name], value)


@needs_kernels
def test_without_running_statistics():
    norm = nn.BatchNorm2d(5, track_running_stats=False)
    x = drawn(2, 5, 4, 4)
    torch.testing.assert_close(batch_norm(norm, x, Activation()), norm(x))


@needs_kernels
def test_a_gradient_in_another_layout_or_expanded():
    norm, x = make_norm(6), drawn(2, 6, 5, 4).requires_grad_()
    y, stock = batch_norm(norm, x, Activation(5)), nn.functional.silu(norm(x))
    for dy in (torch.randn(2, 6, 5, 4), torch.ones(()).expand(2, 6, 5, 4)):
        found, wanted = (torch.autograd.grad(out, x, dy, retain_graph=True)[0] for out in (y, stock))
        torch.testing.assert_close(found, wanted)


@needs_kernels
def test_a_second_derivative():
    norm = make_norm(3).double().float()
    x = drawn(2, 3, 3, 3).requires_grad_()

    def penalty(y: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.pow(2).sum(), x)[0]

    torch.testing.assert_close(
        penalty(batch_norm(norm, x, Activation(5))),
        penalty(nn.functional.silu(norm(x))),
        rtol=1e-4,
        atol=1e-4,
    )


@needs_kernels
def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    x, dy, norm = drawn(3, 40, 33, 31), drawn(3, 40, 33, 31), make_norm(40)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5, 2):
            torch.set_num_threads(count)
            results.append(both(copy.deepcopy(norm), x, dy, "silu")[0])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernels
def test_not_a_number_stays_one():
    x = drawn(2, 3, 4, 4)
    x[0, 1, 2, 3] = torch.nan
    for activation, _ in ACTIVATIONS.values():
        y = batch_norm(make_norm(3), x, activation)
        assert y[:, 1].isnan().all()
        assert not y[:, [0, 2]].isnan().any()


@needs_kernels
def test_what_it_leaves_to_torch():
    norm, x = make_norm(4), drawn(2, 4, 3, 3)
    assert can_normalise(norm, x)
    assert not can_normalise(norm.eval(), x)
    norm.train()
    assert not can_normalise(norm, torch.randn(2, 4, 3, 3)), "not channels last"
    assert not can_normalise(norm, drawn(2, 5, 3, 3)), "torch words the error"
    assert not can_normalise(norm, x.double())
    assert not can_normalise(norm, x.to("meta"))
    assert not can_normalise(norm, drawn(1, 4, 1, 1)), "torch refuses one value a channel"
    assert not can_normalise(norm, x[:0])
    assert not can_normalise(nn.BatchNorm2d(4, affine=False), x)
    with torch.autocast("cpu"):
        assert not can_normalise(norm, x)
    with torch.no_grad():
        assert not can_normalise(norm, x)
