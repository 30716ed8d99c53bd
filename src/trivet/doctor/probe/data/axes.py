"""Watches layers over sequences: is the axis that they take for the batch the one that has the samples?"""

from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.data.digest import first_tensor
from trivet.doctor.probe.modules import ModuleWatch
from trivet.doctor.probe.session import Session
from trivet.doctor.source import Place
from trivet.doctor.trace_data import AxisTrace

MOST_LAYERS = 64


class AxisWatch:
    """Compares, for attention and recurrent layers, the axes of what they are given with the samples of the batch."""

    def __init__(self, session: Session, modules: ModuleWatch) -> None:
        self.session = session
        self.modules = modules
        self._axes: dict[int, tuple[nn.Module, AxisTrace]] = {}
        self._root: nn.Module | None = None
        self._batch = 0
        self._sure = False

    def before_root(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember how many samples a model is given."""
        given = first_tensor(args, kwargs) if self.session.recording and torch.is_grad_enabled() else None
        self._root = module if given is not None else None
        self._batch = len(given) if given is not None and given.ndim > 1 else 0
        self._sure = self._sure or (given is not None and given.ndim > 3)

    def on_loss(self, target: torch.Tensor) -> None:
        """Know that the first axis is that of the samples: each has a label. Pictures come that way, sequences need not."""
        self._sure = self._sure or (len(target) == self._batch if target.ndim == 1 else False)

    def observe(self, module: nn.Module, args: tuple[Any, ...], _: object) -> None:
        """Look at what a layer was given, after a call of it."""
        if (
            not isinstance(module, (nn.MultiheadAttention, nn.RNNBase))
            or self._batch < 2
            or module is self._root
        ):
            return
        given = args[0] if args else None
        if not isinstance(given, torch.Tensor) or given.ndim != 3 or len(self._axes) >= MOST_LAYERS:
            return
        trace = self._axes.setdefault(id(module), (module, self._trace_of(module)))[1]
        samples, positions = (0, 1) if module.batch_first else (1, 0)
        taken, other = given.shape[samples], given.shape[positions]
        trace.calls += 1
        # several pieces of one sample may be samples of the layer; a batch that is also the length tells nothing
        if other == self._batch and taken > 1 and taken % self._batch:
            trace.wrong += 1
            trace.shape, trace.batch = list(given.shape), self._batch

    def traces(self) -> list[AxisTrace]:
        """Return the layers that were always given the samples along the wrong axis."""
        return [trace for _, trace in self._axes.values() if self._sure and trace.wrong == trace.calls]

    def _trace_of(self, module: Any) -> AxisTrace:
        return AxisTrace(type(module).__name__, self._place_of(module), bool(module.batch_first))

    def _place_of(self, module: nn.Module) -> Place | None:
        """Where a layer is made, or what holds it: the inner ones of torch's own are copies."""
        place = self.modules.place_of(module)
        if place is not None or self._root is None:
            return place
        path = next((name for name, part in self._root.named_modules() if part is module), "")
        while place is None and path:
            path = path.rpartition(".")[0]
            place = self.modules.place_of(self._root.get_submodule(path))
        return place
