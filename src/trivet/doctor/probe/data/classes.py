"""Watches targets and answers of classifying losses, and the scores of evaluations."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

from trivet.doctor.probe.data.digest import Allowance
from trivet.doctor.probe.data.leaks import LeakWatch
from trivet.doctor.probe.losses import BINARY_LOSSES, CLASS_LOSSES
from trivet.doctor.probe.session import Session
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace_data import ClassTrace, EvaluationTrace, RegressionTrace

MOST_CLASSES = 1000
SAMPLE = 1 << 16
REGRESSION_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
MOST_COLUMNS = 8
"""Values a sample above which a target is a signal or a picture, whose mean is no answer."""
FEWEST_TARGETS = 8
Call = tuple[int, torch.Tensor, torch.Tensor]
"""Step, squared errors [values] and targets [rows, columns] of a regressing loss."""


@dataclass
class Glance:
    """One call: step, targets, answers and right answers by class, sum of the cross-entropy and its count."""

    step: int
    counts: torch.Tensor
    answers: torch.Tensor
    right: torch.Tensor
    loss: float


@dataclass
class ClassRecord:
    """The calls at one line."""

    trace: ClassTrace
    glances: "deque[Glance]" = field(default_factory=lambda: deque(maxlen=160))


class ClassWatch:
    """Counts targets and answers by class; keeps the loss on unseen samples between training steps."""

    def __init__(self, session: Session, leaks: LeakWatch) -> None:
        self.session = session
        self.leaks = leaks
        self.records: dict[tuple[str, Place | None, int], ClassRecord] = {}
        self._regressions: dict[tuple[str, Place | None, int], tuple[RegressionTrace, deque[Call]]] = {}
        self.evaluations: list[EvaluationTrace] = []
        self.train_loss: list[tuple[int, float]] = []
        self.train_accuracy: list[tuple[int, float]] = []
        self.allowance = Allowance(session, free=0.5)

    def on_loss(
        self, function: str, output: torch.Tensor, target: torch.Tensor, given: dict[str, Any], value: Any
    ) -> None:
        """Take a call of a loss."""
        if not self.allowance.left:
            return
        training = output.requires_grad and torch.is_grad_enabled()
        with self.allowance.measured(), torch.no_grad():
            pair = _classes_of(function, output.detach(), target)
            if training:
                self._note_score(self.train_loss, value)
                if pair is not None:
                    self._note(function, pair, given, target.ndim > 1)
                elif function in REGRESSION_LOSSES:
                    self._note_regression(function, output.detach(), target)
            elif self.session.steps and self.leaks.last_unseen:
                self._note_evaluation(value, pair, len(target) if target.ndim else 1)

    def traces(self) -> list[ClassTrace]:
        """Return one record a line."""
        for record in self.records.values():
            _summarise(record)
        return [record.trace for record in self.records.values()]

    def regressions(self) -> list[RegressionTrace]:
        """Return one record a line."""
        for trace, calls in self._regressions.values():
            late = [call for call in calls if call[0] >= trace.last_step * 2 / 3]
            if late:
                _, errors, values = zip(*late, strict=True)
                rows = torch.cat(values)
                trace.late_calls, trace.late_values = len(late), rows.numel()
                trace.late_error = float(torch.cat(errors).mean())
                trace.late_variance = float((rows - rows.mean(0)).square().mean())
        return [trace for trace, _ in self._regressions.values()]

    def _note_regression(self, function: str, output: torch.Tensor, target: torch.Tensor) -> None:
        if output.shape != target.shape or target.requires_grad or not target.ndim:
            return
        rows = target.detach().flatten(1) if target.ndim > 1 else target.detach()[:, None]
        if rows.shape[1] > MOST_COLUMNS:
            return
        key = (function, user_place(), rows.shape[1])
        if key not in self._regressions and len(self._regressions) < 8:
            self._regressions[key] = (RegressionTrace(function, key[1]), deque(maxlen=160))
        if key in self._regressions:
            trace, calls = self._regressions[key]
            trace.calls += 1
            trace.last_step = self.session.steps
            wrong = (output - target).float().square().flatten()
            calls.append(
                (self.session.steps, wrong[:SAMPLE], rows[: SAMPLE // rows.shape[1]].float().clone())
            )

    def _note_score(self, curve: list[tuple[int, float]], value: Any) -> None:
        if isinstance(value, torch.Tensor) and value.numel() == 1 and len(curve) < 4000:
            number = float(value.detach())
            if math.isfinite(number):
                curve.append((self.session.steps, number))

    def _note(
        self,
        function: str,
        pair: tuple[torch.Tensor, torch.Tensor, float, int],
        given: dict[str, Any],
        spatial: bool,
    ) -> None:
        answers, targets, loss, classes = pair
        place = user_place()
        key = (function, place, classes)
        record = self.records.get(key)
        if record is None:
            if len(self.records) >= 32:
                return
            record = self.records[key] = ClassRecord(ClassTrace(function, place, spatial=spatial))
        trace = record.trace
        weighted = any(given.get(name) is not None for name in ("weight", "pos_weight"))
        trace.weighted = trace.weighted or weighted or given.get("reduction", "mean") == "none"
        trace.calls += 1
        trace.last_step = self.session.steps
        ignored = given.get("ignore_index", -100)
        keep = (targets >= 0) & (targets < classes) & (targets != ignored)
        answers, targets = answers[keep], targets[keep]
        if not targets.numel():
            return
        counts = torch.bincount(targets, minlength=classes)
        trace.counts = [a + b for a, b in zip(trace.counts or [0] * classes, counts.tolist(), strict=True)]
        if not spatial and len(targets) >= FEWEST_TARGETS:
            trace.batches += 1
            trace.purity += (float(counts.max()) / len(targets) - trace.purity) / trace.batches
        right = torch.bincount(targets[answers == targets], minlength=classes)
        glance = Glance(self.session.steps, counts, torch.bincount(answers, minlength=classes), right, loss)
        record.glances.append(glance)
        if len(self.train_accuracy) < 4000:
            self.train_accuracy.append((self.session.steps, float(right.sum()) / float(counts.sum())))

    def _note_evaluation(
        self, value: Any, pair: tuple[torch.Tensor, torch.Tensor, float, int] | None, samples: int
    ) -> None:
        step = self.session.steps
        last = self.evaluations[-1] if self.evaluations else None
        if last is None or last.step != step:
            if len(self.evaluations) >= 500:
                return
            last = EvaluationTrace(step, 0)
            self.evaluations.append(last)
        old, new = last.samples, last.samples + samples
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            number = float(value)
            last.loss = number if math.isnan(last.loss) else (last.loss * old + number * samples) / new
        if pair is not None:
            share = float((pair[0] == pair[1]).float().mean()) if pair[0].numel() else math.nan
            last.accuracy = (
                share if math.isnan(last.accuracy) else (last.accuracy * old + share * samples) / new
            )
        last.samples = new


def _classes_of(
    function: str, output: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, float, int] | None:
    """Return answers, targets (both flat), mean cross-entropy and the count of classes; `None` for soft targets."""
    if function in CLASS_LOSSES:
        if target.is_floating_point() or output.ndim < 2 or not 2 <= output.shape[1] <= MOST_CLASSES:
            return None
        rows = output.movedim(1, -1).flatten(0, -2)
        flat = target.flatten()
        if len(rows) != len(flat) or not len(flat):
            return None
        step = max(1, len(flat) // SAMPLE)
        rows, flat = rows[::step].float(), flat[::step]
        kept = (flat >= 0) & (flat < rows.shape[1])
        if not bool(kept.any()):
            return None
        logs = rows if function == "nll_loss" else rows.log_softmax(1)
        loss = float(-logs[kept].gather(1, flat[kept][:, None]).mean())
        return rows.argmax(1), flat, loss, output.shape[1]
    if function in BINARY_LOSSES:
        if output.shape != target.shape or not output.numel():
            return None
        step = max(1, output.numel() // SAMPLE)
        values, truth = output.flatten()[::step].float(), target.flatten()[::step].float()
        if not bool(((truth == 0) | (truth == 1)).all()):
            return None
        chance = values.sigmoid() if function.endswith("logits") else values
        inside = chance.clamp(1e-7, 1 - 1e-7)
        loss = float(-(truth * inside.log() + (1 - truth) * (1 - inside).log()).mean())
        return (chance > 0.5).long(), truth.long(), loss, 2
    return None


def _summarise(record: ClassRecord) -> None:
    trace, glances = record.trace, list(record.glances)
    late = [glance for glance in glances if glance.step >= trace.last_step * 2 / 3]
    trace.late_calls = len(late)
    if not late:
        return
    counts = torch.stack([glance.counts for glance in late]).sum(0)
    trace.late_counts = counts.tolist()
    trace.late_answers = torch.stack([glance.answers for glance in late]).sum(0).tolist()
    trace.late_right = torch.stack([glance.right for glance in late]).sum(0).tolist()
    trace.late_loss = sum(glance.loss for glance in late) / len(late)
    share = counts.float() / counts.sum().clamp_min(1)
    trace.late_constant = float(-(share * share.clamp_min(1e-12).log()).sum())
