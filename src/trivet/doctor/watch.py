"""Watching a piece of code: `with trivet.watch(model, optimizer) as doctor:`."""

from types import TracebackType

import torch

from trivet.doctor.diagnosis import Diagnosis, diagnose_trace
from trivet.doctor.probe import Probe
from trivet.doctor.text import write_text
from trivet.doctor.trace import Trace


class watch:  # noqa: N801
    """Watch the training in a `with` block, and diagnose it.

    Args:
        things: Models and optimizers that exist already; those made inside the block are found by themselves.

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

    def __init__(self, *things: torch.nn.Module | torch.optim.Optimizer) -> None:
        self._probe = Probe(trace_first_step=True)
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
        self._trace = self._probe.trace()
        self._probe.remove()

    def trace(self) -> Trace:
        """Return what was recorded: so far inside the block, all of it after."""
        return self._trace or self._probe.trace()

    def diagnose(self) -> Diagnosis:
        """Diagnose what was recorded so far."""
        return diagnose_trace(self.trace())

    def text(self) -> str:
        """Return the diagnosis as text."""
        return write_text(self.diagnose())
