"""The few numbers above a threshold among many, and whether all are finite: on the CPU without temporaries."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trivet.models.kernels.eligible import readable
from trivet.models.kernels.library import kernels

PART = 8192
"""Numbers counted together, as in `above.c`."""


def positions_above(values: Float[Tensor, " n"], threshold: float) -> Int64[Tensor, " k"] | None:
    """Return the positions of the values above a threshold, in order; `None` where these are more than half.

    NaN is above nothing.
    """
    library = kernels()
    if library is None or not readable(values) or not values.is_contiguous():
        above = values > threshold
        return None if 2 * int(above.count_nonzero()) > len(values) else above.nonzero()[:, 0]
    counts = torch.empty(-(-len(values) // PART), dtype=torch.int64)
    library.trivet_count_above(
        *(values.data_ptr(), len(values), threshold, counts.data_ptr(), torch.get_num_threads())
    )
    found = int(counts.sum())
    if 2 * found > len(values):
        return None
    positions = torch.empty(found, dtype=torch.int64)
    library.trivet_find_above(
        values.data_ptr(), len(values), threshold, counts.data_ptr(), positions.data_ptr()
    )
    return positions


def all_finite(values: Tensor) -> bool:
    """Tell whether no value is NaN or infinite; their order in memory does not matter."""
    library = kernels()
    dense = values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last)
    if library is None or not dense or not readable(values):
        return bool(values.isfinite().all())
    return not library.trivet_has_infinite(values.data_ptr(), values.numel(), torch.get_num_threads())
