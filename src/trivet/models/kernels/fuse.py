"""The weighted sum of maps and the activation after it, as one autograd function."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trivet.models.kernels.activations import Activation
from trivet.models.kernels.eligible import eligible
from trivet.models.kernels.library import kernels
from trivet.models.kernels.maps import addresses, empty_map

_COUNTS = (2, 3)


@dataclass(frozen=True)
class Fusion:
    """What `fuse` does to maps of certain sizes.

    Args:
        sides: Those of one image, see `sides_of`.
        sizes: Numbers an image of each map.
        shares: A factor for each map, float32.
        activation: What follows the sum.
        size_hw: Size of the result.
    """

    sides: ctypes.Array
    sizes: tuple[int, ...]
    shares: Tensor
    activation: Activation
    size_hw: tuple[int, int]


def can_fuse(maps: Sequence[Tensor], size_hw: tuple[int, int], *, training: bool = True) -> bool:
    """Tell whether `fuse` may add these: two or three maps, each of `size_hw` or smaller and all smaller ones alike."""
    sizes = {(x.shape[2], x.shape[3]) for x in maps} - {size_hw}
    return (
        len(maps) in _COUNTS
        and len(sizes) <= 1
        and all(height <= size_hw[0] and width <= size_hw[1] for height, width in sizes)
        and len({tuple(x.shape[:2]) for x in maps}) == 1
        and all(eligible(x, training=training) for x in maps)
        and kernels() is not None
    )


def fuse(
    maps: Sequence[Float[Tensor, "b c _ _"]],
    shares: Float[Tensor, " n"],
    activation: Activation,
    size_hw: tuple[int, int],
) -> Float[Tensor, "b c h w"]:
    """Return `activation(sum of share * map)`; see `can_fuse`.

    Args:
        maps: Channels last; those smaller than `size_hw` are enlarged by their nearest pixels.
        shares: A factor for each map.
        activation: What follows the sum.
        size_hw: Size of the result.
    """
    return _Fuse.apply(shares, activation, size_hw, *maps)


class _Fuse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shares: Tensor, activation: Activation, size_hw: tuple[int, int], *maps: Tensor
    ) -> Tensor:
        shares = shares.contiguous()
        library = kernels()
        assert library is not None, "can_fuse was asked"
        y = empty_map(maps[0], maps[0].shape[1], *size_hw)
        failed = library.trivet_fuse(
            *(sides_of(maps, size_hw), addresses(maps), shares.data_ptr(), y.data_ptr()),
            *(activation.kind, activation.slope, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory to fuse maps")
        ctx.save_for_backward(shares, *maps)
        ctx.activation, ctx.size_hw = activation, size_hw
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        shares, *maps = ctx.saved_tensors
        activation, size_hw = ctx.activation, ctx.size_hw
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            inputs = (shares, *maps)
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            y = _by_torch(maps, shares, activation, size_hw)
            found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
            dshares, *rest = (next(found) if tensor.requires_grad else None for tensor in inputs)
            return dshares, None, None, *rest
        library = kernels()
        assert library is not None, "the forward pass had it"
        dy = dy.contiguous(memory_format=torch.channels_last)
        dmaps = [torch.empty_like(x) if tuple(x.shape[2:]) == size_hw else torch.zeros_like(x) for x in maps]
        dshares = torch.empty_like(shares)
        failed = library.trivet_fuse_backward(
            *(sides_of(maps, size_hw), addresses(maps), shares.data_ptr(), dy.data_ptr(), addresses(dmaps)),
            *(dshares.data_ptr(), activation.kind, activation.slope, torch.get_num_threads()),
        )
        if failed:
            raise MemoryError("no memory for the gradients of fused maps")
        return dshares, None, None, *dmaps


def _by_torch(
    maps: Sequence[Tensor], shares: Tensor, activation: Activation, size_hw: tuple[int, int]
) -> Tensor:
    same = [x if tuple(x.shape[2:]) == size_hw else F.interpolate(x, size_hw, mode="nearest") for x in maps]
    return activation(torch.stack([x * share for x, share in zip(same, shares, strict=True)]).sum(dim=0))


def sides_of(maps: Sequence[Tensor], size_hw: tuple[int, int]) -> ctypes.Array:
    """Return the sides as C takes them, see `Sides` in `fuse.c`."""
    images, channels = maps[0].shape[:2]
    smaller = [tuple(x.shape[2:]) for x in maps if tuple(x.shape[2:]) != size_hw]
    enlarged = [int(tuple(x.shape[2:]) != size_hw) for x in maps]
    small = smaller[0] if smaller else size_hw
    filling = [0] * (_COUNTS[-1] - len(maps))
    return (ctypes.c_long * 10)(images, channels, *size_hw, *small, len(maps), *enlarged, *filling)
