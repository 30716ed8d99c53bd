"""Training as a person watches it: bars on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trivet.data.dataset import Splits
from trivet.recipe.recipe import Recipe
from trivet.train.loop import Listener
from trivet.train.state import TrainState

METRICS = {
    "val_map": "AP",
    "val_map50": "AP50",
    "val_miou": "mIoU",
    "val_pixel_accuracy": "pixel accuracy",
    "val_top1": "top-1",
}
"""A validation's figures and what they are called, the main one of each task first."""


class ProgressBars(Listener):
    """Two bars (budget and epoch) with rate, time left, losses and the validation score.

    Where standard error is not a terminal there is one line an epoch with a validation instead.

    Args:
        recipe: What runs; its heading is printed when training begins.
        splits: What it trains on.
        console: Where to print; standard error when not given.
    """

    def __init__(self, recipe: Recipe, splits: Splits, console: Console | None = None) -> None:
        self.heading = heading(recipe, splits)
        self.console = console or Console(file=sys.stderr, highlight=False)
        self.live = self.console.is_terminal
        self.metric = ""
        self.began = time.monotonic()
        self.images_before = 0
        self.steps_per_epoch = 1
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
            console=self.console,
            disable=not self.live,
            transient=True,
        )

    def started(self, state: TrainState, steps_per_epoch: int) -> None:
        """Show the bars."""
        self._say(self.heading)
        self.began, self.images_before, self.steps_per_epoch = (
            time.monotonic(),
            state.position.images,
            steps_per_epoch,
        )
        self.whole = self.bars.add_task("budget", total=100, shown="")
        self.epoch = self.bars.add_task("epoch", total=steps_per_epoch, shown="")
        self.bars.start()

    def stepped(self, state: TrainState, losses: Mapping[str, float]) -> None:
        """Move the bars."""
        position = state.position
        rate = (position.images - self.images_before) / max(time.monotonic() - self.began, 1e-9)
        values = "  ".join(
            f"{name} {value:.3f}"
            for name, value in losses.items()
            if name not in ("positives", "gradient_norm")
        )
        done = round(100 * state.budget.progress(position.step))
        self.bars.update(self.whole, completed=done, shown=f"{rate:.1f} images/s  {self.metric}")
        name = f"epoch {position.epoch + 1}"
        self.bars.update(self.epoch, description=name, completed=position.step_in_epoch, shown=values)

    def validating(self, state: TrainState) -> None:
        """Say that the pause is validation."""
        self.bars.update(self.epoch, description=f"validating after epoch {state.position.epoch}")

    def epoch_ended(self, state: TrainState, row: Mapping[str, float | int | str]) -> None:
        """Remember the validation score; off a terminal, print a line."""
        shown = [f"{words} {float(row[name]):.3f}" for name, words in METRICS.items() if name in row]
        if not shown:
            return
        best = state.position.best_score or 0.0
        self.metric = f"{shown[0]}  best {best:.3f}"
        share = float(row["progress"])
        minutes = state.budget.seconds / 60
        self._say(
            f"epoch {row['epoch']:>4}  {share:4.0%}  {minutes:5.1f} min  loss {float(row.get('loss', float('nan'))):.3f}  "
            f"val {float(row['val_loss']):.3f}  {'  '.join(shown)}"
        )

    def ended(self, state: TrainState) -> None:  # noqa: ARG002
        """Take the bars away."""
        self.bars.stop()

    def _say(self, line: str) -> None:
        """Print a line; in a log it stays one, however long."""
        self.console.print(line, soft_wrap=not self.live)


def heading(recipe: Recipe, splits: Splits) -> str:
    """Say in one line what is about to run."""
    model, train = recipe.model, recipe.train
    name = model.name or f"{model.backbone} + {model.neck or 'bifpn'}"
    budget = f"{train.epochs} epochs" if train.epochs else f"{train.minutes:g} minutes"
    height, width = model.size_hw
    held = len(splits.val) if splits.val else 0
    return (
        f"{name} at {width} x {height}, batch {train.batch * train.accumulate}, {budget}, on {len(splits.train):,} images "
        f"({held:,} validate); recipe.toml says why"
    )
