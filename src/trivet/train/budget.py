"""How much training there is, and how much of it is spent."""

import time
from collections.abc import Callable

from trivet.train.settings import TrainSettings


class Budget:
    """Counts steps against epochs, or seconds against minutes.

    Time is counted from the first step and includes validation. A resumed run goes on with the seconds it had
    spent. The end of a budget in minutes leaves room for a last validation and for the final scoring, each as long
    as the longest validation so far; before the first one, its length is guessed from the training rate.

    Args:
        settings: The budget.
        steps_per_epoch: Optimizer steps in one pass over the data.
        clock: Returns seconds; a test hands in its own.
    """

    def __init__(
        self, settings: TrainSettings, steps_per_epoch: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total_steps = settings.epochs * steps_per_epoch if settings.epochs else None
        self.total_seconds = settings.minutes * 60 if settings.minutes else None
        self.clock = clock
        self.longest_validation = self.expected_validation = 0.0
        self._before = 0.0
        self._since: float | None = None

    def start(self, seconds: float = 0.0) -> None:
        """Start counting, `seconds` having been spent by an earlier part of the run."""
        self._before, self._since = seconds, self.clock()

    @property
    def seconds(self) -> float:
        """Seconds spent so far."""
        return self._before + (self.clock() - self._since if self._since is not None else 0.0)

    def progress(self, step: int) -> float:
        """Return the share of the budget spent after `step` steps, 0-1."""
        if self.total_steps is not None:
            return min(step / self.total_steps, 1.0)
        total = self.total_seconds or 0.0
        ending = 2 * (self.longest_validation or self.expected_validation)
        return min(self.seconds / max(total - ending, 0.1 * total), 1.0)

    def expect_validation(self, images: int, *, trained: int) -> None:
        """Guess how long a validation of `images` images takes, `trained` images having been trained on so far.

        Without a backward pass an image takes about 0.4 of the time.
        """
        if trained:
            self.expected_validation = 0.4 * images * (self.seconds - self._before) / trained
