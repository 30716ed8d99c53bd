"""Pixels of 0-255 as a network takes them, in one pass over memory."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from trivet.models.kernels.eligible import readable
from trivet.models.kernels.library import kernels


def normalise_rows(
    rows: UInt8[Tensor, "n w"], mean: Float[Tensor, " w"], std: Float[Tensor, " w"]
) -> Float[Tensor, "n w"]:
    """Return `(rows - mean) / std` in float32.

    Args:
        rows: In one piece of memory.
        mean: What is taken from each value of a row.
        std: What it is then divided by.
    """
    library = kernels()
    if library is None or rows.dtype != torch.uint8 or not readable(mean, std):
        return rows.float().sub_(mean).div_(std)
    y = torch.empty(rows.shape, dtype=torch.float32)
    library.trivet_normalise(
        *(
            rows.data_ptr(),
            mean.data_ptr(),
            std.data_ptr(),
            y.data_ptr(),
            *rows.shape,
            torch.get_num_threads(),
        )
    )
    return y
