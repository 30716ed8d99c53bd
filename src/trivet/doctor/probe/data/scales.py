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
class Sums:
    """Sums over the values of the batches of one kind."""

    batches: int = 0
    samples: int = 0
    values: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, batch: torch.Tensor) -> None:
        """Add evenly spaced values of a batch."""
        flat = batch.detach().flatten()
        sample = flat[:: max(1, len(flat) // MOST_VALUES)].double()
        self.batches += 1
        self.samples += len(batch)
        self.values += len(sample)
        self.total += float(sample.sum())
        self.squares += float(sample.square().sum())
        self.low, self.high = min(self.low, float(sample.min())), max(self.high, float(sample.max()))

    def trace(self) -> RangeTrace:
        """Return the figures of all that was added."""
        count = max(1, self.values)
        mean = self.total / count
        return RangeTrace(
            self.samples, mean, max(0.0, self.squares / count - mean**2) ** 0.5, self.low, self.high
        )


@dataclass
class ScaleRecord:
    """The pictures that one model was given, with gradients and without."""

    ref: "weakref.ref[nn.Module]"
    trained: Sums = field(default_factory=Sums)
    evaluated: Sums = field(default_factory=Sums)
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
        sums = record.trained if training else record.evaluated
        if sums.batches < MOST_BATCHES and (training or record.trained.batches):
            with self.allowance.measured(), torch.no_grad():
                sums.add(batch)
            if not training:
                record.place = record.place or user_place()

    def traces(self, names: dict[int, str]) -> list[ScaleTrace]:
        """Return one record a model that was given pictures both ways."""
        return [
            ScaleTrace(
                names.get(key, "model"), record.place, record.trained.trace(), record.evaluated.trace()
            )
            for key, record in self.records.items()
            if record.trained.samples and record.evaluated.samples
        ]
