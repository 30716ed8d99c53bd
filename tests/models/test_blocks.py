import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import nn

from trivet.errors import UsageError
from trivet.models.blocks import (
    ACTIVATIONS,
    NORMS,
    Conv,
    FrozenBatchNorm,
    MaxPool,
    StridedConv,
    Style,
    start_glorot,
    start_normal,
)

sides = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sides)
@settings(max_examples=60, deadline=None)
def test_same_pooling_equals_timms_at_any_size(size_hw):
    x = torch.randn(1, 2, *size_hw)
    expected = MaxPool2dSame(3, 2)(x)
    assert torch.equal(MaxPool(padding="same")(x), expected)
    assert expected.shape[2:] == ((size_hw[0] + 1) // 2, (size_hw[1] + 1) // 2)


@given(sides)
@settings(max_examples=60, deadline=None)
def test_symmetric_pooling_equals_pytorchs(size_hw):
    x = torch.randn(1, 2, *size_hw)
    assert torch.equal(MaxPool(padding="symmetric")(x), nn.MaxPool2d(3, 2, 1)(x))


@given(sides)
@settings(max_examples=30, deadline=None)
def test_same_strided_convolution_equals_timms_at_any_size(size_hw):
    ours, theirs = StridedConv(2, 3, padding="same"), Conv2dSame(2, 3, 3, 2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 2, *size_hw)
    torch.testing.assert_close(ours(x), theirs(x))


def test_symmetric_strided_convolution_equals_pytorchs():
    ours, theirs = StridedConv(2, 3, padding="symmetric"), nn.Conv2d(2, 3, 3, 2, 1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 2, 7, 10)
    torch.testing.assert_close(ours(x), theirs(x))


def test_pooling_keeps_channels_last():
    x = torch.randn(1, 4, 9, 8).to(memory_format=torch.channels_last)
    for padding in ("same", "symmetric"):
        assert MaxPool(padding=padding)(x).is_contiguous(memory_format=torch.channels_last)


def test_separable_convolution_is_depthwise_then_pointwise():
    conv = Conv(4, 6, separable=True, bias=True, norm=nn.BatchNorm2d(6))
    depthwise, pointwise = conv.convolutions
    assert (depthwise.groups, depthwise.bias, depthwise.kernel_size) == (4, None, (3, 3))
    assert (pointwise.kernel_size, pointwise.bias is not None) == ((1, 1), True)
    assert conv(torch.zeros(1, 4, 5, 7)).shape == (1, 6, 5, 7)
    assert set(dict(conv.named_children())) == {"depthwise", "pointwise", "norm"}


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_takes_any_channels_and_its_eps(name):
    for channels in (1, 7, 64, 88, 112):
        norm = Style(norm=name, norm_eps=0.25).make_norm(channels)
        assert norm.eps == 0.25
        assert norm(torch.randn(2, channels, 3, 3)).shape == (2, channels, 3, 3)


def test_batch_norm_takes_its_momentum():
    assert Style(norm_momentum=0.03).make_norm(4).momentum == 0.03


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (88, 22), (112, 28), (7, 7), (37, 1)])
def test_group_norm_has_the_largest_group_count_up_to_32(channels, groups):
    assert Style(norm="gn").make_norm(channels).num_groups == groups


def test_frozen_batch_norm_equals_a_batch_norm_in_evaluation_and_never_changes():
    norm = nn.BatchNorm2d(3, eps=1e-3)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    frozen = FrozenBatchNorm(3, eps=1e-3)
    frozen.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(frozen.train()(x), norm.eval()(x))
    assert not list(frozen.parameters())
    assert all(torch.equal(before[key], value) for key, value in frozen.state_dict().items())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_keeps_shapes_and_has_a_gradient(name):
    x = torch.randn(2, 3, requires_grad=True)
    Style(activation=name).make_activation()(x * 1).sum().backward()
    assert x.grad is not None


def test_objects_stand_for_names():
    style = Style(norm=nn.InstanceNorm2d, activation=nn.Tanh)
    assert isinstance(style.make_norm(3), nn.InstanceNorm2d)
    assert isinstance(style.make_activation(), nn.Tanh)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "bm"}, "unknown norm 'bm'; did you mean 'bn'"),
        ({"activation": "sulu"}, "unknown activation 'sulu'; did you mean 'silu'"),
        ({"padding": "sane"}, "unknown padding 'sane'; did you mean 'same'"),
        ({"norm_eps": 0.0}, "norm_eps above 0 .* got 0.0"),
        ({"norm_momentum": 1.5}, r"norm_momentum in \(0, 1\], got 0.001 and 1.5"),
    ],
)
def test_wrong_style(arguments, message):
    with pytest.raises(UsageError, match=message):
        Style(**arguments)


def test_glorot_starts_within_its_limit_and_fills_it():
    conv = nn.Conv2d(64, 64, 1)
    start_glorot(conv)
    limit = (3 / 64) ** 0.5
    assert 0.95 * limit < float(conv.weight.detach().abs().max()) <= 1.0001 * limit
    assert not conv.bias.any()


def test_glorot_counts_a_depthwise_convolution_as_one_fan():
    conv = nn.Conv2d(256, 256, 3, groups=256)
    start_glorot(conv)
    limit = (3 / 9) ** 0.5
    assert 0.95 * limit < float(conv.weight.detach().abs().max()) <= 1.0001 * limit


@pytest.mark.parametrize(("std", "expected"), [(None, 1 / 24), (0.01, 0.01)])
def test_normal_start_has_its_spread(std, expected):
    conv = nn.Conv2d(64, 128, 3)
    start_normal(conv, std)
    assert float(conv.weight.detach().std()) == pytest.approx(expected, rel=0.02)
    assert not conv.bias.any()
