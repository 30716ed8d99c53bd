"""The few numbers above a threshold, and whether all are finite: as PyTorch's operators find them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.kernels.needs import needs_kernels
from trivet.models.kernels.above import PART, all_finite, positions_above


@needs_kernels
@given(
    count=st.sampled_from([1, 7, PART - 1, PART, PART + 1, 3 * PART + 5, 40_000]),
    threshold=st.sampled_from([-10.0, 0.0, 1.0, 3.0, 10.0, -float("inf"), float("inf")]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_positions_are_those_above_in_order(count, threshold, seed):
    values = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    values[:: max(1, count // 5)] = threshold  # not above itself
    values[-1] = torch.nan
    wanted = (values > threshold).nonzero()[:, 0]
    found = positions_above(values, threshold)
    if 2 * len(wanted) > count:
        assert found is None
    else:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_any_layout_and_precision(kind):
    values = torch.arange(24).to(kind).reshape(4, 6).t()[2]
    assert positions_above(values, 13.0).tolist() == [2, 3]
    assert positions_above(values, -1.0) is None


@needs_kernels
@pytest.mark.parametrize("worst", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(worst, kind):
    for place in (0, PART - 1, PART, 2 * PART + 3, 5 * 61 * 61 - 1):
        values = torch.full((5, 61, 61), 3e38, dtype=kind).permute(2, 0, 1)
        assert all_finite(values)
        values.permute(1, 2, 0).reshape(-1)[place] = worst
        assert not all_finite(values)
        assert not all_finite(values[None].contiguous(memory_format=torch.channels_last))
    assert all_finite(torch.empty(0, 3))
