"""Activation checkpointing: blocks of a model keep their inputs only, and run again during the backward pass.

Chen et al. 2016 (arXiv:1604.06174): about a third more time for a fraction of the memory. The gradients are those of
plain training: the second run draws the same random numbers and leaves the statistics of batch norms alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trivet.errors import unknown_name

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


class Recomputed:
    """Mixed into the class of a block: its forward pass keeps its inputs only."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block; in training, so that it runs again when its gradient is wanted."""
        forward = super().forward  # type: ignore[misc]
        assert isinstance(self, nn.Module), "it is mixed into a module's class"
        if not (self.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=_contexts(self), **kwargs)


def recompute(model: nn.Module, parts: Sequence[str]) -> int:
    """Let parts of a model keep less for the backward pass and compute it again, in place.

    Blocks keep their names, parameters and results. A block's class is replaced by one derived from it.

    Args:
        model: Any model.
        parts: Names of its parts: `backbone`, `neck`, `head`, or of parts of those.

    Returns:
        How many blocks are computed again.

    Raises:
        UsageError: If the model has no part of that name.
    """
    known = dict(model.named_modules())
    blocks: dict[int, nn.Module] = {}
    for name in parts:
        if name not in known or not name:
            raise unknown_name(
                "part of the model", name, [key for key in known if key.count(".") < 2 and key]
            )
        blocks |= {id(block): block for block in blocks_of(known[name])}
    for block in blocks.values():
        if not isinstance(block, Recomputed):
            block.__class__ = type(f"Recomputed{type(block).__name__}", (Recomputed, type(block)), {})
    return len(blocks)


def blocks_of(part: nn.Module) -> list[nn.Module]:
    """Return the blocks of a part: the smallest modules that join a norm with two or more layers that learn.

    Where none of them is repeated, they are the part's children that do so, and else the part as a whole. A part with
    `runs_layers_itself`, which calls what its containers hold one by one, is one block.
    """
    if any(getattr(module, "runs_layers_itself", False) for module in part.modules()):
        return [part]
    found = _blocks_below(part) if _repeats(part) else []
    found = found or [child for child in part.children() if _is_block(child) and _can_be_called(child)]
    return found or ([part] if any(True for _ in part.parameters()) else [])


def _blocks_below(module: nn.Module) -> list[nn.Module]:
    if not _repeats(module):
        return [module] if _is_block(module) and _can_be_called(module) else []
    return [block for child in module.children() for block in _blocks_below(child)]


def _repeats(module: nn.Module) -> bool:
    """Tell whether a module holds a container of blocks, at any depth."""
    return any(
        isinstance(inner, _CONTAINERS) and any(_is_block(child) for child in inner.children())
        for inner in module.modules()
    )


def _is_block(module: nn.Module) -> bool:
    inner = list(module.modules())
    norms = sum(isinstance(part, _NORMS) for part in inner)
    others = sum(isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) for part in inner)
    return norms >= 1 and others >= 2


def _can_be_called(module: nn.Module) -> bool:
    return not isinstance(module, (nn.ModuleList, nn.ModuleDict))


def _contexts(block: nn.Module) -> Callable[[], tuple[AbstractContextManager, AbstractContextManager]]:
    return lambda: (nullcontext(), _statistics_left_alone(block))


@contextmanager
def _statistics_left_alone(block: nn.Module) -> Iterator[None]:
    """Let batch norms use the batch's statistics, as in the first run, without adding them to the running ones again."""
    running = [
        (module, dict(module._buffers))
        for module in block.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and module.training
        and module.track_running_stats
    ]
    for norm, buffers in running:
        norm._buffers.update(
            {name: None if value is None else value.clone() for name, value in buffers.items()}
        )
    try:
        yield
    finally:
        for norm, buffers in running:
            norm._buffers.update(buffers)
