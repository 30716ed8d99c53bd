"""The gradients of a chain, from its end to its beginning."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trivet.models.kernels.library import kernels
from trivet.models.kernels.links import Chain, Link
from trivet.models.kernels.maps import Slope, View, address
from trivet.models.kernels.squeeze import gate_gradients


def backward(
    chain: Chain,
    views: Sequence[View],
    pooled: Sequence[Tensor | None],
    dy: Tensor,
    *,
    dx_wanted: bool,
    needed: set[int],
) -> tuple[Tensor | None, dict[int, Tensor]]:
    """Return the gradient of a chain's input and those of its parameters, by their ids.

    Args:
        chain: What was run.
        views: How each map was read, the last one at the end.
        pooled: What each link's gate was made from.
        dy: Gradient of the result.
        dx_wanted: Whether the input's is wanted.
        needed: Ids of the parameters whose gradients are wanted.
    """
    dy = dy.contiguous(memory_format=torch.channels_last)
    gradients: dict[int, Tensor] = {}
    slope = _through_end(chain, views[-1], dy, gradients)
    for number in reversed(range(len(chain.links))):
        link, view = chain.links[number], views[number]
        first = number == 0
        d = torch.empty_like(view.map) if dx_wanted or not first or link.norm is not None else None
        add = dy if first and chain.end.shortcut and link.shape is None and d is not None else None
        sums = _convolution(link, view, views[number + 1], slope, d, add, needed, gradients)
        if d is None:
            return None, gradients
        slope = Slope(d)
        if link.norm is not None:
            slope = _through_link(link, view, pooled[number], d, sums, gradients)
    dx = _plain(views[0], slope)
    if chain.end.shortcut and (not chain.links or chain.links[0].shape is not None):
        dx = dx + dy
    return (dx if dx_wanted else None), gradients


def _through_end(chain: Chain, view: View, dy: Tensor, gradients: dict[int, Tensor]) -> Slope:
    """Return the gradient of the last map."""
    norm = chain.end.norm
    if norm is None:
        return Slope(dy)
    if chain.end.keep is not None:
        dy = dy * chain.end.keep[:, :, None, None]
        view = View(view.map, view.kept, view.shift, view.activation)
    library = kernels()
    assert library is not None, "the forward pass had it"
    sums = torch.empty(2, view.map.shape[1], dtype=torch.float64)
    seen, threads = ctypes.byref(view.in_c()), torch.get_num_threads()
    if library.trivet_norm_sums(seen, dy.data_ptr(), view.rows, sums.data_ptr(), threads):
        raise MemoryError("no memory for the sums of a batch norm's gradient")
    slope = Slope(dy, _norm_gradients(norm, view, sums, gradients))
    if view.activation.kind == 0 and chain.links:
        return slope
    dx = torch.empty_like(view.map)
    library.trivet_norm_backward(seen, ctypes.byref(slope.in_c()), 1, view.rows, dx.data_ptr(), threads)
    return Slope(dx)


def _convolution(
    link: Link,
    x: View,
    y: View,
    slope: Slope,
    d: Tensor | None,
    add: Tensor | None,
    needed: set[int],
    gradients: dict[int, Tensor],
) -> Tensor | None:
    """Write the gradient of what a convolution read to `d`; return the sums that its norm and gate need."""
    library, channels = kernels(), x.map.shape[1]
    assert library is not None, "the forward pass had it"
    dweight = torch.empty_like(link.weight) if id(link.weight) in needed else None
    sums = None
    if x.kept is not None:
        shape = (2, channels) if x.gate is None else (x.map.shape[0], 5, channels)
        sums = torch.empty(shape, dtype=torch.float64)
    seen, after, up = ctypes.byref(x.in_c()), ctypes.byref(y.in_c()), ctypes.byref(slope.in_c())
    threads = torch.get_num_threads()
    if link.shape is None:
        dbias = None
        if link.bias is not None and id(link.bias) in needed:
            # A norm takes out whatever a bias adds.
            gradients[id(link.bias)] = torch.zeros_like(link.bias)
            dbias = gradients[id(link.bias)] if slope.lines is None else None
        failed = library.trivet_pointwise_backward(
            *(seen, link.weight.data_ptr(), after, up, x.rows, address(d), address(add), address(sums)),
            *(address(dweight), address(dbias), threads),
        )
    else:
        failed = library.trivet_depthwise_backward(
            *(link.shape.as_longs(), seen, link.weight.data_ptr(), after, up, address(d), address(dweight)),
            *(address(sums), threads),
        )
    if failed:
        raise MemoryError("no memory for the rows of a convolution's gradient")
    if dweight is not None:
        gradients[id(link.weight)] = dweight
    return sums


def _through_link(
    link: Link,
    view: View,
    pooled: Tensor | None,
    d: Tensor,
    sums: Tensor | None,
    gradients: dict[int, Tensor],
) -> Slope:
    """Return the gradient of a map from that of what its reader saw, and add those of the norm and the gate."""
    assert link.norm is not None, "without a norm there is nothing to go through"
    assert sums is not None, "a norm's reader takes its sums"
    share = None
    if link.squeeze is not None:
        assert pooled is not None, "the gate was made from it"
        assert view.gate is not None, "a squeeze has one"
        dmeans, found = gate_gradients(link.squeeze, pooled, sums[:, 0].float())
        gradients.update(found)
        height, width = view.map.shape[2:]
        share = (dmeans / (height * width)).contiguous()
        sums = (sums[:, 1:3] * view.gate[:, None].double() + sums[:, 3:5] * share[:, None].double()).sum(
            dim=0
        )
    return Slope(d, _norm_gradients(link.norm, view, sums, gradients), share)


def _norm_gradients(norm: nn.BatchNorm2d, view: View, sums: Tensor, gradients: dict[int, Tensor]) -> Tensor:
    """Return offset and tilt of a norm's map from the norm's sums, and add the norm's own gradients."""
    library, kept, channels = kernels(), view.kept, view.map.shape[1]
    assert library is not None, "the forward pass had it"
    assert kept is not None, "a norm keeps its statistics"
    lines = kept.new_empty(2, channels)
    dweight, dbias = kept.new_empty(channels), kept.new_empty(channels)
    library.trivet_norm_gradients(
        *(kept.data_ptr(), sums.data_ptr(), view.rows, channels),
        *(dweight.data_ptr(), dbias.data_ptr(), lines.data_ptr()),
    )
    gradients[id(norm.weight)], gradients[id(norm.bias)] = dweight, dbias
    return lines


def _plain(view: View, slope: Slope) -> Tensor:
    """Return the gradient of a map itself; it may take the place of `slope.d`."""
    if slope.lines is None:
        return slope.d
    library = kernels()
    assert library is not None, "the forward pass had it"
    library.trivet_norm_backward(
        *(ctypes.byref(view.in_c()), ctypes.byref(slope.in_c()), 0, view.rows, slope.d.data_ptr()),
        torch.get_num_threads(),
    )
    return slope.d
