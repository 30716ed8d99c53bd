"""The training loop: batches -> weights and history."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import nn
from torch.optim import Optimizer

from trivet.structures import Batch
from trivet.train.batch_norm import adapt_momentum, hold_statistics
from trivet.train.budget import Budget
from trivet.train.ema import Ema
from trivet.train.history import History
from trivet.train.interrupt import StopRequest
from trivet.train.optimizers import build_optimizer
from trivet.train.processes import anyone
from trivet.train.recompute import recompute
from trivet.train.schedules import Schedule
from trivet.train.settings import TrainSettings
from trivet.train.state import Position, TrainState
from trivet.train.step import Task, seed_step, take_step

SAVE_SECONDS = 60.0
"""A run killed without warning loses at most about this much work."""
ASSUMED_EPOCHS = 20
"""What a budget in minutes counts as where a number of epochs must be known beforehand."""
INTERRUPTED = "interrupted"


@runtime_checkable
class Loader(Protocol):
    """A reproducible, resumable source of batches."""

    waited_seconds: float

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, number: int, *, start_step: int = 0, plain: bool = False) -> Iterator[Batch]:
        """Yield the batches of epoch `number` from batch `start_step` on; `plain` leaves mosaic and mixup out."""


@dataclass(frozen=True)
class Validation:
    """What a validation found: `score` decides which weights are best (higher is better)."""

    score: float
    metrics: Mapping[str, float]


class Listener:
    """What can be told while training goes on; every method does nothing until it is overridden."""

    def started(self, state: TrainState, steps_per_epoch: int) -> None:
        """Training begins or goes on."""

    def stepped(self, state: TrainState, losses: Mapping[str, float]) -> None:
        """A step was taken."""

    def validating(self, state: TrainState) -> None:
        """A validation begins."""

    def epoch_ended(self, state: TrainState, row: Mapping[str, float | int | str]) -> None:
        """An epoch ended; `row` is its line of the history."""

    def ended(self, state: TrainState) -> None:
        """Training ended; `state.position.ended` says why."""


@dataclass(frozen=True)
class Job:
    """What stays the same while a model trains.

    Args:
        task: Losses.
        loader: Batches of this process.
        settings: How to train.
        fabric: Devices and precision, launched.
        folder: Run folder; `last/` and `history.jsonl` in it are written as training goes on.
        validate: Scores a model; called on process 0 only.
        keep_best: Saves the best model so far; called on process 0 only.
        listeners: Told what happens, on process 0 only.
        validation_images: How many images a validation looks at.
        seconds_before: What the budget in minutes had lost before training began.
    """

    task: Task
    loader: Loader
    settings: TrainSettings
    fabric: Fabric
    folder: Path
    validate: Callable[[nn.Module], Validation]
    keep_best: Callable[[nn.Module], None]
    listeners: Sequence[Listener] = ()
    validation_images: int = 0
    seconds_before: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the data."""
        return math.ceil(len(self.loader) / self.settings.accumulate)

    def tell(self, event: str, *values: object) -> None:
        """Call one method of every listener, on process 0."""
        if self.fabric.is_global_zero:
            for listener in self.listeners:
                getattr(listener, event)(*values)


def train(model: nn.Module, job: Job, *, resume: bool = False) -> tuple[TrainState, History]:
    """Train a model within its budget.

    Args:
        model: Backbone, neck and head, with `normalise`.
        job: Everything else.
        resume: Go on from `last/` in the run folder.

    Returns:
        The final state and the history.

    Raises:
        TrainingError: If the loss is not finite or a trainable parameter is in no optimizer group.
        UsageError: If the checkpoint to resume from is damaged or of another model.
    """
    fabric = job.fabric
    state = _begin(model, job, resume=resume)
    position = state.position
    network, optimizer = fabric.setup(model, state.optimizer)
    history = History(
        job.folder / "history.jsonl" if fabric.is_global_zero else None, until_step=position.step
    )
    job.tell("started", state, job.steps_per_epoch)
    with StopRequest() as stop:
        while position.ended is None:
            row = _train_epoch(network, optimizer, state, job, stop)
            progress, asked = _progress(job, state), anyone(fabric, stop.asked)
            if not asked and (progress >= 1 or _validation_due(position, job.settings, progress)):
                row |= _validate(state, job)
                progress = _progress(job, state)  # validation may have spent the rest of a budget in minutes
            history.add(row)
            job.tell("epoch_ended", state, row)
            position.ended = _why_ended(position, job.settings, progress=progress, asked=asked)
            _save(state, job)
    job.tell("ended", state)
    return state, history


def _begin(model: nn.Module, job: Job, *, resume: bool) -> TrainState:
    settings = job.settings
    if settings.batch_norm == "adapt":
        epochs = settings.epochs or ASSUMED_EPOCHS
        adapt_momentum(model, epochs * job.steps_per_epoch)
    recompute(model, settings.recompute)
    model.to(memory_format=torch.channels_last)
    model.to(job.fabric.device)
    state = TrainState(
        model,
        build_optimizer(model, settings, fused=_fused(job.fabric)),
        Ema(model, settings.ema) if settings.ema else None,
        Schedule(settings),
        Budget(settings, job.steps_per_epoch),
        Position(),
        job.fabric.strategy.precision,
    )
    state.budget.start(state.load(job.folder) if resume else job.seconds_before)
    if state.position.ended == INTERRUPTED:
        state.position.ended = None
    return state


def _fused(fabric: Fabric) -> bool | None:
    """Fuse steps on a CPU, but not with a loss scale: a fused step takes it out itself, after clipping."""
    scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
    return True if fabric.device.type == "cpu" and not scaled else None


def _train_epoch(
    network: _FabricModule, optimizer: Optimizer, state: TrainState, job: Job, stop: StopRequest
) -> dict[str, float | int]:
    """Take the remaining steps of the epoch in hand; returns its row of the history."""
    settings, position, means = job.settings, state.position, _Means()
    begun, waited = time.monotonic(), job.loader.waited_seconds
    saved = begun
    plain = _progress(job, state) >= 1 - settings.plain_share
    batches = job.loader.epoch(
        position.epoch, start_step=position.step_in_epoch * settings.accumulate, plain=plain
    )
    while position.step_in_epoch < job.steps_per_epoch:
        progress = _progress(job, state)
        if progress >= 1 or anyone(job.fabric, stop.asked):
            break
        group = list(islice(batches, settings.accumulate))
        state.schedule.apply(state.optimizer, progress)
        _hold_still(state.model, settings, progress)
        seed_step(settings.seed, position.step, job.fabric.global_rank)
        losses = take_step(job.fabric, network, job.task, group, optimizer, clip_norm=settings.clip_norm)
        if state.ema:
            state.ema.update(state.model)
        position.stepped(images=sum(len(batch) for batch in group) * job.fabric.world_size)
        if not position.validations:
            state.budget.expect_validation(job.validation_images, trained=position.images)
        means.add(losses)
        job.tell("stepped", state, losses)
        if time.monotonic() - saved > SAVE_SECONDS:
            _save(state, job)
            saved = time.monotonic()
    if position.step_in_epoch >= job.steps_per_epoch:
        position.epoch, position.step_in_epoch = position.epoch + 1, 0
    return {
        "epoch": position.epoch,
        "step": position.step,
        "progress": round(_progress(job, state), 5),
        "lr": state.optimizer.param_groups[-1]["lr"],
        **means.values(),
        "seconds": round(time.monotonic() - begun, 3),
        "waited": round(job.loader.waited_seconds - waited, 3),
    }


def _hold_still(model: nn.Module, settings: TrainSettings, progress: float) -> None:
    """Freeze or thaw the backbone and hold batch-norm statistics, as the settings say for this moment."""
    frozen = progress < settings.freeze_backbone or settings.freeze_backbone >= 1
    model.get_submodule("backbone").requires_grad_(not frozen)
    model.train()
    hold_statistics(model, settings.batch_norm, backbone_frozen=frozen)


def _progress(job: Job, state: TrainState) -> float:
    """Return the share of the budget that is spent, the same on every process."""
    return float(job.fabric.broadcast(state.budget.progress(state.position.step)))


def _validation_due(position: Position, settings: TrainSettings, progress: float) -> bool:
    return position.step_in_epoch == 0 and position.validations < int(progress * settings.validations + 1e-9)


def _validate(state: TrainState, job: Job) -> dict[str, float]:
    """Score the model on process 0, keep it if it is the best, and let every process know."""
    found: Validation | None = None
    if job.fabric.is_global_zero:
        begun = time.monotonic()
        job.tell("validating", state)
        found = job.validate(state.best_model)
        state.budget.longest_validation = max(state.budget.longest_validation, time.monotonic() - begun)
    found = job.fabric.broadcast(found)
    assert found is not None, "process 0 broadcasts its validation"
    state.schedule.validated(found.score)
    if state.position.validated(found.score) and job.fabric.is_global_zero:
        job.keep_best(state.best_model)
    return dict(found.metrics)


def _why_ended(position: Position, settings: TrainSettings, *, progress: float, asked: bool) -> str | None:
    if asked:
        return INTERRUPTED
    if progress >= 1:
        return "budget spent"
    if settings.patience is not None and position.waited >= settings.patience:
        return f"no better score in {position.waited} validations"
    return None


def _save(state: TrainState, job: Job) -> None:
    if job.fabric.is_global_zero:
        state.save(job.folder)
    job.fabric.barrier()


class _Means:
    """Means of the losses of an epoch."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, losses: Mapping[str, float]) -> None:
        self.count += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def values(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.sums.items()}
