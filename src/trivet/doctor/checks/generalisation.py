"""Checks on what training and evaluation show in the end."""

import math
from collections.abc import Iterator
from statistics import median

from trivet.doctor.checks.common import (
    NARROW,
    NotCheckedError,
    gain_of,
    is_no_better,
    need_steps,
    where,
)
from trivet.doctor.finding import Finding
from trivet.doctor.source import Place
from trivet.doctor.trace import Trace
from trivet.doctor.trace_data import ClassTrace, EvaluationTrace, RegressionTrace

REACH = {"Relu": (0.0, math.inf), "Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Softplus": (0.0, math.inf)}
"""What the answers of a network lie between that ends in an operation."""
FEWEST, GAP = 30, 0.15
"""New samples, and the gap between the shares of right answers, that a claim needs."""


def overfitting(trace: Trace) -> Iterator[Finding]:
    """A loss on new samples that rises, or answers that stay far behind, while training goes on to perfection."""
    points = [point for point in trace.data.evaluations if math.isfinite(point.loss)]
    if len(points) < 2:
        raise NotCheckedError("fewer than two evaluations with a loss on new samples were seen")
    need_steps(trace, 40)
    losses = [point.loss for point in points]
    lowest = min(range(len(points)), key=lambda i: losses[i])
    last = median(losses[-2:])
    train_then, train_now = _train_loss(trace, points[lowest].step), _train_loss(trace, points[-1].step)
    if train_then is None or train_now is None:
        return
    rises = len(points) >= 4 and lowest < len(points) - 2 and last > 1.1 * losses[lowest]
    rises = rises and train_now < 0.7 * train_then and last > 2 * max(train_now, 1e-9)
    right, known = _accuracy(points), _late_accuracy(trace)
    behind = right is not None and known is not None and _behind(right, known, points[-1].samples)
    if not rises and not behind:
        return
    told = []
    if behind:
        told.append(
            f"{known:.0%} of the training samples are answered rightly, but only {right:.0%} of new ones"
        )
    if rises:
        told.append(
            f"the loss on new samples rose from {losses[lowest]:.3g} (step {points[lowest].step}) to {last:.3g}, while "
            f"that of training fell from {train_then:.3g} to {train_now:.3g}"
        )
    optimizer = next((o for o in trace.optimizers if o.steps), None)
    yield Finding(
        "overfitting",
        "warning",
        "; ".join(told),
        where(optimizer.place if optimizer else None, "loss"),
        {"best_step": points[lowest].step, "best": losses[lowest], "last": last, "train": train_now}
        | {"train_accuracy": known, "accuracy": right, "evaluated": points[-1].samples},
        "the network learns the training samples by heart"
        if right is None or right < 0.97
        else "the answers are still right, but more certain than they should be",
        "stop at the best evaluation and keep its weights; more data or augmentation, weight decay, a smaller network",
        verdict="proven",
    )


def _behind(right: float, known: float, samples: int) -> bool:
    """Whether new samples are answered far worse than known ones, beyond what chance in their choice allows."""
    chance = 2 * math.sqrt(max(right * (1 - right), 1e-3) / max(1, samples))
    return samples >= FEWEST and known >= 0.95 and right + chance < known - GAP


def _accuracy(points: list[EvaluationTrace]) -> float | None:
    values = [point.accuracy for point in points[-2:] if math.isfinite(point.accuracy)]
    return median(values) if values else None


def _train_loss(trace: Trace, step: int) -> float | None:
    """Median training loss around a step."""
    near = sorted(trace.data.train_loss, key=lambda point: abs(point[0] - step))[:9]
    return median(value for _, value in near) if len(near) >= 3 else None


def _late_accuracy(trace: Trace) -> float | None:
    values = [value for _, value in trace.data.train_accuracy[-10:]]
    return median(values) if values else None


def plateau(trace: Trace) -> Iterator[Finding]:
    """A network that does no better than a constant answer."""
    need_steps(trace, 100)
    seen = [
        item
        for item in trace.data.classes
        if not item.weighted and item.late_calls >= 8 and item.late_constant > 0.05 and item.calls >= 20
    ]
    measured = [item for item in trace.data.regressions if item.late_calls >= 8 and item.late_variance > 1e-9]
    if not seen and not measured:
        raise NotCheckedError(
            "no unweighted loss with hard classes or few values a sample was seen often enough"
        )
    if len([o for o in trace.optimizers if o.steps]) > 1:
        raise NotCheckedError("several optimizers train against each other or in turn")
    for item in seen:
        accuracy = sum(item.late_right) / max(1, sum(item.late_counts))
        constant = max(item.late_counts) / max(1, sum(item.late_counts))
        enough = sum(item.late_counts) >= 200 and item.last_step >= 0.8 * trace.steps
        if any(other is not item and _learns(other) for other in trace.data.classes):
            continue  # one of several tasks, which may be to tell nothing, as of a reversed gradient
        if enough and is_no_better(item.late_loss, item.late_constant) and accuracy <= constant + 0.04:
            yield _plateau(
                trace,
                item,
                f"after {trace.steps} steps the loss is {item.late_loss:.3f}; always giving the share of each class "
                f"would make {item.late_constant:.3f}",
                {"loss": item.late_loss, "constant": item.late_constant}
                | {"accuracy": accuracy, "majority": constant},
            )
    alone = measured if len(measured) == 1 and not any(map(_learns, trace.data.classes)) else []
    for values in alone:
        enough = values.late_values >= 200 and values.last_step >= 0.8 * trace.steps
        if enough and is_no_better(values.late_error, values.late_variance):
            yield _plateau(
                trace,
                values,
                f"after {trace.steps} steps the mean squared error is {values.late_error:.4g}; always answering the "
                f"mean target would make {values.late_variance:.4g}",
                {"error": values.late_error, "constant": values.late_variance, "values": values.late_values},
            )


def _plateau(
    trace: Trace, item: ClassTrace | RegressionTrace, title: str, evidence: dict[str, float]
) -> Finding:
    optimizer = next((o for o in trace.optimizers if o.steps), None)
    place, cause, remedy = (
        _out_of_reach(trace, item)
        or _choked(trace)
        or (
            optimizer.place if optimizer else item.place,
            "the network has found nothing in its input that tells the targets: the learning rate, an augmentation "
            "that destroys what matters, or targets that do not belong to their samples",
            "look at a batch as the network gets it, with its targets; try to learn one batch by heart without "
            "augmentation; then vary the learning rate by factors of 10",
        )
    )
    return Finding(
        "plateau",
        "warning",
        title,
        where(place, item.function),
        dict(evidence),
        cause,
        remedy,
        verdict="suspected",
    )


Told = tuple[Place | None, str, str]
"""A place, a cause and a remedy."""


def _out_of_reach(trace: Trace, item: ClassTrace | RegressionTrace) -> Told | None:
    """Targets of a regression that its last operation cannot give, as those below 0 behind a ReLU."""
    loss = next((o for o in trace.losses if (o.function, o.place) == (item.function, item.place)), None)
    if loss is None or not isinstance(item, RegressionTrace) or loss.produced_at is None:
        return None
    for operation, (low, high) in REACH.items():
        far = 0.1 * (loss.target_max - loss.target_min)
        beyond = loss.target_min < low - far or loss.target_max > high + far
        if loss.produced_by.startswith(operation) and far < math.inf and beyond:
            return (
                loss.produced_at,
                f"the last operation ({operation}) gives {low:g} to {high:g}, but targets reach from "
                f"{loss.target_min:.3g} to {loss.target_max:.3g}",
                "end the network in a linear layer, or scale the targets to what its last operation can give",
            )
    return None


def _choked(trace: Trace) -> Told | None:
    """A weight within a network that the user's code drew so small that hardly a signal passes, and that stayed so."""
    for model in trace.models:
        weights = [p for p in trace.parameters if p.model == model.name and gain_of(p) > 0 and p.optimizers]
        for p in weights[:-1]:  # the last may begin small
            still = gain_of(p) * p.weight_norms[-1] / p.weight_norms[0] < 3 * NARROW
            if p.filled is not None and gain_of(p) < NARROW and still:
                return (
                    p.filled,
                    f"`{p.name}` was drawn so small that it passes {gain_of(p):.1%} of a signal on, and stayed so",
                    "initialise for the count of inputs (`nn.init.xavier_uniform_`; `nn.init.orthogonal_` for what recurs)",
                )
    return None


def _learns(item: ClassTrace) -> bool:
    """Whether answers are clearly better than a constant."""
    return item.late_calls > 0 and item.late_loss < 0.9 * item.late_constant
