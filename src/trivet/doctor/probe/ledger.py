"""The ledger of parameters: who holds each, what gradient it gets, and whether it moves."""

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from trivet.doctor.trace_model import ParameterTrace

if TYPE_CHECKING:
    from trivet.doctor.probe.modules import CallRecord

WITNESS = 64
"""Values of a parameter that are kept to see whether it moves."""
KEPT_NORMS = 40
LARGEST, DENORMAL = 1e5, 1.2e-38


@dataclass
class Entry:
    """A parameter with its record and the values it had when first seen."""

    ref: "weakref.ref[torch.Tensor]"
    trace: ParameterTrace
    owner: "weakref.ref[nn.Module] | None"
    root: "weakref.ref[nn.Module] | None" = None
    sample: torch.Tensor | None = None
    norm: float | None = None
    frozen_sample: torch.Tensor | None = None
    calls: "CallRecord | None" = None
    looked: int = 0


class Ledger:
    """All parameters met, by identity."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.looks = 0
        self._trainable: list[tuple[weakref.ref[torch.Tensor], bool]] = []

    def find(self, tensor: torch.Tensor) -> Entry | None:
        """Return the entry of a tensor, if it has one."""
        entry = self.entries.get(id(tensor))
        return entry if entry is not None and entry.ref() is tensor else None

    def enter(
        self, tensor: torch.Tensor, name: str, model: str, owner: nn.Module | None, **facts: Any
    ) -> ParameterTrace:
        """Know a parameter by a name; a better name (of a model) replaces one of none."""
        entry = self.find(tensor)
        if entry is None:
            trace = ParameterTrace(
                name=name,
                model=model,
                owner=type(owner).__name__ if owner is not None else "",
                shape=list(tensor.shape),
                count=tensor.numel(),
                requires_grad=tensor.requires_grad,
                **facts,
            )
            entry = Entry(weakref.ref(tensor), trace, weakref.ref(owner) if owner is not None else None)
            entry.sample, entry.norm = sample_of(tensor), None
            _note_values(trace, tensor)
            self.entries[id(tensor)] = entry
        elif owner is not None and (not entry.trace.model or not entry.trace.registered):
            entry.trace.name, entry.trace.model, entry.owner = name, model, weakref.ref(owner)
            entry.trace.owner = type(owner).__name__
        return entry.trace

    def alive(self) -> list[tuple[torch.Tensor, Entry]]:
        """Return the parameters that still live."""
        pairs = [(entry.ref(), entry) for entry in self.entries.values()]
        return [(tensor, entry) for tensor, entry in pairs if tensor is not None]

    def observe(self, optimizer: int) -> tuple[float, float, bool]:
        """Look at gradients and weights before the step of an optimizer.

        Returns:
            The norm of either over all, and whether both are finite.
        """
        pairs = self.alive()
        self.looks += 1
        grads = _norms([(tensor.grad, entry) for tensor, entry in pairs if tensor.grad is not None])
        weights = _norms([(tensor, entry) for tensor, entry in pairs])
        for tensor, entry in pairs:
            trace = entry.trace
            trace.observed += 1
            entry.looked = self.looks
            trace.requires_grad = trace.requires_grad or tensor.requires_grad
            gradient = grads.get(id(entry))
            if gradient is not None:
                trace.with_gradient += 1
                trace.with_nonzero += gradient != 0
                trace.own_nonzero += gradient != 0 and optimizer in trace.optimizers
                if not trace.first_energy:
                    trace.first_energy = gradient * gradient
                _keep(trace.gradient_norms, gradient)
            norm = weights.get(id(entry))
            if norm is not None:
                _keep(trace.weight_norms, norm)
            self._compare(tensor, entry, norm)
        self._trainable = [(entry.ref, tensor.requires_grad) for tensor, entry in pairs]
        total = sum(value * value for value in grads.values()) ** 0.5
        weight = sum(value * value for value in weights.values()) ** 0.5
        return total, weight, total - total == 0 and weight - weight == 0

    def changed_phase(self) -> bool:
        """Whether a parameter was frozen, or set free, since it was last observed."""
        return any(
            tensor.requires_grad != trainable
            for ref, trainable in self._trainable
            if (tensor := ref()) is not None
        )

    def look_for_change(self) -> None:
        """Compare every parameter with what it was when first seen."""
        for tensor, entry in self.alive():
            self._compare(tensor, entry, None)

    def _compare(self, tensor: torch.Tensor, entry: Entry, norm: float | None) -> None:
        if entry.trace.changed:
            return
        if norm is not None and entry.norm is None:
            entry.norm = norm
        moved = norm is not None and entry.norm is not None and norm != entry.norm
        sample = sample_of(tensor)
        if sample is not None and entry.sample is not None and sample.shape == entry.sample.shape:
            same = sample == entry.sample
            moved = moved or not bool((same | (sample.isnan() & entry.sample.isnan())).all())
        entry.trace.changed = bool(moved)


def sample_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return a few values of a tensor, evenly taken, as a copy."""
    if _shapeless(tensor) or not tensor.numel():
        return None
    values = tensor.detach()
    if values.layout != torch.strided:
        return None
    values = values.flatten()
    return values[:: max(1, values.numel() // WITNESS)][:WITNESS].clone()


def poisoned_values(tensor: torch.Tensor) -> int:
    """Count the values of a floating-point tensor that are NaN."""
    if _shapeless(tensor) or not tensor.is_floating_point():
        return 0
    return int(tensor.detach().isnan().sum())


def is_lazy(tensor: torch.Tensor) -> bool:
    """Whether a parameter waits for its first forward to get its shape."""
    return isinstance(tensor, UninitializedTensorMixin)


def _shapeless(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "meta" or is_lazy(tensor)


def _note_values(trace: ParameterTrace, tensor: torch.Tensor) -> None:
    sample = sample_of(tensor)
    if sample is None or not sample.is_floating_point():
        return
    size = sample.float().abs()
    trace.largest = float(size.max())
    trace.denormal_share = float(((size > 0) & (size < DENORMAL)).float().mean())


def _norms(pairs: list[tuple[torch.Tensor, Entry]]) -> dict[int, float]:
    """Return norms by id of the entry; one reduction and one copy a device and type."""
    groups: dict[tuple[torch.device, torch.dtype], list[tuple[torch.Tensor, Entry]]] = {}
    for tensor, entry in pairs:
        values = tensor.detach()
        if _shapeless(tensor) or not values.is_floating_point() or not values.numel():
            continue
        if values.is_sparse:
            values = values.coalesce().values()
        groups.setdefault((values.device, values.dtype), []).append((values, entry))
    found: dict[int, float] = {}
    for group in groups.values():
        norms = torch.stack([norm.float() for norm in torch._foreach_norm([values for values, _ in group])])
        found.update(zip((id(entry) for _, entry in group), norms.tolist(), strict=True))
    return found


def _keep(values: list[float], value: float) -> None:
    if len(values) >= KEPT_NORMS:
        del values[1]
    values.append(value)
