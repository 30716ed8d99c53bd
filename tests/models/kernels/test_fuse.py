"""Fused maps against PyTorch's operators in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.models.kernels.needs import needs_kernels
from tests.models.kernels.test_batch_norm import ACTIVATIONS, drawn
from trivet.models.kernels import use_fast_kernels
from trivet.models.kernels.fuse import _by_torch, can_fuse, fuse
from trivet.models.necks.bifpn import bifpn_layout
from trivet.models.necks.graph import GraphNeck
from trivet.structures import FeatureSpec


def both(maps, shares, name, size_hw):
    """Results and gradients of the kernel, and of PyTorch in float64."""
    activation = ACTIVATIONS[name][0]
    dy = drawn(maps[0].shape[0], maps[0].shape[1], *size_hw)
    found = []
    for run, kind in ((fuse, torch.float32), (_by_torch, torch.float64)):
        inputs = [x.detach().to(kind).requires_grad_() for x in (*maps, shares)]
        y = run(inputs[:-1], inputs[-1], activation, size_hw)
        found.append([y.detach(), *torch.autograd.grad(y, inputs, dy.to(kind))])
    return found


@needs_kernels
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(
    size_hw=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    smaller=st.lists(st.booleans(), min_size=2, max_size=3),
    shrink=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.integers(2, 37),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=10, deadline=None)
def test_equals_torch_whatever_the_shapes(name, size_hw, smaller, shrink, channels, seed):
    torch.manual_seed(seed)
    small_hw = tuple(-(-side // by) for side, by in zip(size_hw, shrink, strict=True))
    maps = [drawn(2, channels, *(small_hw if is_small else size_hw)).abs() + 0.1 for is_small in smaller]
    shares = torch.rand(len(maps)) * 0.05 + 0.01  # sums stay between the kinks at 0 and 3
    found, wanted = both([x.clamp(max=6) for x in maps], shares, name, size_hw)
    for ours, exact in zip(found, wanted, strict=True):
        tolerance = 2e-5 * (1 + float(exact.abs().max()))
        torch.testing.assert_close(ours.double(), exact, rtol=2e-5, atol=tolerance)


@needs_kernels
def test_negative_sums_and_every_activation():
    torch.manual_seed(0)
    for name in ACTIVATIONS:
        found, wanted = both(
            [drawn(2, 20, 6, 8), drawn(2, 20, 3, 4)], torch.tensor([0.6, -0.3]), name, (6, 8)
        )
        torch.testing.assert_close(found[0].double(), wanted[0], rtol=1e-5, atol=1e-5)


@needs_kernels
def test_what_it_leaves_to_torch():
    a, b = drawn(2, 8, 6, 6).requires_grad_(), drawn(2, 8, 3, 3)
    assert can_fuse([a, b], (6, 6))
    assert not can_fuse([a], (6, 6))
    assert not can_fuse([a, b], (3, 3)), "a map is larger"
    assert not can_fuse([a, b, drawn(2, 8, 2, 2)], (6, 6)), "two sizes to enlarge"
    assert not can_fuse([a, b.contiguous()], (6, 6))
    assert not can_fuse([a, drawn(2, 9, 6, 6)], (6, 6))
    assert not can_fuse([a.double(), b], (6, 6))


@needs_kernels
@pytest.mark.parametrize("fusion", ["fast", "softmax", "sum"])
@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_a_neck_equals_torchs(fusion, upsample):
    torch.manual_seed(0)
    features = tuple(FeatureSpec(8 * number, 4 * 2**number) for number in (1, 2, 3))
    options = {"channels": 16, "layers": 2, "levels": (3, 6), "fusion": fusion, "upsample": upsample}
    neck = GraphNeck(features, layout=bifpn_layout, **options).train()
    for parameter in neck.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    fast, exact = copy.deepcopy(neck), copy.deepcopy(neck).double()
    neck.to(memory_format=torch.channels_last)
    assert use_fast_kernels(fast) > 10
    maps = [
        drawn(2, feature.channels, -(-75 // feature.stride), -(-90 // feature.stride)) for feature in features
    ]
    gradients = []
    for module in (fast, exact):
        kind = next(module.parameters()).dtype
        sum(y.square().mean() for y in module([x.to(kind) for x in maps])).backward()
        gradients.append([parameter.grad.double() for parameter in module.parameters()])
    for ours, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-3 * (1 + float(wanted.abs().max())))
