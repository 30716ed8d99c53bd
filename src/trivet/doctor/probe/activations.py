"""Watches activations of recorded steps: units that never fire, outputs that no longer depend on the sample."""

import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.ledger import Entry, Ledger
from trivet.doctor.probe.modules import ModuleWatch
from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.signals import LayerTrace, ReluTrace
from trivet.doctor.source import Place

RELUS = ("relu", "relu_")
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
LOOKED_BACK = 5
"""Recorded steps over which a unit must be silent."""
SAMPLES, VALUES = 16, 2048
KEPT = 12
MOST = 400


@dataclass
class Relu:
    """One application of ReLU: the layer before it, and which of its channels fired lately."""

    weight: "weakref.ref[torch.Tensor]"
    entry: Entry | None = None
    fired: "deque[torch.Tensor]" = field(default_factory=lambda: deque(maxlen=LOOKED_BACK))
    steps: int = 0
    silent_first: int = 0


@dataclass
class Layer:
    """A layer with weights, and how its outputs differ between samples."""

    weight: "weakref.ref[torch.Tensor]"
    trace: LayerTrace
    entry: Entry | None = None


class ActivationWatch:
    """Records ReLUs and the outputs of linear and convolution layers in training forwards of recorded steps."""

    def __init__(self, session: Session, modules: ModuleWatch) -> None:
        self.session = session
        self.modules = modules
        self.relus: dict[tuple[int, int], Relu] = {}
        self.layers: dict[int, Layer] = {}
        self.broken: tuple[nn.Module, Place | None] | None = None
        self._last: weakref.ref[nn.Module] | None = None
        self._seen: dict[int, int] = {}
        self._step = -1

    def install(self, patches: Patches) -> None:
        """Wrap ReLU (what `nn.ReLU` and `functional.relu` call too) and observe modules."""
        for name in RELUS:
            patches.wrap(torch, name, self._wrap, rests=True)
            patches.wrap(torch.Tensor, name, self._wrap, rests=True)
        self.modules.observers.append(self._observe)

    def know(self, ledger: Ledger) -> None:
        """Find the parameters of the layers seen, while they live."""
        every: list[Relu | Layer] = [*self.relus.values(), *self.layers.values()]
        for seen in every:
            weight = seen.weight()
            if seen.entry is None and weight is not None:
                seen.entry = ledger.find(weight)

    def fill(self, relus: list[ReluTrace], layers: list[LayerTrace]) -> None:
        """Put what was seen into lists of the trace, in the order of the forward."""
        for relu in self.relus.values():
            if relu.entry is None or not relu.fired:
                continue
            source = relu.entry.trace
            lately = [row for row in relu.fired if row.shape == relu.fired[-1].shape]
            silent = int((~torch.stack(lately).any(0)).sum())
            name, place = source.name.rpartition(".")[0], source.filled or source.place
            relus.append(
                ReluTrace(name, source.model, place, len(lately[-1]), relu.steps, silent, relu.silent_first)
            )
        for layer in self.layers.values():
            if layer.entry is not None:
                source = layer.entry.trace
                layer.trace.name, layer.trace.model = source.name.rpartition(".")[0], source.model
                layer.trace.place = source.filled or source.place
                layers.append(layer.trace)

    def _wrap(self, original: Any) -> Any:
        def relu(*args: Any, **kwargs: Any) -> Any:
            if compiling() or not self.session.active or not self.session.recording:
                return original(*args, **kwargs)
            output = original(*args, **kwargs)
            if isinstance(output, torch.Tensor) and output.requires_grad and torch.is_grad_enabled():
                with self.session.measured(), torch.no_grad():
                    self._note_relu(output)
            return output

        return relu

    def _note_relu(self, output: torch.Tensor) -> None:
        before = self._last() if self._last is not None else None
        if (
            before is None
            or output.ndim < 2
            or not output.numel()
            or not getattr(self.session.local, "depth", 0)
        ):
            return
        self._begin_step()
        count = self._seen[id(before)] = self._seen.get(id(before), 0) + 1
        key = (id(before), count)
        relu = self.relus.get(key)
        if relu is None:
            if len(self.relus) >= MOST:
                return
            relu = self.relus[key] = Relu(weakref.ref(vars(before)["_parameters"]["weight"]))
        axis = -1 if isinstance(before, (nn.Linear, nn.LayerNorm)) or output.ndim == 2 else 1
        fired = (output > 0).movedim(axis, -1).flatten(0, -2).any(0).cpu()
        if not relu.steps:
            relu.silent_first = int((~fired).sum())
        relu.steps += 1
        relu.fired.append(fired)

    def _begin_step(self) -> None:
        if self._step != self.session.steps:
            self._step = self.session.steps
            self._seen.clear()

    def _observe(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, torch.Tensor) or not vars(module).get("_parameters"):
            return
        if isinstance(vars(module)["_parameters"].get("weight"), torch.Tensor):
            self._last = weakref.ref(module)
        if not torch.is_grad_enabled() or not output.is_floating_point() or not output.numel():
            return
        with self.session.measured(), torch.no_grad():
            if isinstance(module, WEIGHTED) and output.ndim >= 2 and len(output) >= 4:
                self._note_layer(module, output.detach())
            if self.broken is None and not bool(torch.isfinite(output.detach().sum())):
                given = [value for value in arguments if isinstance(value, torch.Tensor)]
                if all(bool(torch.isfinite(value).all()) for value in given if value.is_floating_point()):
                    self.broken = module, self.modules.place_of(module)

    def _note_layer(self, module: nn.Module, output: torch.Tensor) -> None:
        layer = self.layers.get(id(module))
        weight = _weight_of(module)
        if layer is None or layer.weight() is not weight:
            if not isinstance(weight, torch.Tensor) or len(self.layers) >= MOST:
                return
            layer = self.layers[id(module)] = Layer(weakref.ref(weight), LayerTrace("", "", None))
        rows = output[:SAMPLES].flatten(1)
        rows = rows[:, :: max(1, rows.shape[1] // VALUES)].float()
        scale = float(rows.square().mean().sqrt())
        diversity = float(rows.std(0).square().mean().sqrt()) / scale if scale else 0.0
        for values, value in ((layer.trace.diversity, diversity), (layer.trace.scale, scale)):
            if len(values) >= KEPT:
                del values[3]
            values.append(value)


def _weight_of(module: nn.Module) -> torch.Tensor | None:
    """The weight as a layer holds it; reading one that is parametrised would compute it, which may change its state."""
    own: torch.Tensor | None = vars(module)["_parameters"].get("weight")
    if own is not None:
        return own
    held = vars(module)["_modules"].get("parametrizations")
    return next(held["weight"].parameters(), None) if held is not None and "weight" in held else None
