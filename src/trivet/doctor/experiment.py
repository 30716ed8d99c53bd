"""Proof by experiment: paired re-training with and without the fix, on copies, within a budget of time.

Three arms start from the same state, with the same batches: `base` as it is, `fix` with the fault set right, and
`placebo`, which goes the way of the fix without its effect, on another order of the batches. Each arm has the same small
grid of learning rates, for another rate alone makes many a short training better, a sound one too.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from trivet.doctor.borrow import borrowed
from trivet.doctor.diagnose import Loss, call_model, fresh, step_with
from trivet.doctor.finding import Finding, Verdict
from trivet.doctor.fixes import FIXES, Fix, Trial
from trivet.doctor.judge import Gain, Result, Scores, best_rate, gain_of, is_stalled, judge

RATES = (1 / 3, 1.0, 3.0, 10.0)
MOST_STEPS, FEWEST_STEPS = 120, 15
FEWEST_SEEDS = 2
LOOKS = 5
"""Looks at the held-out batches in a training."""
PLACEBO_ORDER = 1000

Score = Callable[[Any, Any], torch.Tensor]


class UnprovableError(ValueError):
    """The experiment cannot be made; the message says why."""


@dataclass(frozen=True)
class Experiment:
    """What paired re-training showed.

    Args:
        name: Of the finding.
        result: `confirmed`, `no-effect-seen` or `not-supported`.
        gain: Of the fix over the base arm, in the unit of the score.
        gain_over_placebo: Of the fix over the placebo arm.
        curves: Arm -> at its best rate, `[seeds, looks]` mean held-out scores; `looks` are the steps they belong to.
    """

    name: str
    result: Result
    gain: Gain
    gain_over_placebo: Gain
    steps: int
    seeds: int
    held_out: int
    rates: dict[str, float]
    looks: list[int]
    curves: dict[str, list[list[float]]]
    seconds: float

    def sentence(self) -> str:
        """Return the outcome in one sentence."""
        last = {arm: sum(curve[-1] for curve in curves) / len(curves) for arm, curves in self.curves.items()}
        told = {
            "confirmed": "with the remedy the held-out score is better",
            "no-effect-seen": "with the remedy the held-out score is not certainly better",
            "not-supported": "with the remedy the held-out score is worse",
        }
        return (
            f"{told[self.result]}: {last['fix']:.3f} against {last['base']:.3f} "
            f"({self.gain.mean:+.3f} [{self.gain.low:+.3f}, {self.gain.high:+.3f}]; placebo {last['placebo']:.3f}) "
            f"after {self.steps} steps, {self.seeds} seeds, {self.held_out} held-out samples"
        )

    def to_json(self) -> dict[str, object]:
        """Return the experiment as plain data."""
        return {
            "name": self.name,
            "result": self.result,
            "sentence": self.sentence(),
            "gain": self.gain.mean,
            "interval95": [self.gain.low, self.gain.high],
            "gain_over_placebo": self.gain_over_placebo.mean,
            "interval95_over_placebo": [self.gain_over_placebo.low, self.gain_over_placebo.high],
            "steps": self.steps,
            "seeds": self.seeds,
            "held_out_samples": self.held_out,
            "best_rate_factor": self.rates,
            "looks": self.looks,
            "curves": self.curves,
            "seconds": round(self.seconds, 2),
        }

    def apply_to(self, finding: Finding) -> Finding:
        """Return the finding with the experiment in its evidence, and its verdict; structural proof stands."""
        verdict: Verdict = finding.verdict
        if self.result != "not-supported":
            verdict = self.result
        elif verdict != "proven":
            verdict = "suspected"
        return replace(finding, verdict=verdict, evidence={**finding.evidence, "experiment": self.to_json()})


@dataclass
class _Setting:
    """What all arms share."""

    model: nn.Module
    loss_function: Loss
    optimizer: torch.optim.Optimizer
    fix: Fix
    train: list[Sequence[Any]]
    held_out: list[Sequence[Any]]
    score: Score
    start: Callable[[], None] | None = None
    steps: int = 2
    deadline: float = math.inf
    curves: dict[tuple[str, float], list[list[float]]] = field(default_factory=dict)

    @property
    def looks(self) -> list[int]:
        """The steps after which the held-out batches are looked at, the last among them."""
        return sorted({max(1, round(self.steps * (i + 1) / LOOKS)) for i in range(LOOKS)})


def prove(
    finding: Finding | str,
    model: nn.Module,
    batches: Sequence[Sequence[Any]],
    loss_function: Loss,
    optimizer: torch.optim.Optimizer,
    *,
    seconds: float = 60.0,
    seeds: int = 3,
    score: Score | None = None,
    start: Callable[[], None] | None = None,
) -> Experiment:
    """Re-train with and without the fix of a finding, and judge by held-out samples whether it is the cause.

    The user's objects are as they were afterwards, to the bit (see `borrowed`).

    Args:
        finding: A finding, or its name; `FIXES` lists those that can be set right on live objects.
        model: In the state to start from.
        batches: Pairs (inputs, targets); the last quarter is held out, or half the samples of an only batch.
        loss_function: (output, targets) -> scalar.
        optimizer: The model's.
        seconds: Budget of time; fewer steps are taken rather than more time.
        seeds: Repetitions, each with an order of the batches of its own.
        score: (output, targets) -> a score for each sample `[n]`, higher is better. By default accuracy for class
            labels and for binary targets, the negative mean squared error otherwise.
        start: Puts the lent model and optimizer into the state to start from; without it, that is the present one.

    Raises:
        UnprovableError: If the fix cannot be applied, or the time is too short.
    """
    name = finding if isinstance(finding, str) else finding.name
    if name not in FIXES:
        raise UnprovableError(f"{name} cannot be set right on live objects; those are: {', '.join(FIXES)}")
    if seeds < FEWEST_SEEDS:
        raise UnprovableError(
            f"at least {FEWEST_SEEDS} seeds are wanted, to know what chance does, not {seeds}"
        )
    began = time.monotonic()
    train, held_out = split_batches(batches)
    setting = _Setting(
        model, loss_function, optimizer, FIXES[name], train, held_out, score or score_samples, start
    )
    rates = _rates(setting.fix)
    setting.steps = _affordable_steps(setting, seconds, sum(map(len, rates.values())) * seeds)
    setting.deadline = began + 3 * seconds
    arms, seeds = _train_arms(setting, rates, seeds, began + seconds)
    over_base, over_placebo = gain_of(arms["fix"], arms["base"]), gain_of(arms["fix"], arms["placebo"])
    result = judge(over_base, over_placebo)
    if (
        setting.fix.rates
        and result == "confirmed"
        and not is_stalled(_start(setting), arms["base"], arms["fix"])
    ):
        result = "no-effect-seen"
    best = {arm: best_rate(scores) for arm, scores in arms.items()}
    return Experiment(
        name=name,
        result=result,
        gain=over_base,
        gain_over_placebo=over_placebo,
        steps=setting.steps,
        seeds=seeds,
        held_out=next(iter(arms["base"].values())).shape[1],
        rates=best,
        looks=setting.looks,
        curves={arm: setting.curves[arm, rate] for arm, rate in best.items()},
        seconds=time.monotonic() - began,
    )


def split_batches(batches: Sequence[Sequence[Any]]) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
    """Return batches to train on and to judge by.

    Raises:
        UnprovableError: If there is nothing to hold out.
    """
    pairs = [tuple(batch) for batch in batches]
    if len(pairs) > 1:
        count = max(1, len(pairs) // 4)
        return list(pairs[:-count]), list(pairs[-count:])
    size = _size(pairs[0]) if pairs else 0
    if size < 4:
        raise UnprovableError("at least two batches are wanted, one to train on and one to judge by")
    return [_part(pairs[0], slice(0, size // 2))], [_part(pairs[0], slice(size // 2, size))]


def score_samples(output: Any, targets: Any) -> torch.Tensor:
    """Score each sample: accuracy for class labels and for binary targets, else the negative mean squared error.

    Raises:
        UnprovableError: If outputs and targets are neither.
    """
    if not isinstance(output, torch.Tensor) or not isinstance(targets, torch.Tensor):
        raise UnprovableError("outputs and targets are not tensors: give a function `score(output, targets)`")
    if not targets.is_floating_point() and output.ndim == targets.ndim + 1 and output.shape[1] > 1:
        valid = (targets >= 0) & (targets < output.shape[1])
        right = ((output.argmax(1) == targets) & valid).flatten(1 if targets.ndim > 1 else 0).float()
        counted = valid.flatten(1 if targets.ndim > 1 else 0).float()
        return right if targets.ndim == 1 else right.sum(1) / counted.sum(1).clamp_min(1)
    if output.numel() != targets.numel():
        raise UnprovableError(
            f"outputs {list(output.shape)} and targets {list(targets.shape)}: give a function `score(output, targets)`"
        )
    wanted, given = targets.flatten(1) if targets.ndim > 1 else targets[:, None], output
    given = given.reshape(wanted.shape).float()
    if bool(((wanted == 0) | (wanted == 1)).all()):
        middle = 0.5 if bool(((given >= 0) & (given <= 1)).all()) else 0.0
        return ((given > middle) == (wanted > 0.5)).float().mean(1)
    return -(given - wanted).square().mean(1)


def _rates(fix: Fix) -> dict[str, tuple[float, ...]]:
    if fix.rates:
        return {"base": (1.0,), "fix": fix.rates, "placebo": (1.0,)}
    return dict.fromkeys(("base", "fix", "placebo"), RATES)


def _affordable_steps(setting: _Setting, seconds: float, trainings: int) -> int:
    """Measure what a short training costs, and return how many steps fit into the time for each.

    Raises:
        UnprovableError: If these are too few to show anything.
    """
    _train(setting, "base", 1.0, 0)  # the first one warms up
    began = time.monotonic()
    _train(setting, "base", 1.0, 0)
    once = time.monotonic() - began
    setting.curves.clear()
    step = once / (setting.steps + len(setting.looks) * len(setting.held_out))
    looking = LOOKS * len(setting.held_out) * step
    steps = int((seconds / trainings - looking) / step)
    if steps < FEWEST_STEPS:
        wanted = trainings * (FEWEST_STEPS * step + looking)
        raise UnprovableError(f"{seconds:g} s are too short: about {wanted:.0f} s are wanted")
    return min(MOST_STEPS, steps)


def _train_arms(
    setting: _Setting, rates: dict[str, tuple[float, ...]], seeds: int, until: float
) -> tuple[dict[str, Scores], int]:
    """Train all arms, seed by seed, fewer of them when the time is up; returns scores by arm and rate, and the seeds."""
    scores: dict[tuple[str, float], list[torch.Tensor]] = {}
    done = 0
    while done < seeds and (done < FEWEST_SEEDS or time.monotonic() < until):
        for arm, grid in rates.items():
            for rate in grid:
                scores.setdefault((arm, rate), []).append(_train(setting, arm, rate, done))
        done += 1
    return {arm: {rate: torch.stack(scores[arm, rate]) for rate in grid} for arm, grid in rates.items()}, done


def _train(setting: _Setting, arm: str, rate: float, seed: int) -> torch.Tensor:
    """Train once on copies; returns the held-out score of each sample `[n]` at the end."""
    curve: list[float] = []
    scores = torch.empty(0)
    with _trial(setting, arm, rate) as trial:
        torch.manual_seed(seed)
        order = _orders(len(setting.train), seed + (PLACEBO_ORDER if arm == "placebo" else 0))
        for step in range(1, setting.steps + 1):
            if time.monotonic() > setting.deadline:
                raise UnprovableError("the experiment took three times its time and was given up")
            _step(trial, setting.train[next(order)])
            if step in setting.looks:
                scores = _look(trial.model, setting)
                curve.append(float(scores.mean()))
    setting.curves.setdefault((arm, rate), []).append(curve)
    return scores


@contextmanager
def _trial(setting: _Setting, arm: str, rate: float) -> Iterator[Trial]:
    """Lend the user's objects, with the fault, the fix or the placebo, at another learning rate."""
    model, optimizer = setting.model, setting.optimizer
    with borrowed(model, setting.loss_function, optimizer), torch.inference_mode(False), torch.enable_grad():
        trial = Trial(model, setting.loss_function, optimizer)
        if setting.start is not None:
            setting.start()
        if not any(module.training for module in model.modules()):
            model.train()
        try:
            if setting.fix.fault is not None:
                setting.fix.fault(trial)
            if arm != "base":
                setting.fix.apply(trial, arm == "fix")
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * rate
            yield trial
        finally:
            trial.patches.undo()


def _step(trial: Trial, batch: Sequence[Any]) -> None:
    inputs, targets = fresh(tuple(batch))

    def compute_loss() -> torch.Tensor:
        return trial.loss_function(call_model(trial.model, inputs), targets)

    if trial.clears:
        step_with(trial.optimizer, compute_loss)
        return
    compute_loss().backward()
    trial.optimizer.step()


def _look(model: nn.Module, setting: _Setting) -> torch.Tensor:
    """Score the held-out samples in eval mode, without drawing from the generators of training."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad(), torch.random.fork_rng():
        scores = [
            setting.score(call_model(model, inputs), targets).detach().float().cpu().flatten()
            for inputs, targets in map(fresh, map(tuple, setting.held_out))
        ]
    for module, training in modes:
        module.training = training
    return torch.cat(scores)


def _start(setting: _Setting) -> torch.Tensor:
    with _trial(setting, "base", 1.0) as trial:
        return _look(trial.model, setting)


def _orders(count: int, seed: int) -> Iterator[int]:
    draw = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=draw).tolist()


def _size(batch: Any) -> int:
    """Count the samples: the length of the first tensor in a batch."""
    if isinstance(batch, torch.Tensor):
        return len(batch)
    items = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (tuple, list)) else ()
    return next((size for size in map(_size, items) if size), 0)


def _part(value: Any, which: slice) -> Any:
    if isinstance(value, torch.Tensor):
        return value[which]
    if isinstance(value, dict):
        return {key: _part(item, which) for key, item in value.items()}
    return type(value)(_part(item, which) for item in value) if isinstance(value, (tuple, list)) else value
