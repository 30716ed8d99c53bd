"""What the parts of the probe share: whether to record now, the clock of its own cost, and reversible wrapping."""

import math
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

DENSE_STEPS = 20
"""Every step up to this one is recorded."""
RENEWED_STEPS, MOST_RENEWALS = 10, 6
"""Steps that are recorded densely after a change of what is trained, and how often."""
FIRST_INTERVAL = 51
"""Recorded steps are this far apart afterwards, further when the budget is overdrawn; odd, for optimizers take turns."""
BUDGET = 0.001
"""Largest share of the training's time that recording may take, after the dense steps, and looking at it at rest."""
LOOK_SECONDS = 100e-6
"""Processor time that looking at a step at rest takes."""
MOST_STRIDE = 51
"""Steps at rest of which one is looked at, at most."""
STRIDE_GROWTH = 0.01
"""By how much that may grow with each step: of a short training many are looked at."""
INTERVAL_GROWTH = 0.01
"""By how much recorded steps are further apart with each step: each changes classes, and Python gives up caching what it
looks up in a class that was changed a thousand times."""
CLOSE_LOOK = 5
"""Steps that are recorded after something unusual, once a run."""
MOST_FAULTS = 8

is_compiling = torch.compiler.is_compiling
_tracing_state, _transformed = torch._C._get_tracing_state, torch._C._functorch.peek_interpreter_stack

_live: "weakref.WeakSet[Session]" = weakref.WeakSet()


def _silence_in_child() -> None:
    for session in list(_live):
        session.active = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_silence_in_child)


@dataclass(frozen=True)
class Replaced:
    """An attribute that was replaced; `own` when the owner itself had it, not a class that it derives from."""

    owner: Any
    name: str
    original: Any
    wrapped: Any
    own: bool

    def put_back(self) -> None:
        """Put the original back, unless somebody else has replaced it meanwhile."""
        if vars(self.owner).get(self.name) is not self.wrapped:
            return
        if self.own:
            setattr(self.owner, self.name, self.original)
        else:
            delattr(self.owner, self.name)

    def replace(self) -> None:
        """Replace the original, if it is there."""
        if getattr(self.owner, self.name) is self.original:
            setattr(self.owner, self.name, self.wrapped)


class Patches:
    """Attributes replaced for a time; `undo` puts every original back, last first."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._wrapped: list[tuple[Any, str, Any]] = []
        self._resting: list[Replaced] = []
        self._dozing: list[Replaced] = []
        self.at_rest = False

    def wrap(
        self,
        owner: Any,
        name: str,
        make: Callable[[Any], Any],
        *,
        rests: bool = False,
        dozes: bool = False,
    ) -> None:
        """Replace `owner.name` by `make(original)`.

        What `rests` is put back between `rest` and `wake`, what `dozes` between `doze` and `stir`: many times a second,
        which is for functions of modules, not for classes, whose every cached lookup it would void.
        """
        original = getattr(owner, name)
        own = name in vars(owner)
        wrapped = make(original)
        for told in ("__name__", "__qualname__", "__module__", "__doc__"):
            if isinstance(getattr(original, told, None), str):
                setattr(wrapped, told, getattr(original, told))
        wrapped.__wrapped__ = original
        setattr(owner, name, wrapped)
        self._wrapped.append((owner, name, original))
        replaced = Replaced(owner, name, original, wrapped, own)
        if rests:
            self._resting.append(replaced)
            if self.at_rest:
                replaced.put_back()
        if dozes:
            self._dozing.append(replaced)
        self._undo.append(replaced.put_back)

    def rest(self) -> None:
        """Put back the originals of what is of use in recorded steps only."""
        self.at_rest = True
        for replaced in self._resting:
            replaced.put_back()

    def wake(self) -> None:
        """Replace again what `rest` has put back."""
        self.at_rest = False
        for replaced in self._resting:
            replaced.replace()

    def doze(self) -> None:
        """Put back the originals of what is of use in steps only that are looked at."""
        for replaced in self._dozing:
            replaced.put_back()

    def stir(self) -> None:
        """Replace again what `doze` has put back."""
        for replaced in self._dozing:
            replaced.replace()

    @contextmanager
    def suspended(self, *owners: Any) -> Iterator[None]:
        """Put the originals of some owners back for a block, as for a compiler that knows functions by identity."""
        chosen = [wrap for wrap in self._wrapped if wrap[0] in owners]
        held = [(owner, name, getattr(owner, name)) for owner, name, _ in chosen]
        for owner, name, original in chosen:
            setattr(owner, name, original)
        try:
            yield
        finally:
            for owner, name, wrapped in held:
                setattr(owner, name, wrapped)

    def on_undo(self, action: Callable[[], None]) -> None:
        """Call an action when the originals are put back."""
        self._undo.append(action)

    def undo(self) -> None:
        """Put the originals back."""
        self._wrapped.clear()
        self._resting.clear()
        self._dozing.clear()
        while self._undo:
            self._undo.pop()()


class Session:
    """The state of one watched training.

    Attributes:
        active: Whether anything is recorded; false in the processes of a loader.
        recording: Whether the current step is one that is looked into.
        resting: Whether whatever only recorded steps need has been taken off torch, so that a step costs next to nothing.
        quiet: Whether the step is not even looked at: while at rest, most of those that are over at once.
        held: Whether somebody needs every step, so that nothing may be taken off.
        busy: Tell whether somebody needs to look at every step at rest.
        on_rest, on_wake: Called when this begins and ends.
        on_doze, on_stir: Called when what only looking needs is taken off, and put on again.
        steps: Optimizer steps so far, over all optimizers.
        optimizers: Optimizers made so far.
        phase: Grows when what is trained may have changed.
        lock: Held while records change.
        faults: What went wrong in the probe itself.
    """

    def __init__(self) -> None:
        self.active = True
        self.recording = True
        self.resting = False
        self.quiet = False
        self.held = False
        self.busy: list[Callable[[], bool]] = []
        self.on_rest: list[Callable[[], None]] = []
        self.on_wake: list[Callable[[], None]] = []
        self.on_doze: list[Callable[[], None]] = []
        self.on_stir: list[Callable[[], None]] = []
        self.steps = 0
        self.optimizers = 0
        self.phase = 0
        self.spent = 0.0
        self.faults: list[str] = []
        self.lock = threading.RLock()
        self.local = threading.local()
        self._shield = Shield(self)
        self._first: float | None = None
        self._last: float = 0.0
        self._dense = DENSE_STEPS
        self._renewals = 0
        self._next = DENSE_STEPS
        self._interval = FIRST_INTERVAL
        self._stride = 1
        self._looked_closer = False
        self._dozing = False
        self._spent_before = 0.0
        self._dense_over = 0.0
        self._compiled_before = _compiled()
        _live.add(self)

    def renew(self) -> None:
        """Record the next steps densely again, a few times a run: another training begins, or another phase of it."""
        self.phase += 1
        if self.steps >= self._dense and self._renewals < MOST_RENEWALS:
            self._renewals += 1
            self._dense = self._next = self.steps + RENEWED_STEPS
            self._record()

    def look_closer(self) -> None:
        """Record the next few steps, the first time that something unusual happens."""
        if not self._looked_closer:
            self._looked_closer = True
            self._dense = max(self._dense, self.steps + CLOSE_LOOK)
            self._record()

    def rest(self) -> None:
        """Take off whatever only recorded steps need, unless code is compiled, which would be compiled again."""
        if not self.resting and not self.held and self.active and not self.has_compiled:
            self.resting = True
            with self.measured():
                for act in self.on_rest:
                    act()

    def stir(self) -> None:
        """Put on again, within a quiet step, what only looking needs."""
        self._doze(False)

    def _be_quiet(self, quiet: bool) -> None:
        self.quiet = quiet
        self._doze(quiet)

    def _doze(self, dozing: bool) -> None:
        if dozing != self._dozing:
            self._dozing = dozing
            for act in self.on_doze if dozing else self.on_stir:
                act()

    def _record(self) -> None:
        self.recording = True
        self._be_quiet(False)
        self._spent_before = self.spent
        if self.resting:
            self.resting = False
            with self.measured():
                for act in self.on_wake:
                    act()

    @property
    def has_compiled(self) -> bool:
        """Whether code was compiled since watching began."""
        return _compiled() != self._compiled_before

    @property
    def renewed(self) -> bool:
        """Whether steps are recorded densely because of a change."""
        return self._renewals > 0 and self.steps < self._dense

    def advance(self) -> None:
        """Count a step and decide whether the next is recorded."""
        self.steps += 1
        if self.resting and self.steps < self._next:
            if self.steps % self._stride:
                if not self._dozing or not self.quiet:
                    self._be_quiet(True)
                return
            self._be_quiet(False)
        self._last = time.perf_counter()
        if self._first is None:
            self._first = self._last
        if self.steps < self._dense:
            self._record()
            return
        if self.steps == self._dense:
            self._dense_over = time.thread_time()
        elif self.recording:
            self._keep_to_budget()
        if self.steps >= self._next:
            self._next = self.steps + self._interval
            self._record()
        else:
            self.recording = False
            self.rest()
            self._be_quiet(self.resting and self.steps % self._stride != 0)

    def _keep_to_budget(self) -> None:
        """After a recorded step: how far away the next is, and of how many between them one is looked at."""
        passed = (
            time.thread_time() - self._dense_over
        )  # which waiting for data, or for others, does not add to
        seconds = max(passed / (self.steps - self._dense), 1e-6)
        wanted = (self.spent - self._spent_before) / (BUDGET * seconds)
        least = max(FIRST_INTERVAL, _odd(INTERVAL_GROWTH * self.steps))
        self._interval = max(least, min(_odd(wanted), 2 * self._interval + 1))
        if not any(busy() for busy in self.busy):
            most = min(float(MOST_STRIDE), 1 + STRIDE_GROWTH * self.steps)
            self._stride = _odd(min(most, LOOK_SECONDS / (BUDGET * seconds)))

    def measured(self) -> "Measured":
        """Count the time of a block as the probe's own, and shield the script from its faults."""
        return Measured(self)

    def shielded(self) -> "Shield":
        """Shield the script from faults of the probe, which are listed as what could not be checked."""
        return self._shield

    def note_fault(self, fault: Exception) -> None:
        """Keep a fault of the probe's own: its kind, message and innermost place."""
        frames = traceback.extract_tb(fault.__traceback__)
        at = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        text = f"{type(fault).__name__}: {str(fault)[:200]}{at}"
        if text not in self.faults and len(self.faults) < MOST_FAULTS:
            self.faults.append(text)

    @property
    def watched_seconds(self) -> float:
        """Time from the first step to the last."""
        return 0.0 if self._first is None else self._last - self._first


class Shield:
    """A block whose faults are the probe's own. A class, for it is entered several times a step: it must cost nothing."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: object, stack: object) -> bool:
        if kind is None:
            return False
        return self._keep(fault)

    def _keep(self, fault: object) -> bool:
        """Keep a fault; anything but an `Exception` goes on its way."""
        if not isinstance(fault, Exception):
            return False
        self._session.note_fault(fault)
        return True


class Measured(Shield):
    """A shielded block whose time is counted: that of this thread, for on a busy machine others work meanwhile."""

    __slots__ = ("_began",)

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, kind: object, fault: object, stack: object) -> bool:
        self._session.spent += time.thread_time() - self._began
        return kind is not None and self._keep(fault)


class Sparse:
    """Steps to look at: all of the first, then each a tenth later than the one before.

    Attributes:
        next: No step before this one, but for the first, will be looked at.
    """

    def __init__(self, dense: int = 20, growth: float = 1.1) -> None:
        self._dense, self._growth = dense, growth
        self.next = 0

    def due(self, step: int) -> bool:
        """Whether to look at this step; every call within the step gets the same answer."""
        if step < self._dense or step == self.next:
            return True
        if step > self.next:
            self.next = max(step, int(self.next * self._growth) + 1)
            return step == self.next
        return False


def _odd(value: float) -> int:
    """The least odd number that is not below a value: with an odd one, of optimizers that take turns all are seen."""
    return 2 * math.ceil(max(0.0, value - 1) / 2) + 1


def _compiled() -> int:
    """Frames that `torch.compile` has compiled in this process."""
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None)
    return sum(counters["frames"].values()) if counters and "frames" in counters else 0


def compiling() -> bool:
    """Whether the caller is being traced (`torch.compile`, `torch.jit.trace`) or transformed (`torch.func`).

    Tensors have no values then, or operations are written down: nothing may be recorded.
    """
    return is_compiling() or _tracing_state() is not None or _transformed() is not None
