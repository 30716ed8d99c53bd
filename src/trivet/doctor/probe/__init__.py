"""The probe: wraps torch, reversibly, and records a `Trace` of whatever trains in this process."""

import warnings
from statistics import median
from types import TracebackType
from typing import Any

import torch
from torch import nn

from trivet.doctor.graph import Graph
from trivet.doctor.probe.activations import ActivationWatch
from trivet.doctor.probe.copies import CopyWatch
from trivet.doctor.probe.cuts import CutWatch
from trivet.doctor.probe.data import DataWatch
from trivet.doctor.probe.draws import DrawWatch
from trivet.doctor.probe.fills import FillWatch
from trivet.doctor.probe.kept import GraphWatch
from trivet.doctor.probe.ledger import Entry, Ledger, is_lazy, poisoned_values, sample_of
from trivet.doctor.probe.losses import LossWatch
from trivet.doctor.probe.masked import MaskedWatch
from trivet.doctor.probe.modules import ModuleWatch
from trivet.doctor.probe.names import variables_that_hold
from trivet.doctor.probe.noise import NoiseWatch
from trivet.doctor.probe.paths import PathWatch
from trivet.doctor.probe.risks import RiskWatch
from trivet.doctor.probe.scaling import OptimizerRecord
from trivet.doctor.probe.schedulers import SchedulerWatch
from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.probe.survey import Survey
from trivet.doctor.probe.terms import TermWatch
from trivet.doctor.probe.training import TrainingWatch
from trivet.doctor.probe.written import changes_rate, written_at
from trivet.doctor.trace import StepTrace, Trace

TRACED_BACKWARDS = 3
LOOK_AGAIN = 8
"""Steps between two looks at what requires a gradient, at rest."""
WITNESSES = 16
"""Weights whose update is measured."""
_watching: "Probe | None" = None


class Probe:
    """Records the training of this process between `install` and `remove`.

    Args:
        poison: Fill fresh memory with NaN until the first forward, which proves uninitialised parameters. Only
            where the models are built after `install`.
        trace_first_step: Keep the user's line of every operation of the first step (one slow step).
    """

    def __init__(self, *, poison: bool = False, trace_first_step: bool = True) -> None:
        self.session = Session()
        self.modules = ModuleWatch(self.session)
        self.training = TrainingWatch(self.session)
        self.losses = LossWatch(self.session, self.modules)
        self.schedulers = SchedulerWatch(
            self.session,
            lambda held: self.training.record_of(held).index,
            lambda index: self.training.optimizers[index].trace.steps,
        )
        self.cuts = CutWatch(self.session)
        self.copies = CopyWatch(self.session)
        self.fills = FillWatch(self.session)
        self.fills.on_fill.append(self.modules.note_fill)
        self.graphs = GraphWatch(self.session)
        self.risks = RiskWatch(self.session)
        self.activations = ActivationWatch(self.session, self.modules)
        self.data = DataWatch(self.session, self.modules, self.losses)
        self.terms = TermWatch(self.session)
        self.ledger = Ledger()
        self.masked = MaskedWatch(self.ledger)
        self.paths = PathWatch(self.session, self.ledger)
        self.survey = Survey(self.modules, self.ledger, self.fills)
        self.draws = DrawWatch(self.session, self.survey.names)
        self.noise = NoiseWatch(self.session, self.survey.names)
        self.recorded: list[StepTrace] = []
        self.exception: BaseException | None = None
        self.script = ""
        self.ended = "whole"
        self.poisoned = False
        self._poison = poison
        self._trace_first = self._may_trace = trace_first_step
        self._patches = Patches()
        self._surveyed = -1
        self._still: list[tuple[Entry, torch.Tensor]] = []
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def install(self) -> None:
        """Begin to record.

        Raises:
            RuntimeError: If another probe records in this process.
        """
        global _watching
        if _watching is not None:
            raise RuntimeError("the doctor already watches this process")
        _watching = self
        watches = (self.modules, self.training, self.losses, self.schedulers, self.cuts, self.copies)
        for watch in (*watches, self.draws, self.noise, self.fills, self.activations, self.terms, self.data):
            with (
                self.session.shielded()
            ):  # a torch that has moved something: the rest is watched all the same
                watch.install(self._patches)
        self._patches.wrap(torch.jit, "script", self._wrap_script)
        self.session.on_rest += [self._patches.rest, self.modules.rest, self.training.rest]
        self.session.on_wake += [self.modules.wake, self._patches.wake, self.training.resume]
        self.session.busy.append(torch.is_anomaly_enabled)  # a backward that fails then is to be explained
        self.session.on_doze.append(self._patches.doze)
        self.session.on_stir.append(self._patches.stir)
        self.training.before_step.append(self._before_step)
        self.training.after_step.append(self._after_step)
        self.modules.observers.append(self.cuts.observe)
        self.modules.written_at = self.copies.written_at
        self.training.on_graph += [self._note_graph, self.risks.note]
        self.training.on_losses += [self.terms.on_losses, self.graphs.plant, self.paths.follow]
        self.training.before_step.append(self.terms.end)
        self.modules.after_root += [self.paths.note_answer, self.noise.after_root, self.terms.after_root]
        self.modules.before_root.append(self.noise.before_root)
        if self._poison:
            self._start_poisoning()
        if self._trace_first:
            self._start_tracing()

    def _wrap_script(self, original: Any) -> Any:
        """The compiler of TorchScript knows functions by identity: it is shown the originals."""

        def script(*args: Any, **kwargs: Any) -> Any:
            with self._patches.suspended(torch, torch.Tensor, torch._VF, nn.functional):
                return original(*args, **kwargs)

        return script

    def remove(self) -> None:
        """Stop recording and put everything back."""
        global _watching
        if _watching is self:
            _watching = None
        self.session.active = False
        self._patches.undo()

    def __enter__(self) -> "Probe":
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, stack: TracebackType | None
    ) -> None:
        if fault is not None:
            self.exception = fault
        self.remove()

    def watch_also(self, *things: Any) -> None:
        """Know models and optimizers that were made before recording began."""
        for thing in things:
            if isinstance(thing, torch.nn.Module):
                self.modules.adopt(thing)
            elif isinstance(thing, torch.optim.Optimizer):
                self.training.record_of(thing)

    def take_survey(self) -> None:
        """Name all models that live now; called from under the user's own frames."""
        optimizers = [held for record in self.training.optimizers if (held := record.ref()) is not None]
        named = variables_that_hold([*self.modules.outermost(), *optimizers])
        self.survey.take(named)
        for record in self.training.optimizers:
            held = record.ref()
            if held is not None:
                record.trace.name = named.get(id(held), record.trace.name)
                self._enter_members(record, held)
        cut_at = self.cuts.places()
        for tensor, entry in self.ledger.alive():
            entry.trace.cut = cut_at.get(id(tensor)) or entry.trace.cut
        self.activations.know(self.ledger)
        self._surveyed = len(self.modules.made)

    def trace(self) -> Trace:
        """Return what was recorded so far; what cannot be put together is listed under `faults`."""
        from trivet.doctor.probe.assemble import assemble

        return assemble(self)

    def _enter_members(self, record: OptimizerRecord, optimizer: torch.optim.Optimizer) -> None:
        groups = optimizer.param_groups
        held = [(parameter, group) for group in groups for parameter in group["params"]]
        record.trace.tensors = len(held)
        record.trace.weight_decay = max(
            (float(group.get("weight_decay", 0.0) or 0.0) for group in groups), default=0.0
        )
        for i, (parameter, group) in enumerate(held):
            if is_lazy(parameter):
                continue
            trace = self.ledger.enter(parameter, f"{record.trace.name or 'optimizer'}[{i}]", "", None)
            trace.rate = max(trace.rate, float(group.get("lr", 0.0)))
            if record.index not in trace.optimizers:
                trace.optimizers.append(record.index)

    def _before_step(self, record: OptimizerRecord, optimizer: torch.optim.Optimizer) -> None:
        if not self.session.recording:
            return
        with self.session.measured():
            steps = self.session.steps
            changed = self._surveyed != len(self.modules.made) or self.session.renewed
            if changed or steps < 3 or steps % 10 == 0:
                self.take_survey()
            else:
                self._enter_members(record, optimizer)
            gradient, weight, finite = self.ledger.observe(record.index)
            rate = float(optimizer.param_groups[0].get("lr", 0.0))
            if record.trace.steps_starved and record.trace.rate_place is None:
                record.trace.rate_place = written_at(self.survey.files(), changes_rate)
            self.recorded.append(StepTrace(steps, record.index, rate, gradient, weight, finite))
            held = [p for group in optimizer.param_groups for p in group["params"]]
            if all(p.grad is None for p in held):
                record.trace.empty_steps += 1
            self._note_members(record, held)
            self._still = [
                (entry, parameter)
                for parameter in held
                if (entry := self.ledger.find(parameter)) is not None
                and (
                    not parameter.requires_grad
                    or (entry.trace.gradient_norms and not entry.trace.gradient_norms[-1])
                )
            ]
            for entry, parameter in self._still:
                entry.frozen_sample = sample_of(parameter)
            self._before = _samples(held)
            self.masked.before_step(held)
            self.graphs.look()
            self.paths.name_answered()

    def _after_step(self, _: OptimizerRecord, optimizer: torch.optim.Optimizer) -> None:
        self._stop_tracing()
        if self.session.recording:
            with self.session.measured():
                for entry, parameter in self._still:
                    before, now = entry.frozen_sample, sample_of(parameter)
                    if before is not None and now is not None and not torch.equal(before, now):
                        entry.trace.moved_while_frozen += not parameter.requires_grad
                        entry.trace.decayed_only += parameter.requires_grad and self.recorded[-1].finite
                    entry.frozen_sample = None
                self.masked.after_step()
                self.recorded[-1].update_ratio = _update_ratio(self._before)
                self._before = []
                if self.session.steps < 2:
                    self.ledger.look_for_change()
                if self._may_trace and self.paths.wants_tracing():
                    self._trace_first = True
                    self._start_tracing()
        elif self.session.steps % LOOK_AGAIN == 0 and self.ledger.changed_phase():
            self.session.renew()
        self.modules.end_step(optimizer)
        self.data.end_step()
        self.session.advance()

    def _note_members(self, record: OptimizerRecord, held: list[torch.Tensor]) -> None:
        entries = [self.ledger.find(parameter) for parameter in held]
        record.trace.steps_foreign += any(entry is not None and entry.trace.gone for entry in entries)
        for parameter, entry in zip(held, entries, strict=True):
            owner = entry.owner() if entry is not None and entry.owner is not None else None
            if entry is not None and owner is not None and parameter.grad is not None:
                entry.trace.in_train += owner.training
                entry.trace.in_eval += not owner.training

    def _note_graph(self, graph: Graph) -> None:
        if not self.session.steps and not self.ledger.entries:
            self.take_survey()
        backward = self.training.backward
        known = 0
        for leaf in graph.leaves.values():
            entry = self.ledger.find(leaf)
            if entry is not None:
                entry.trace.reached = (entry.trace.reached or 0) + 1
            known += entry is not None or isinstance(leaf, torch.nn.Parameter)
        backward.foreign_leaves += len(graph.leaves) > known
        backward.reached_parameters = max(backward.reached_parameters, known)
        self.paths.note_loss(graph, backward.place)
        if backward.walked == TRACED_BACKWARDS:
            self._stop_tracing()

    def _start_tracing(self) -> None:
        before = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
        if before[0]:
            self._trace_first = False
            return
        torch.set_anomaly_enabled(True, False)
        self._patches.on_undo(self._stop_tracing)

    def _stop_tracing(self) -> None:
        if self._trace_first:
            self._trace_first = False
            torch.set_anomaly_enabled(False, True)
            self.paths.end()

    def _start_poisoning(self) -> None:
        if torch.are_deterministic_algorithms_enabled():
            return
        torch._C._set_deterministic_algorithms(True, warn_only=True)
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        self.poisoned = True
        self.modules.on_first_call.append(self._stop_poisoning)
        self._patches.on_undo(self._end_poison)

    def _end_poison(self) -> None:
        if self._poison:
            self._poison = False
            torch._C._set_deterministic_algorithms(False, warn_only=False)

    def _stop_poisoning(self) -> None:
        """At the first forward: whatever is still NaN was never filled; it goes on as zero."""
        if not self._poison:
            return
        self._end_poison()
        with self.session.measured(), torch.no_grad():
            self.take_survey()
            for tensor, entry in self.ledger.alive():
                count = poisoned_values(tensor)
                if count:
                    entry.trace.poisoned = count
                    tensor.data.nan_to_num_(nan=0.0)


def _samples(held: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A few values of some weights with a gradient, evenly taken."""
    weights = [p for p in held if p.ndim > 1 and p.grad is not None]
    chosen = weights[:: max(1, len(weights) // WITNESSES)][:WITNESSES]
    return [(p, sample) for p in chosen if (sample := sample_of(p)) is not None]


def _update_ratio(before: list[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Median over weights of the size of the update against that of the weight."""
    ratios = []
    for parameter, old in before:
        new = sample_of(parameter)
        if new is not None and new.shape == old.shape:
            size = float(old.float().norm())
            if size > 0:
                ratios.append(float((new - old).float().norm()) / size)
    return median(ratios) if ratios else None


__all__ = ["Probe"]
