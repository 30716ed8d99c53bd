"""The kernels on fake tensors: they allocate what they would, and compute nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from trivet.models.kernels.library import STAND_IN, Nothing, kernels


@contextmanager
def kernels_without_values() -> Iterator[None]:
    """Let layers of `use_fast_kernels` run their kernels' code on fake tensors, where there are kernels.

    A memory planner then sees the very allocations of a training step by the kernels. What the compiled code takes for
    itself while it runs (some rows a thread) is not seen.
    """
    if kernels() is None:
        yield
        return
    address = FakeTensor.data_ptr
    token = STAND_IN.set(Nothing())
    FakeTensor.data_ptr = _no_address  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        FakeTensor.data_ptr = address  # type: ignore[method-assign]
        STAND_IN.reset(token)


def _no_address(_: Tensor) -> int:
    return 0
