"""Watching a piece of code: `with trivet.watch(model, optimizer) as doctor:`."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch

from trivet.doctor import probe
from trivet.doctor.catch import Catch
from trivet.doctor.diagnose import Loss
from trivet.doctor.diagnosis import Diagnosis, diagnose_trace
from trivet.doctor.experiment import Experiment, Score, UnprovableError, prove
from trivet.doctor.finding import Finding
from trivet.doctor.probe import Probe
from trivet.doctor.proof import prove_findings
from trivet.doctor.text import write_text
from trivet.doctor.trace import Trace


def is_watching() -> bool:
    """Whether this process is watched already."""
    return probe._watching is not None


class watch:  # noqa: N801
    """Watch the training in a `with` block, and diagnose it.

    Args:
        things: Models and optimizers that exist already; those made inside the block are found by themselves.
        trace_first_step: Know the user's line of every operation of the first step, which makes it slower.
        prove: Keep the first steps, so that `proven` can repeat them (at most 256 MB of batches).

    Raises:
        RuntimeError: On entering, if this process is watched already.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> with watch(model) as doctor:
        ...     optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ...     for _ in range(5):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(4, 2)).sum().backward()
        ...         optimizer.step()
        >>> doctor.diagnose().findings
        []
    """

    def __init__(
        self,
        *things: torch.nn.Module | torch.optim.Optimizer,
        trace_first_step: bool = True,
        prove: bool = False,
    ) -> None:
        self._probe = Probe(trace_first_step=trace_first_step)
        self._catch = Catch(self._probe) if prove else None
        self._things = things
        self._trace: Trace | None = None

    def __enter__(self) -> "watch":
        self._probe.install()
        self._probe.watch_also(*self._things)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._probe.exception = fault
        try:
            self._trace = self._probe.trace()
        finally:
            self._probe.remove()

    def trace(self) -> Trace:
        """Return what was recorded: so far inside the block, all of it after."""
        return self._trace or self._probe.trace()

    def diagnose(self) -> Diagnosis:
        """Diagnose what was recorded so far."""
        return diagnose_trace(self.trace())

    def prove(
        self,
        finding: Finding | str,
        batches: Sequence[Sequence[Any]],
        loss_function: Loss,
        *,
        seconds: float = 60.0,
        score: Score | None = None,
    ) -> Experiment:
        """Judge by paired re-training, from here, whether a finding is the cause (see `experiment.prove`).

        Raises:
            UnprovableError: If the fix cannot be applied, the time is too short, or this watch was not given one
                model and one optimizer.
        """
        models = [thing for thing in self._things if isinstance(thing, torch.nn.Module)]
        optimizers = [thing for thing in self._things if isinstance(thing, torch.optim.Optimizer)]
        if len(models) != 1 or len(optimizers) != 1:
            raise UnprovableError("an experiment wants one model and one optimizer: watch(model, optimizer)")
        return prove(finding, models[0], batches, loss_function, optimizers[0], seconds=seconds, score=score)

    def proven(self, seconds: float = 60.0) -> Diagnosis:
        """Diagnose, and judge each finding by paired re-training of the steps that were watched, after the block.

        Args:
            seconds: Budget of time for all experiments together.

        Raises:
            UnprovableError: If the steps were not kept: `watch(..., prove=True)`, or the block has not ended.
        """
        if self._catch is None or self._trace is None:
            raise UnprovableError("proofs want watch(..., prove=True), and are made after its block")
        return prove_findings(self.diagnose(), self._catch, seconds)

    def text(self) -> str:
        """Return the diagnosis as text."""
        return write_text(self.diagnose())
