"""Watches random draws of data sets: the same numbers for every sample, and twins that are to be drawn alike and are not."""

import random
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any

import torch

from trivet.doctor.probe.data.imports import after_import
from trivet.doctor.probe.session import Patches, Session, compiling, is_compiling
from trivet.doctor.source import Place, place_of_frame, user_frames
from trivet.doctor.trace_data import RepeatedDrawTrace, TwinTrace

DRAWS = ("randn", "rand", "randint", "randperm", "normal")
IN_PLACE = ("uniform_", "normal_", "random_")
OF_RANDOM = ("random", "uniform", "randint", "randrange", "choice", "gauss")
SEEDS = ((torch, "manual_seed"), (random, "seed"))
FEWEST, MOST = 16, 512
"""Draws at a line that are compared: at least, and at most."""
FRAMES = 6
VALUES = 8


@dataclass
class _Drawn:
    trace: RepeatedDrawTrace
    seen: set[Hashable] = field(default_factory=set)


@dataclass
class _Twins:
    """What was drawn after a number was used as a seed, once and, if it was, again, while one sample was made."""

    seed: str
    frame: FrameType
    place: Place
    seeded: set[str] = field(default_factory=set)
    first: list[str] = field(default_factory=list)
    second: list[str] | None = None

    @property
    def unseeded(self) -> bool:
        """Whether the second twin draws from a source that the seed does not set."""
        return any(_source(name) not in self.seeded for name in self.second or [])


class RepeatWatch:
    """Looks at draws within `__getitem__`, in training, in this process."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._drawn: dict[Place, _Drawn] = {}
        self._twins: _Twins | None = None
        self._pairs: dict[Place, TwinTrace] = {}

    def install(self, patches: Patches) -> None:
        """Wrap what draws and what seeds: torch's, Python's, and the making of NumPy's generators."""
        for name in DRAWS:
            patches.wrap(torch, name, partial(self._wrap, name), rests=True)
        for name in IN_PLACE:
            patches.wrap(torch.Tensor, name, partial(self._wrap, name), rests=True)
        for name in OF_RANDOM:
            patches.wrap(random, name, partial(self._wrap, f"random.{name}"), rests=True)
        for owner, name in SEEDS:
            patches.wrap(owner, name, partial(self._wrap_seed, owner.__name__), rests=True)
        after_import(patches, "numpy", partial(self._wrap_numpy, patches))

    def repeated(self) -> list[RepeatedDrawTrace]:
        """Return the lines that draw the same for nearly every sample."""
        found = [drawn.trace for drawn in self._drawn.values()]
        return [trace for trace in found if trace.draws >= FEWEST and 8 * trace.different <= trace.draws]

    def twins(self) -> list[TwinTrace]:
        """Return the lines that seed twice alike, and draw something else at once the second time."""
        self._compare()
        return [trace for trace in self._pairs.values() if trace.apart >= 4 and 2 * trace.apart > trace.pairs]

    def _wrap_numpy(self, patches: Patches, module: Any) -> None:
        patches.wrap(module.random, "default_rng", self._wrap_maker, rests=True)

    def _wrap_maker(self, original: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            if self._looks() and (args or kwargs):
                with self.session.measured():
                    self._note(repr((args, kwargs))[:64])
            return original(*args, **kwargs)

        return make

    def _wrap(self, name: str, original: Any) -> Any:
        session = self.session

        def draw(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            apart = "generator" in kwargs
            if (
                is_compiling()
                or session.resting
                or not (apart or self._twins is not None)
                or not self._looks()
            ):
                return value
            with session.measured():
                if self._twins is not None and self._twins.frame is sample_frame():
                    seen = self._twins.first if self._twins.second is None else self._twins.second
                    seen.append(name)
                if apart and isinstance(value, torch.Tensor) and value.numel() >= VALUES:
                    self._note((tuple(value.shape), tuple(value.flatten()[:VALUES].tolist())))
            return value

        return draw

    def _wrap_seed(self, source: str, original: Any) -> Any:
        def seed(*args: Any, **kwargs: Any) -> Any:
            if not self.session.resting and self._looks():
                with self.session.measured():
                    self._begin(repr((args, kwargs))[:64])
                    if self._twins is not None:
                        self._twins.seeded.add(source)
            return original(*args, **kwargs)

        return seed

    def _looks(self) -> bool:
        return (
            self.session.active and bool(self.session.steps) and torch.is_grad_enabled() and not compiling()
        )

    def _begin(self, key: str) -> None:
        """A seed: the second twin's, or that of another pair."""
        twins = self._twins
        if twins is not None and twins.seed == key and twins.frame is sample_frame():
            if twins.first and twins.second is None:
                twins.second = []
            if not twins.first or not twins.second:
                return  # else one number for several sources
        self._compare()
        frame = sample_frame()
        self._twins = _Twins(key, frame, place_of_frame(frame)) if frame is not None else None

    def _compare(self) -> None:
        """Does one twin's sequence of draws begin as the other's does?"""
        twins, self._twins = self._twins, None
        if twins is None or not twins.first or not twins.second:
            return
        trace = self._pairs.setdefault(twins.place, TwinTrace(twins.place))
        trace.pairs += 1
        shorter = min(len(twins.first), len(twins.second))
        apart = twins.unseeded or twins.first[:shorter] != twins.second[:shorter]
        trace.apart += apart
        trace.unseeded = trace.unseeded or twins.unseeded
        if apart and not trace.first:
            trace.first, trace.second = twins.first[:6], twins.second[:6]

    def _note(self, value: Hashable) -> None:
        if sample_frame() is None:
            return
        place = place_of_frame(next(iter(user_frames())))
        drawn = self._drawn.setdefault(place, _Drawn(RepeatedDrawTrace(place)))
        if drawn.trace.draws < MOST:
            drawn.trace.draws += 1
            drawn.seen.add(value)
            drawn.trace.different = len(drawn.seen)


def _source(name: str) -> str:
    """The module whose generator a function draws from."""
    return "random" if name.startswith("random.") else "torch"


def sample_frame() -> FrameType | None:
    """Return the frame of a data set's `__getitem__`, if it is what asks."""
    return next((f for f in list(user_frames())[:FRAMES] if f.f_code.co_name == "__getitem__"), None)
