"""Watches whether pictures reach a model on one scale in training and in evaluation."""

import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.data.digest import Allowance, first_tensor
from trivet.doctor.probe.modules import unwrapped
from trivet.doctor.probe.session import Session
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace_data import RangeTrace, ScaleTrace

MOST_BATCHES = 24
MOST_VALUES = 4096
"""Values of a batch that are looked at."""


@dataclass
class ScaleRecord:
    """The pictures that one model was given, with gradients and without."""

    ref: "weakref.ref[nn.Module]"
    trained: RangeTrace = field(default_factory=RangeTrace)
    evaluated: RangeTrace = field(default_factory=RangeTrace)
    place: Place | None = None


class ScaleWatch:
    """Sums up the values of the first batches of pictures of each model."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.allowance = Allowance(session, free=0.1)
        self.records: dict[int, ScaleRecord] = {}

    def on_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the pictures of a call."""
        if not self.allowance.left:
            return
        batch = first_tensor(args, kwargs)
        if batch is None or batch.ndim != 4 or batch.shape[1] > 4 or not batch.numel():
            return
        if batch.requires_grad or (batch.is_cuda and not self.session.recording):
            return
        module = unwrapped(module)
        record = self.records.get(id(module))
        if record is None or record.ref() is not module:
            record = self.records[id(module)] = ScaleRecord(weakref.ref(module))
        training = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        seen = record.trained if training else record.evaluated
        if seen.batches < MOST_BATCHES and (training or record.trained.batches):
            with self.allowance.measured(), torch.no_grad():
                _add(seen, batch)
            if not training:
                record.place = record.place or user_place()

    def traces(self, names: dict[int, str]) -> list[ScaleTrace]:
        """Return one record a model that was given pictures both ways."""
        return [
            ScaleTrace(names.get(key, "model"), record.place, record.trained, record.evaluated)
            for key, record in self.records.items()
            if record.trained.samples and record.evaluated.samples
        ]


def _add(seen: RangeTrace, batch: torch.Tensor) -> None:
    """Add evenly spaced values of a batch."""
    flat = batch.detach().flatten()
    sample = flat[:: max(1, len(flat) // MOST_VALUES)].double()
    new, shift = len(sample) / (seen.values + len(sample)), float(sample.mean()) - seen.mean
    variance = (1 - new) * seen.std**2 + new * float(sample.var(correction=0)) + new * (1 - new) * shift**2
    seen.mean, seen.std = seen.mean + new * shift, variance**0.5
    low, high = float(sample.min()), float(sample.max())
    seen.low, seen.high = (min(seen.low, low), max(seen.high, high)) if seen.batches else (low, high)
    seen.batches, seen.samples, seen.values = (
        seen.batches + 1,
        seen.samples + len(batch),
        seen.values + len(sample),
    )
