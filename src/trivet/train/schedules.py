"""Learning-rate schedules as functions of the share of the budget that is spent.

A schedule knows nothing of steps or epochs: a budget in minutes and one in epochs use the same curve.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

from trivet.errors import unknown_name
from trivet.train.settings import TrainSettings

FLOOR = 0.01
"""The share of the peak at which `cosine` and `onecycle` end."""


def _constant(_: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


def _onecycle(progress: float) -> float:
    """One rise over the first 30 %, one fall to near nothing (Smith and Topin 2018, arXiv 1708.07120)."""
    if progress < 0.3:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * progress / 0.3))
    return _cosine((progress - 0.3) / 0.7)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "onecycle": _onecycle,
}
PLATEAU = "plateau"


class Schedule:
    """Sets the learning rate of every group from its `peak_lr`.

    Args:
        settings: Schedule, warm-up share and budget.

    Raises:
        UsageError: If the schedule's name is unknown.
    """

    def __init__(self, settings: TrainSettings) -> None:
        if settings.schedule not in SCHEDULES and settings.schedule != PLATEAU:
            raise unknown_name("schedule", settings.schedule, [*SCHEDULES, PLATEAU])
        self.curve = SCHEDULES.get(settings.schedule, _constant)
        self.warmup = 0.0 if settings.schedule == "onecycle" else settings.warmup
        self.plateau = Plateau() if settings.schedule == PLATEAU else None

    def factor(self, progress: float) -> float:
        """Return the share of the peak learning rate after `progress` (0-1) of the budget."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        after = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.curve(after) * (self.plateau.factor if self.plateau else 1.0)

    def apply(self, optimizer: Optimizer, progress: float) -> float:
        """Set every group's learning rate and return the factor used."""
        factor = self.factor(progress)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        return factor

    def validated(self, score: float) -> None:
        """Tell the schedule a validation score (higher is better); only `plateau` listens."""
        if self.plateau:
            self.plateau.validated(score)

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs."""
        return dict(vars(self.plateau)) if self.plateau else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if self.plateau:
            vars(self.plateau).update(state)


class Plateau:
    """Divides the learning rate by ten after three validations without a better score."""

    def __init__(self) -> None:
        self.factor, self.best, self.waited = 1.0, -math.inf, 0

    def validated(self, score: float) -> None:
        """Count a validation."""
        if score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited >= 3:
            self.factor, self.waited = self.factor * 0.1, 0
