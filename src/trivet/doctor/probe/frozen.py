"""Watches frozen parts of models: whether the statistics of their batch norms go on moving."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from trivet.doctor.probe.ledger import is_lazy, sample_of
from trivet.doctor.probe.modules import BATCH_NORMS
from trivet.doctor.probe.session import Session

LOOKS = 3
"""Surveys after steps of training, at each of which statistics must have moved."""


@dataclass
class Glimpse:
    """A frozen part as it was seen last: a few of its weights, and the batches that its norms have counted."""

    ref: "weakref.ref[nn.Module]"
    weights: list[torch.Tensor]
    batches: dict[int, int]
    moved: int = 0
    looks: int = 0
    step: int = 0
    moving: bool = False


class FrozenWatch:
    """Compares, from one survey to the next, the parts of models that are frozen."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._seen: dict[int, Glimpse] = {}

    def look(self, root: nn.Module, name: str) -> dict[str, int]:
        """Return the batches that the statistics of each frozen part took in while its weights lay still."""
        return {path: self._compare(part) for path, part in _frozen_parts(root, name)}

    def _compare(self, part: nn.Module) -> int:
        weights = [sample for p in part.parameters() if (sample := sample_of(p)) is not None][:16]
        batches = {id(norm): _batches(norm) for norm in part.modules() if isinstance(norm, BATCH_NORMS)}
        seen = self._seen.get(id(part))
        if seen is None or seen.ref() is not part:
            self._seen[id(part)] = Glimpse(weakref.ref(part), weights, batches, step=self.session.steps)
            return 0
        same = len(weights) == len(seen.weights)
        still = same and all(torch.equal(a, b) for a, b in zip(weights, seen.weights, strict=True))
        seen.moving = seen.moving or not still  # a teacher that the code moves by itself
        if batches.keys() == seen.batches.keys() and self.session.steps > seen.step:
            moved = max((batches[key] - seen.batches[key] for key in batches), default=0)
            seen.moved, seen.looks = seen.moved + moved, seen.looks + (moved > 0)
        seen.weights, seen.batches, seen.step = weights, batches, self.session.steps
        return seen.moved if seen.looks >= LOOKS and not seen.moving else 0


def _frozen_parts(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the outermost parts with weights besides those of norms, none of which requires a gradient."""
    parameters = list(module.parameters())
    if any(p.requires_grad or is_lazy(p) for p in parameters):
        for key, child in module._modules.items():
            if child is not None:
                yield from _frozen_parts(child, f"{path}.{key}")
    elif any(True for layer in module.modules() for _ in _own(layer)) and _tracks(module):
        yield path, module


def _own(layer: nn.Module) -> Iterator[nn.Parameter]:
    if not isinstance(layer, BATCH_NORMS):
        yield from layer.parameters(recurse=False)


def _tracks(part: nn.Module) -> bool:
    norms = [layer for layer in part.modules() if isinstance(layer, BATCH_NORMS)]
    return any(norm.track_running_stats and norm.momentum != 0 for norm in norms)


def _batches(norm: nn.Module) -> int:
    count = getattr(norm, "num_batches_tracked", None)
    return 0 if count is None or is_lazy(count) else int(count)
