"""Blocks in one go: against PyTorch's operators in float64, whatever they are made of."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import Tensor, nn

from tests.models.kernels.needs import needs_kernels
from tests.models.kernels.test_batch_norm import assert_close, drawn
from trivet.models.blocks import Conv
from trivet.models.kernels import use_fast_kernels
from trivet.models.kernels.building import Layout, Piece, build_chain
from trivet.models.kernels.chain import run_chain

BLOCKS = {"inverted residual": InvertedResidual, "depthwise separable": DepthwiseSeparableConv}


def started(module: nn.Module) -> nn.Module:
    """Give every norm a scale and a shift of its own; the maps stay clear of an activation's kinks."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.05, 0.1)
            nn.init.uniform_(layer.bias, 1.0, 2.5)
    return module.train()


def outcome(module: nn.Module, x: Tensor, dy: Tensor) -> list[Tensor]:
    """The result, all gradients and all running statistics."""
    x = x.detach().clone().requires_grad_()
    y = module(x)
    module.zero_grad()
    y.backward(dy.to(y.dtype))
    statistics = [value for value in module.buffers() if value.is_floating_point()]
    return [y, x.grad, *(parameter.grad for parameter in module.parameters()), *statistics]


def assert_as_near(ours: list[Tensor], theirs: list[Tensor], exact: list[Tensor]) -> None:
    """Ours is as near to float64 as PyTorch's own float32, whose rounding a norm of few pixels makes large."""
    for found, stock, wanted in zip(ours, theirs, exact, strict=True):
        rounding = float((stock - wanted).detach().abs().max())
        tolerance = 4 * rounding + 5e-5 * (1 + float(wanted.detach().abs().max()))
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance)


@needs_kernels
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("squeezed", [True, False])
@given(
    images=st.integers(2, 3),
    sides=st.tuples(st.integers(4, 13), st.integers(4, 12)),
    channels=st.tuples(st.integers(2, 20), st.integers(2, 35)),
    options=st.fixed_dictionaries(
        {
            "dw_kernel_size": st.sampled_from([3, 5]),
            "stride": st.integers(1, 2),
            "pad_type": st.sampled_from(["", "same"]),
        }
    ),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=6, deadline=None)
def test_a_block_equals_torchs_whatever_its_shape(kind, squeezed, images, sides, channels, options, seed):
    torch.manual_seed(seed)
    if seed % 3 == 0:
        channels = (channels[0], channels[0])  # a shortcut, where the stride allows it
    se = (lambda c, **given: SqueezeExcite(c, rd_channels=2, **given)) if squeezed else None
    own = {"exp_ratio": 1.7} if kind == "inverted residual" else {}
    block = started(BLOCKS[kind](*channels, se_layer=se, act_layer=nn.SiLU, **own, **options))
    x = drawn(images, channels[0], *sides)
    fast, exact = copy.deepcopy(block), copy.deepcopy(block).double()
    assert use_fast_kernels(nn.Sequential(fast)) >= 3
    dy = drawn(*exact(x.double()).shape)
    exact.load_state_dict(block.state_dict())
    outcomes = outcome(fast, x, dy), outcome(block, x, dy), outcome(exact, x.double(), dy)
    assert_as_near(*outcomes)


@needs_kernels
@pytest.mark.parametrize("squeezed", [True, False])
def test_drop_path_drops_the_same_images(squeezed):
    torch.manual_seed(0)
    se = SqueezeExcite if squeezed else None
    stock = started(InvertedResidual(24, 24, act_layer=nn.SiLU, exp_ratio=4, se_layer=se, drop_path_rate=0.5))
    fast = copy.deepcopy(stock)
    use_fast_kernels(nn.Sequential(fast))
    x, dy = drawn(6, 24, 9, 8), drawn(6, 24, 9, 8)
    outcomes = []
    for block in (fast, stock, copy.deepcopy(stock).double()):
        torch.manual_seed(3)
        kind = next(block.parameters()).dtype
        outcomes.append(outcome(block, x.to(kind), dy))
    kept = (outcomes[0][0] - x).detach().flatten(1).abs().amax(dim=1) > 0
    assert 0 < int(kept.sum()) < 6
    assert_as_near(*outcomes)


@needs_kernels
def test_a_bias_before_a_norm_and_one_without():
    torch.manual_seed(0)
    for norm in (nn.BatchNorm2d(70), None):
        conv = started(Conv(33, 70, separable=True, bias=True, norm=norm))
        fast, exact = copy.deepcopy(conv), copy.deepcopy(conv).double()
        use_fast_kernels(nn.Sequential(fast))
        x, dy = drawn(2, 33, 7, 9), drawn(2, 70, 7, 9)
        assert_close(outcome(fast, x, dy), outcome(exact, x.double(), dy))


@needs_kernels
def test_frozen_weights_and_an_input_without_gradient():
    torch.manual_seed(0)
    block = started(InvertedResidual(8, 8, act_layer=nn.SiLU, exp_ratio=2))
    block.conv_pw.requires_grad_(False)
    block.conv_dw.requires_grad_(False)
    stock, exact = copy.deepcopy(block), copy.deepcopy(block).double()
    use_fast_kernels(nn.Sequential(block))
    x, dy = drawn(2, 8, 5, 5), drawn(2, 8, 5, 5)
    found = []
    for module in (block, stock, exact):
        kind = next(module.parameters()).dtype
        module(x.to(kind)).backward(dy.to(kind))
        found.append([parameter.grad for parameter in module.parameters() if parameter.requires_grad])
    assert block.conv_pw.weight.grad is None
    assert block.conv_dw.weight.grad is None
    assert_as_near(*found)


@needs_kernels
def test_a_second_derivative_through_a_block():
    torch.manual_seed(0)
    block = started(InvertedResidual(6, 6, act_layer=nn.SiLU, exp_ratio=2, se_layer=SqueezeExcite))
    fast = copy.deepcopy(block)
    use_fast_kernels(nn.Sequential(fast))
    x = drawn(2, 6, 5, 6).requires_grad_()
    found = []
    for module in (fast, block):
        (gradient,) = torch.autograd.grad(module(x).pow(2).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gradient.pow(2).sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@needs_kernels
def test_the_number_of_threads_changes_no_bit_of_a_block():
    torch.manual_seed(0)
    block = started(InvertedResidual(24, 40, act_layer=nn.SiLU, exp_ratio=4, se_layer=SqueezeExcite))
    use_fast_kernels(nn.Sequential(block))
    x, dy = drawn(3, 24, 33, 31), drawn(3, 40, 33, 31)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            # the gate is PyTorch's, whose products may depend on the threads: leave it out of the comparison
            chain = build_chain(
                x.requires_grad_(),
                Layout(
                    [Piece(block.conv_pw), Piece(block.conv_dw, block.bn1), Piece(block.conv_pwl, block.bn2)]
                ),
            )
            assert chain is not None
            y = run_chain(chain, x)
            results.append([y, *torch.autograd.grad(y, (x, *chain.parameters), dy)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernels
def test_what_is_left_to_torch():
    x = drawn(2, 8, 6, 6).requires_grad_()
    norm = nn.BatchNorm2d(8)
    assert build_chain(x, Layout([Piece(nn.Conv2d(8, 8, 1))], norm=norm)) is not None
    for conv in (
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 1, stride=2),
        nn.Conv2d(8, 8, 1, groups=2),
        nn.Linear(8, 8),
    ):
        assert build_chain(x, Layout([Piece(conv)], norm=norm)) is None
    assert build_chain(x, Layout([Piece(nn.Conv2d(8, 8, 1))], norm=nn.GroupNorm(2, 8))) is None
    assert build_chain(x, Layout([Piece(nn.Conv2d(8, 8, 1), norm, nn.GELU())])) is None
    assert build_chain(x.contiguous(), Layout([Piece(nn.Conv2d(8, 8, 1))], norm=norm)) is None
    assert build_chain(x, Layout([Piece(nn.Conv2d(8, 8, 1).eval())])) is None
    assert (
        build_chain(x, Layout([Piece(Conv2dSame(8, 8, 3, 2, groups=8, bias=False))], norm=norm.eval()))
        is None
    )
    hooked = nn.Conv2d(8, 8, 1)
    hooked.register_forward_hook(lambda *_: None)
    assert build_chain(x, Layout([Piece(hooked)])) is None
