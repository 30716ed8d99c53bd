"""Watches whether a model is evaluated on samples it was trained on."""

import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trivet.doctor.origins import argument_at
from trivet.doctor.probe.data.digest import (
    Allowance,
    first_tensor,
    integers_of,
    plain_samples,
    sample_digests,
)
from trivet.doctor.probe.data.loaders import LoaderWatch
from trivet.doctor.probe.modules import unwrapped
from trivet.doctor.probe.session import DENSE_STEPS, Session
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace_data import LeakTrace

MOST_SAMPLES = 200_000
MOST_EVALUATED = 50_000
RUN = 4
"""Length of the runs of values by which overlapping sequences are known."""

FINE, MANY = 0.2, 300
"""Share (or count) of different values in a batch; runs of coarse values, such as pixels, are equal by chance."""

_RUN_FACTORS = (0x9E3779B97F4A7C15 - 2**64, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D, 0x14057B7EF767814F)


@dataclass
class ModelSamples:
    """What one model was given, in training and in evaluation."""

    ref: "weakref.ref[nn.Module]"
    trained: set[int] = field(default_factory=set)
    runs: set[int] = field(default_factory=set)
    repeated: "deque[float]" = field(default_factory=lambda: deque(maxlen=24))
    evaluated: list[list[int]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    count: int = 0
    place: Place | None = None
    missed: int = 0
    first: list[int] = field(default_factory=lambda: [0, 0])
    """Samples of the first evaluation, and how many of them had been trained on by then."""
    repeated_then: float = 0.0
    first_over: bool = False


class LeakWatch:
    """Keeps digests of the samples that models are trained and evaluated on, within bounds of time and memory."""

    def __init__(self, session: Session, loaders: LoaderWatch) -> None:
        self.session = session
        self.loaders = loaders
        self.models: dict[int, ModelSamples] = {}
        self.training, self.evaluating = Allowance(session), Allowance(session)
        self.last_unseen = True
        self._last_training: tuple[int, int] = (-1, -1)

    def on_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the samples of a call."""
        training = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        allowance = self.training if training else self.evaluating
        if self.session.steps >= DENSE_STEPS and not allowance.left:
            record = self.models.get(id(unwrapped(module)))
            if record is not None and training:
                record.missed += 1
            return
        with allowance.measured(), torch.no_grad():
            batch = first_tensor(args, kwargs)
            if batch is None or batch.requires_grad or (batch.is_cuda and not self.session.recording):
                return
            digests = sample_digests(batch)
            if digests is None:
                self.last_unseen = True
                return
            module = unwrapped(module)
            record = self.models.get(id(module))
            if record is None or record.ref() is not module:
                record = self.models[id(module)] = ModelSamples(weakref.ref(module))
            if training:
                self._train(record, batch, digests)
            elif record.trained:
                self._evaluate(record, batch, digests)

    def _train(self, record: ModelSamples, batch: torch.Tensor, digests: torch.Tensor) -> None:
        values = digests.tolist()
        record.first_over = record.first_over or record.first[0] > 0
        if len(record.trained) < MOST_SAMPLES:
            record.repeated.append(sum(value in record.trained for value in values) / len(values))
            record.trained.update(values)
        else:
            record.missed += 1
        runs = _runs(batch)
        if runs is not None and len(record.runs) < MOST_SAMPLES:
            record.runs.update(
                runs[:, :-1].flatten().tolist()
            )  # at the end stands the same window, or another

    def _evaluate(self, record: ModelSamples, batch: torch.Tensor, digests: torch.Tensor) -> None:
        values = digests.tolist()
        seen = sum(value in record.trained for value in values) / len(values)
        self.last_unseen = seen < 0.5
        if record.count >= MOST_EVALUATED or self.loaders.trains_on(batch):
            return
        record.place = record.place or self.loaders.place_of(batch) or user_place()
        record.count += len(values)
        plain = plain_samples(batch).tolist()
        kept = [value for value, skip in zip(values, plain, strict=True) if not skip]
        record.evaluated.append(kept)
        if not record.first_over:
            known = sum(value in record.trained for value in kept)
            record.first = [record.first[0] + len(kept), record.first[1] + known]
            record.repeated_then = sum(record.repeated) / max(1, len(record.repeated))
        runs = _runs(batch)
        if runs is not None:
            record.ends += [run for run in runs[:, -1].tolist() if run]

    def traces(self, names: dict[int, str]) -> list[LeakTrace]:
        """Return one record a model that was evaluated after training."""
        found = []
        for key, record in self.models.items():
            if not record.evaluated:
                continue
            place = (
                argument_at(record.place) or record.place
            )  # where they were split, rather than where they are used
            trace = LeakTrace(names.get(key, "model"), place, trained=len(record.trained))
            trace.repeated = sum(record.repeated) / len(record.repeated) if record.repeated else 0.0
            if record.missed:
                trace.repeated = min(trace.repeated, 0.5)
            trace.first_share = record.first[1] / record.first[0] if record.first[0] else 0.0
            trace.repeated_then = record.repeated_then
            whole, mixed = [], set()
            for batch in record.evaluated:
                kept = [value for value in batch if value in record.trained]
                if batch and len(kept) == len(batch):
                    whole.append(batch)
                else:
                    mixed.update(batch)
            shared = [value for value in mixed if value in record.trained]
            trace.evaluated, trace.shared = len(mixed), len(shared)
            trace.covered = len(shared) / max(1, len(record.trained))
            ends = set(record.ends)
            trace.windows, trace.windows_shared = len(ends), len(ends & record.runs)
            found.append(trace)
        unseen = any(
            trace.evaluated > trace.shared for trace in found
        )  # else the training score is one of several
        return found + self.loaders.subset_leaks() + ([] if unseen else self.loaders.within_leaks())


def _runs(batch: torch.Tensor) -> torch.Tensor | None:
    """Return digests of all runs of values in sequences [B, T - 3]; 0 where a run repeats a value."""
    if not batch.is_floating_point() or batch.ndim not in (2, 3):
        return None
    values = batch.detach()
    if values.ndim == 3:
        if 1 not in values.shape[1:]:
            return None
        values = values.flatten(1)
    if not 8 <= values.shape[1] <= 512:
        return None
    whole = integers_of(values)
    if len(whole.unique()) < min(FINE * whole.numel(), MANY):
        return None
    pieces = whole.unfold(1, RUN, 1)
    varied = (pieces.sort(2).values.diff(dim=2) != 0).all(2)
    factors = torch.tensor(_RUN_FACTORS, device=values.device)
    return (pieces * factors).sum(2) * varied
