"""Depthwise convolution, alone and after a norm, against PyTorch's operators in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn

from tests.models.kernels.needs import needs_kernels
from tests.models.kernels.test_batch_norm import ACTIVATIONS, assert_close, drawn, make_norm
from trivet.models.kernels.depthwise import depthwise, is_known_depthwise, norm_depthwise, shape_of

SHAPES = st.tuples(*(st.integers(1, most) for most in (3, 37, 20, 19)))


def make_conv(channels: int, kernel: int, stride: int, *, same: bool, padding: int) -> nn.Conv2d:
    kind = Conv2dSame if same else nn.Conv2d
    return kind(channels, channels, kernel, stride, padding, groups=channels, bias=False)


def gradients(y: Tensor, inputs: tuple[Tensor, ...], dy: Tensor) -> list[Tensor]:
    return [y, *torch.autograd.grad(y, inputs, dy.to(y.dtype))]


@needs_kernels
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@given(shape=SHAPES, same=st.booleans(), padding=st.integers(0, 2), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_equals_torch_whatever_the_shape(kernel, stride, shape, same, padding, seed):
    torch.manual_seed(seed)
    images, channels, height, width = shape
    channels = max(channels, 2)
    conv = make_conv(channels, kernel, stride, same=same, padding=padding)
    x = drawn(images, channels, height, width).requires_grad_()
    sides = shape_of(conv, x, same=same)
    if sides is None:
        assert not same
        assert min(height, width) + 2 * padding < kernel
        return
    exact, exact_x = copy.deepcopy(conv).double(), x.detach().double().requires_grad_()
    wanted_y = exact(exact_x)
    y = depthwise(x, conv.weight, sides)
    assert y.shape == wanted_y.shape
    assert y.is_contiguous(memory_format=torch.channels_last)
    dy = drawn(*y.shape)
    assert_close(gradients(y, (x, conv.weight), dy), gradients(wanted_y, (exact_x, exact.weight), dy))


@needs_kernels
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(shape=SHAPES, kernel=st.sampled_from([3, 5]), stride=st.integers(1, 2), seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_after_a_norm_it_equals_torch(name, shape, kernel, stride, seed):
    torch.manual_seed(seed)
    images, channels, height, width = shape
    channels, images = max(channels, 2), images + (height * width == 1)
    activation, module = ACTIVATIONS[name]
    norm, conv = make_norm(channels), make_conv(channels, kernel, stride, same=True, padding=0)
    nn.init.uniform_(norm.bias, 1.0, 2.5)
    nn.init.uniform_(norm.weight, 0.05, 0.1)  # between the kinks at 0 and 3, so that no rounding crosses one
    x = drawn(images, channels, height, width).requires_grad_()
    exact_norm, exact_conv = copy.deepcopy(norm).double(), copy.deepcopy(conv).double()
    exact_x = x.detach().double().requires_grad_()
    wanted_y = exact_conv(module(exact_norm(exact_x)))
    y = norm_depthwise(norm, activation, conv.weight, shape_of(conv, x, same=True), x)
    dy = drawn(*y.shape)
    found = gradients(y, (x, norm.weight, norm.bias, conv.weight), dy)
    wanted = gradients(wanted_y, (exact_x, exact_norm.weight, exact_norm.bias, exact_conv.weight), dy)
    assert_close(
        [*found, norm.running_mean, norm.running_var],
        [*wanted, exact_norm.running_mean, exact_norm.running_var],
    )


@needs_kernels
def test_the_activation_between_norm_and_convolution():
    torch.manual_seed(0)
    norm, conv = make_norm(40), make_conv(40, 3, 1, same=False, padding=1)
    x = drawn(2, 40, 12, 9)
    for activation, module in ACTIVATIONS.values():
        y = norm_depthwise(norm, activation, conv.weight, shape_of(conv, x, same=False), x)
        torch.testing.assert_close(y, conv(module(norm(x))), rtol=1e-4, atol=1e-4)


@needs_kernels
def test_a_second_derivative():
    torch.manual_seed(0)
    norm, conv = make_norm(6), make_conv(6, 3, 2, same=True, padding=0)
    x = drawn(2, 6, 5, 6).requires_grad_()
    shape = shape_of(conv, x, same=True)

    def penalty(y: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.pow(2).sum(), x)[0]

    activation, module = ACTIVATIONS["silu"]
    close = {"rtol": 1e-4, "atol": 1e-3}
    torch.testing.assert_close(penalty(depthwise(x, conv.weight, shape)), penalty(conv(x)), **close)
    torch.testing.assert_close(
        penalty(norm_depthwise(norm, activation, conv.weight, shape, x)),
        penalty(conv(module(norm(x)))),
        **close,
    )


@needs_kernels
def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    conv, norm = make_conv(40, 5, 2, same=True, padding=0), make_norm(40)
    x = drawn(3, 40, 45, 31).requires_grad_()
    shape = shape_of(conv, x, same=True)
    dy = drawn(3, 40, shape.out_height, shape.out_width)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5, 2):
            torch.set_num_threads(count)
            layer = copy.deepcopy(norm)
            y = norm_depthwise(layer, ACTIVATIONS["silu"][0], conv.weight, shape, x)
            results.append(gradients(y, (x, layer.weight, layer.bias, conv.weight), dy))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernels
def test_a_frozen_weight_has_no_gradient():
    conv, x = make_conv(8, 3, 1, same=False, padding=1), drawn(1, 8, 4, 4).requires_grad_()
    conv.requires_grad_(False)
    depthwise(x, conv.weight, shape_of(conv, x, same=False)).sum().backward()
    assert conv.weight.grad is None
    assert x.grad is not None


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 4},
        {"out_channels": 16},
        {"kernel_size": 7},
        {"kernel_size": (3, 5)},
        {"stride": 3},
        {"dilation": 2},
        {"bias": True},
        {"padding": "same"},
        {"padding": 3},
        {"padding_mode": "reflect"},
    ],
)
def test_what_it_leaves_to_torch(options):
    given = {"in_channels": 8, "out_channels": 8, "kernel_size": 3, "groups": 8, "bias": False, "padding": 1}
    assert is_known_depthwise(nn.Conv2d(**given))
    assert not is_known_depthwise(nn.Conv2d(**{**given, **options}))
