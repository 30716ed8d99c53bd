"""Convolutions, norms, activations and gates in a row, as one autograd function.

Kept for the backward pass are the results of the convolutions and nothing else: what norms, activations and gates make
of them is computed as the next convolution reads it, forward and backward. In the inverted residual blocks of MobileNet
and EfficientNet that saves more than half of the traffic with memory.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.models.kernels.chain_backward import backward
from trivet.models.kernels.library import kernels
from trivet.models.kernels.links import Chain, End, Link
from trivet.models.kernels.maps import View, address, empty_map
from trivet.models.kernels.running import running_statistics
from trivet.models.kernels.squeeze import gate_from


def run_chain(chain: Chain, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o oh ow"]:
    """Run a chain in training mode; it moves the norms' running statistics.

    Args:
        chain: What to run; every part must be one that the kernels know.
        x: Channels last.
    """
    return _Chain.apply(x, chain, *chain.parameters)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, chain: Chain, *parameters: Tensor) -> Tensor:
        y, views, pooled = _run(chain, x)
        ctx.chain, ctx.shapes = chain, len(parameters)
        kept = [part for view in views for part in (view.map, view.kept, view.gate)]
        ctx.save_for_backward(*parameters, *kept, *pooled)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        chain: Chain = ctx.chain
        saved, count = ctx.saved_tensors, ctx.shapes
        parameters, x = saved[:count], saved[count]
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            inputs = (x, *parameters)
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            found = iter(torch.autograd.grad(_by_torch(chain, x), wanted, dy, create_graph=True))
            dx, *rest = (next(found) if tensor.requires_grad else None for tensor in inputs)
            return dx, None, *rest
        places = len(chain.links) + 1
        views = _views(chain, saved[count : count + 3 * places])
        needed = {
            id(parameter)
            for parameter, wanted in zip(chain.parameters, ctx.needs_input_grad[2:], strict=True)
            if wanted
        }
        dx, gradients = backward(
            chain, views, saved[count + 3 * places :], dy, dx_wanted=ctx.needs_input_grad[0], needed=needed
        )
        return dx, None, *(gradients.get(id(parameter)) for parameter in chain.parameters)


def _run(chain: Chain, x: Tensor) -> tuple[Tensor, list[View], list[Tensor | None]]:
    """Return the result, how each map was read, and what each gate was made from."""
    library = kernels()
    assert library is not None, "a chain is built where there are kernels"
    views: list[View] = []
    pooled: list[Tensor | None] = []
    here, moments, threads = x, None, torch.get_num_threads()
    for number, link in enumerate(chain.links):
        view, mean = _look(link, here, moments)
        views.append(view)
        pooled.append(mean)
        after = chain.links[number + 1].norm if number + 1 < len(chain.links) else chain.end.norm
        here, moments = _convolve(link, view, normed=after is not None)
    view, _ = _look(chain.end, here, moments)
    views.append(view)
    if view.kept is None:
        return here, views, pooled
    y = torch.empty_like(here)
    library.trivet_apply(
        *(
            ctypes.byref(view.in_c()),
            address(x if chain.end.shortcut else None),
            y.data_ptr(),
            view.rows,
            threads,
        )
    )
    return y, views, pooled


def _look(reader: Link | End, here: Tensor, moments: Tensor | None) -> tuple[View, Tensor | None]:
    """Return how `reader` sees a map, and what its gate was made from; `moments` are known or taken now."""
    norm = reader.norm
    if norm is None:
        return View(here), None
    library, channels = kernels(), here.shape[1]
    assert library is not None, "a chain is built where there are kernels"
    rows, threads = here.numel() // channels, torch.get_num_threads()
    if moments is None:
        moments = torch.empty(2, channels, dtype=torch.float64)
        if library.trivet_moments(here.data_ptr(), rows, channels, moments.data_ptr(), threads):
            raise MemoryError("no memory for the sums of a batch norm")
    running, kept = running_statistics(norm), here.new_empty(3, channels)
    library.trivet_settle(
        *(moments.data_ptr(), rows, channels, norm.weight.data_ptr(), norm.eps, running.momentum),
        *(address(running.mean), address(running.var), kept.data_ptr()),
    )
    view = View(here, kept, norm.bias, reader.activation, reader.keep if isinstance(reader, End) else None)
    if isinstance(reader, End) or reader.squeeze is None:
        return view, None
    pooled = here.new_empty(here.shape[0], channels)
    if library.trivet_pool(ctypes.byref(view.in_c()), here.shape[0], pooled.data_ptr(), threads):
        raise MemoryError("no memory for the means of a squeeze and excitation")
    gate = gate_from(reader.squeeze, pooled).contiguous()
    return View(here, kept, norm.bias, reader.activation, gate), pooled


def _convolve(link: Link, view: View, *, normed: bool) -> tuple[Tensor, Tensor | None]:
    """Return a convolution's result, and its mean and variance by channel where a norm follows."""
    library, x, shape = kernels(), view.map, link.shape
    assert library is not None, "a chain is built where there are kernels"
    outputs = link.weight.shape[0]
    moments = torch.empty(2, outputs, dtype=torch.float64) if normed else None
    seen, threads = ctypes.byref(view.in_c()), torch.get_num_threads()
    if shape is None:
        y = empty_map(x, outputs, *x.shape[2:])
        failed = library.trivet_pointwise(
            *(seen, link.weight.data_ptr(), address(link.bias), y.data_ptr(), view.rows, outputs),
            *(address(moments), threads),
        )
    else:
        y = empty_map(x, outputs, shape.out_height, shape.out_width)
        failed = library.trivet_depthwise(
            *(shape.as_longs(), seen, link.weight.data_ptr(), y.data_ptr(), address(moments), threads)
        )
    if failed:
        raise MemoryError("no memory for the rows of a convolution")
    return y, moments


def _views(chain: Chain, saved: Sequence[Tensor | None]) -> list[View]:
    readers: tuple[Link | End, ...] = (*chain.links, chain.end)
    return [
        View(here, kept, None if reader.norm is None else reader.norm.bias, reader.activation, gate)
        for reader, here, kept, gate in zip(readers, saved[::3], saved[1::3], saved[2::3], strict=True)
        if here is not None
    ]


def _by_torch(chain: Chain, x: Tensor) -> Tensor:
    """Run the chain by PyTorch's operators, so that it can be differentiated twice."""
    y = x
    for link in chain.links:
        y = link.activation(_normalised(link.norm, y))
        if link.squeeze is not None:
            y = y * gate_from(link.squeeze, y.mean((2, 3)))[:, :, None, None]
        y = F.conv2d(y, link.weight, link.bias) if link.shape is None else link.shape.convolve(y, link.weight)
    y = chain.end.activation(_normalised(chain.end.norm, y))
    if chain.end.keep is not None:
        y = y * chain.end.keep[:, :, None, None]
    return y + x if chain.end.shortcut else y


def _normalised(norm: nn.BatchNorm2d | None, x: Tensor) -> Tensor:
    if norm is None:
        return x
    return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
