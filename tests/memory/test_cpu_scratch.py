"""What a convolution takes while it runs, counted by hand."""

import torch

from trivet.memory.cpu_scratch import cpu_scratch

aten = torch.ops.aten


def _forward(x, weight, *, transposed=False):
    args = (x, weight, None, [1, 1], [1, 1], [1, 1], transposed, [0, 0], 1)
    return cpu_scratch(aten.convolution.default, args, aten.convolution.default(*args))


def _backward(x, weight):
    options = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    upstream = aten.convolution.default(x, weight, None, *options)
    args = (upstream, x, weight, None, *options, [True, True, False])
    return cpu_scratch(aten.convolution_backward.default, args, ())


def test_weights_are_copied_and_maps_too_unless_their_channels_lie_last():
    x, weight = torch.zeros(2, 32, 40, 40), torch.zeros(16, 32, 3, 3)
    maps, upstream, weights = 4 * 2 * 32 * 1600, 4 * 2 * 16 * 1600, 4 * 16 * 32 * 9
    assert _forward(x, weight) == maps + weights
    assert _backward(x, weight) == maps + upstream
    x = x.to(memory_format=torch.channels_last)
    assert _forward(x, weight) == weights
    assert _backward(x, weight) == 2 * weights


def test_where_the_output_is_larger_it_counts_and_of_a_transposed_convolution_twice():
    x, weight = torch.zeros(2, 16, 40, 40), torch.zeros(128, 16, 3, 3)
    assert _forward(x, weight) == 4 * 2 * 128 * 1600
    assert _forward(x, torch.zeros(16, 128, 3, 3), transposed=True) == 2 * 4 * 2 * 128 * 1600


def test_others_take_nothing():
    assert cpu_scratch(aten.relu.default, (torch.zeros(3),), torch.zeros(3)) == 0
