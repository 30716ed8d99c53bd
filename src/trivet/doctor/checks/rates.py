"""Checks on the size of the updates."""

from collections.abc import Iterator
from statistics import median

from trivet.doctor.checks.common import NotCheckedError, falls, knows_nothing, need_steps, where
from trivet.doctor.finding import Finding
from trivet.doctor.trace import OptimizerTrace, Trace

MOVED = 0.1
"""Relative distance that weights must be able to cover in the whole training to have learnt anything."""
FLAT = 0.05
JUMP = 0.1
"""Median relative update above which a step replaces rather than improves."""


def lr_too_low(trace: Trace) -> Iterator[Finding]:
    """Weights that start from scratch and hardly move, while the loss stays where it is."""
    need_steps(trace, 40)
    optimizer, _ = _the_optimizer(trace)
    if any(load.matched > load.own for load in trace.loads):
        raise NotCheckedError("weights were loaded: small updates may be meant")
    steady = [
        s.update_ratio
        for s in trace.recorded
        if s.update_ratio is not None and s.rate >= 0.5 * optimizer.rate_max
    ]
    if not steady or optimizer.rate_last > 0.999 * optimizer.rate_max > optimizer.rate_first * 1.01:
        raise NotCheckedError("the learning rate was still warming up")
    ratio = median(steady)
    distance = ratio * optimizer.steps
    learns = falls(trace, FLAT) and not knows_nothing(trace)
    if not 0 < distance < MOVED or learns or not _alive(trace):
        return
    yield Finding(
        "lr-too-low",
        "warning",
        f"each step changes the weights by {ratio:.1e} of their size: by {distance:.1%} in {optimizer.steps} steps, "
        "and the loss stays where it is",
        where(optimizer.place, optimizer.name or optimizer.kind),
        {"update_ratio": ratio, "distance": distance, "rate": optimizer.rate_max, "steps": optimizer.steps},
        f"a learning rate of {optimizer.rate_max:g} is too small to learn anything from scratch in this time",
        "raise it by factors of 10 until the loss falls steadily (a relative update near 1e-3 is usual)",
        verdict="suspected",
    )


def lr_too_high(trace: Trace) -> Iterator[Finding]:
    """Updates as large as the weights, after which the loss stays above where it began."""
    need_steps(trace, 10)
    optimizer, ratios = _the_optimizer(trace)
    values = [value for _, value in trace.loss_curve]
    if trace.backward.not_finite:
        yield from _thrown_out_of_range(trace, optimizer, ratios, values)
        return
    if len(values) < 10:
        return
    early = median(ratios[:5])
    first = min(values[: max(1, min(3, len(values) // 10))])
    last = median(values[-max(3, len(values) // 5) :])
    thrown = max(values[: max(5, len(values) // 2)])
    if early < JUMP or first <= 0:
        return
    if last > 0.98 * first:
        yield Finding(
            "lr-too-high",
            "error",
            f"the first steps change the weights by {early:.0%} of their size each, and the loss goes from "
            f"{first:.3g} to {thrown:.3g} at its highest and ends at {last:.3g}",
            where(optimizer.place, optimizer.name or optimizer.kind),
            {"update_ratio": early, "loss_first": first, "loss_highest": thrown, "loss_last": last}
            | {"rate": optimizer.rate_max},
            f"a learning rate of {optimizer.rate_max:g} throws the weights away instead of improving them",
            "lower it by factors of 10 until the loss falls from the first steps on, or warm it up",
            verdict="proven",
        )


def _thrown_out_of_range(
    trace: Trace, optimizer: OptimizerTrace, ratios: list[float], values: list[float]
) -> Iterator[Finding]:
    """Updates larger than the weights, a loss that rises step by step, and numbers that end in NaN."""
    known = [ratio for ratio in ratios[:20] if ratio == ratio]  # NaN is left out
    if len(values) < 3 or not known:
        return
    largest, highest = max(known), max(values)
    if trace.backward.risks or largest < 1 or not highest > 10 * abs(values[0]):
        return
    yield Finding(
        "lr-too-high",
        "error",
        f"a step changes the weights by {largest:.3g} times their size, and the loss goes from {values[0]:.3g} to "
        f"{highest:.3g} before it is NaN or infinite",
        where(optimizer.place, optimizer.name or optimizer.kind),
        {"update_ratio": largest, "loss_first": values[0], "loss_highest": highest}
        | {"rate": optimizer.rate_max, "first_not_finite": trace.backward.first_not_finite},
        f"a learning rate of {optimizer.rate_max:g} throws the weights away instead of improving them",
        "lower it by factors of 10 until the loss falls from the first steps on, or warm it up",
        verdict="proven",
    )


def _the_optimizer(trace: Trace) -> tuple[OptimizerTrace, list[float]]:
    """The only optimizer that steps, with its relative updates; several share one curve of losses."""
    stepping = [i for i, optimizer in enumerate(trace.optimizers) if optimizer.steps]
    if len(stepping) != 1:
        raise NotCheckedError("several optimizers step: the loss of one does not tell about the other")
    ratios = [
        s.update_ratio for s in trace.recorded if s.optimizer == stepping[0] and s.update_ratio is not None
    ]
    if len(ratios) < 5:
        raise NotCheckedError("the sizes of the updates were not seen")
    return trace.optimizers[stepping[0]], ratios


def _alive(trace: Trace) -> bool:
    """Whether most weights get a gradient, so that the rate and not the gradient is to blame."""
    held = [p for p in trace.parameters if p.optimizers and p.requires_grad]
    return sum(p.with_nonzero > 0 for p in held) > 0.5 * len(held)
