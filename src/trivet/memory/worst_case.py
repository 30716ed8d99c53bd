"""What operators whose result depends on values give on fake tensors: the most they can give."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

aten = torch.ops.aten


def _scalar(_: Any, value: Tensor) -> bool | int | float:
    """A mask is true, a number 1: a loss that is asked whether it is finite says yes."""
    if value.dtype == torch.bool:
        return True
    return 1.0 if value.dtype.is_floating_point else 1


def _nonzero(_: Any, mask: Tensor) -> Tensor:
    return mask.new_empty((mask.numel(), mask.dim()), dtype=torch.int64)


def _selected(_: Any, values: Tensor, mask: Tensor) -> Tensor:
    return values.new_empty(torch.broadcast_shapes(values.shape, mask.shape).numel())


def _index(func: Any, values: Tensor, indices: list[Tensor | None]) -> Tensor:
    """A mask of k axes becomes k lists of places: those it selects, or of one without values all."""
    listed: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            if isinstance(index, FakeTensor):
                listed += [index.new_empty(index.numel(), dtype=torch.int64) for _ in range(index.dim())]
            else:
                with unset_fake_temporarily():
                    listed += index.nonzero().unbind(1)
        else:
            listed.append(index)
    return func(values, listed)


def _unique(_: Any, values: Tensor, *_options: Any, **_more: Any) -> tuple[Tensor, Tensor, Tensor]:
    count = values.numel()
    return (
        values.new_empty(count),
        values.new_empty(values.shape, dtype=torch.int64),
        values.new_empty(count, dtype=torch.int64),
    )


def _repeated(_: Any, repeats: Tensor, **_options: Any) -> Tensor:
    return repeats.new_empty(repeats.numel(), dtype=torch.int64)


def _counted(_: Any, values: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    return values.new_empty(max(minlength, 1), dtype=torch.int64 if weights is None else weights.dtype)


def _equal(_: Any, one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape


WORST_CASES: Mapping[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: _scalar,
    aten.nonzero.default: _nonzero,
    aten.masked_select.default: _selected,
    aten.index.Tensor: _index,
    aten._unique2.default: _unique,
    aten.repeat_interleave.Tensor: _repeated,
    aten.bincount.default: _counted,
    aten.equal.default: _equal,
}
