"""Watches learning-rate schedulers and the epochs of loaders."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace import SchedulerTrace

MOST_METRICS = 400


def _note_metric(
    trace: SchedulerTrace, scheduler: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Keep the number that a `ReduceLROnPlateau` is given."""
    mode, given = getattr(scheduler, "mode", None), kwargs.get("metrics", args[0] if args else None)
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) and isinstance(mode, str):
        trace.mode = mode
        if isinstance(given, (int, float, torch.Tensor)) and len(trace.metrics) < MOST_METRICS:
            trace.metrics.append(float(given))


class SchedulerWatch:
    """Records who steps a scheduler, and how often the largest loader was begun."""

    def __init__(
        self,
        session: Session,
        index_of: Callable[[torch.optim.Optimizer], int],
        steps_of: Callable[[int], int],
    ) -> None:
        self.session = session
        self.index_of = index_of
        self.steps_of = steps_of
        self.schedulers: list[tuple[weakref.ref[Any], SchedulerTrace]] = []
        self.passes: dict[Place | None, int] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the schedulers of torch (and so those that derive from them) and `DataLoader.__iter__`."""
        kinds = {kind for kind in vars(lr_scheduler).values() if isinstance(kind, type)}
        for kind in kinds:
            if not issubclass(kind, lr_scheduler.LRScheduler):
                continue
            if "__init__" in vars(kind):
                patches.wrap(kind, "__init__", self._wrap_init)
            if "step" in vars(kind):
                patches.wrap(kind, "step", self._wrap_step)
        patches.wrap(DataLoader, "__iter__", self._wrap_iter)

    @property
    def epochs(self) -> int:
        """Passes begun at the line that began most."""
        return max(self.passes.values(), default=0)

    def _driven(self, trace: SchedulerTrace) -> int:
        """Steps so far of the optimizer that a scheduler drives."""
        return self.steps_of(trace.optimizer) if trace.optimizer is not None else -1

    def _find(self, scheduler: Any) -> SchedulerTrace | None:
        return next((trace for ref, trace in self.schedulers if ref() is scheduler), None)

    def _wrap_init(self, original: Any) -> Any:
        watch, local = self, self.session.local

        def construct(self: Any, *args: Any, **kwargs: Any) -> None:
            if watch.session.active and watch._find(self) is None:
                given = args[0] if args else kwargs.get("optimizer")
                optimizer = watch.index_of(given) if isinstance(given, torch.optim.Optimizer) else None
                trace = SchedulerTrace(type(self).__name__, user_place(constructs=self), optimizer)
                watch.schedulers.append((weakref.ref(self), trace))
            depth = getattr(local, "scheduling", 0)
            local.scheduling = depth + 1
            try:
                original(self, *args, **kwargs)
            finally:
                local.scheduling = depth
            trace_of_self = watch._find(self)
            if trace_of_self is not None:
                period = getattr(self, "T_max", None) or getattr(self, "total_steps", None)
                for child in getattr(self, "_schedulers", []):
                    inner = watch._find(child)
                    if inner is not None:
                        inner.inside_another = True
                trace_of_self.period = int(period) if isinstance(period, (int, float)) else None

        return construct

    def _wrap_step(self, original: Any) -> Any:
        watch, local = self, self.session.local

        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            depth = getattr(local, "scheduling", 0)
            if watch.session.active and depth == 0:
                trace = watch._find(self)
                if trace is not None:
                    trace.steps += 1
                    driven = watch._driven(trace)
                    trace.idle += driven == trace.seen_steps and watch.session.steps > 0
                    trace.seen_steps = driven
                    trace.step_place = trace.step_place or user_place()
                    _note_metric(trace, self, args, kwargs)
            local.scheduling = depth + 1
            try:
                return original(self, *args, **kwargs)
            finally:
                local.scheduling = depth

        return step

    def _wrap_iter(self, original: Any) -> Any:
        watch = self

        def iterate(self: Any) -> Any:
            if watch.session.active and torch.is_grad_enabled():
                place = user_place()
                watch.passes[place] = watch.passes.get(place, 0) + 1
            return original(self)

        return iterate
