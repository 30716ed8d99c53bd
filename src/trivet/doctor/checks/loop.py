"""Checks on the training loop: what is called in which order."""

import math
from collections.abc import Iterator
from statistics import median

from trivet.doctor.checks.common import NotCheckedError, falls, need_steps, where
from trivet.doctor.finding import Finding
from trivet.doctor.patches import insert_line, is_bound
from trivet.doctor.trace import OptimizerTrace, SchedulerTrace, Trace


def missing_zero_grad(trace: Trace) -> Iterator[Finding]:
    """Gradients that are never cleared between steps."""
    need_steps(trace, 4)
    for optimizer in trace.optimizers:
        if optimizer.judged >= 3 and optimizer.stale >= 0.9 * optimizer.judged:
            # With a backward for each optimizer, the last may be that of another one.
            lone = len(trace.optimizers) == 1 or trace.backward.calls < 0.9 * trace.steps
            place = (trace.backward.place if lone else None) or optimizer.step_place
            clear = f"{optimizer.name or 'optimizer'}.zero_grad()"
            yield Finding(
                "missing-zero-grad",
                "error",
                f"gradients are never cleared: {optimizer.stale} of {optimizer.judged} steps used those of all "
                "steps before",
                where(place, optimizer.name or optimizer.kind),
                {"stale_steps": optimizer.stale, "judged_steps": optimizer.judged},
                "`backward()` adds to the gradients that are there",
                f"call `{clear}` before `backward()` in every step",
                patch=insert_line(place, clear)
                if lone and place is not None and optimizer.name and is_bound(place, optimizer.name)
                else None,
                verdict="proven",
            )


def accumulation_cancelled(trace: Trace) -> Iterator[Finding]:
    """Gradients of several backward passes of which all but the last are cleared."""
    need_steps(trace, 3)
    for optimizer in trace.optimizers:
        often = (
            optimizer.cancelled >= 0.5 * optimizer.whole_windows
        )  # else steps are left out for some other reason
        if optimizer.windows >= 3 and optimizer.cancelled >= 0.9 * optimizer.windows and often:
            yield Finding(
                "accumulation-cancelled",
                "note"
                if trace.backward.foreign_leaves >= 2
                else "error",  # passes for the gradient of an input
                f"gradients are cleared between the backward passes of one step, in {optimizer.cancelled} of "
                f"{optimizer.windows} steps: only the last counts",
                where(optimizer.clear_place or optimizer.step_place, optimizer.name or optimizer.kind),
                {"windows": optimizer.windows, "cancelled": optimizer.cancelled},
                "`zero_grad()` is called for every batch, but `step()` only after several",
                "clear the gradients only after `step()`",
                verdict="proven",
            )


def trains_in_eval_mode(trace: Trace) -> Iterator[Finding]:
    """Training steps whose forward ran in eval mode."""
    for model in trace.models:
        if not (model.trained and model.mode_dependent):
            continue
        lost = model.eval_after_train >= 2 and model.eval_after_train >= 0.2 * model.steps_in_train
        never = (
            model.steps_in_train == 0
            and model.steps_in_eval >= 3
            and (model.dropouts > 0 or not _frozen_norms_only(trace, model.name))
        )
        if lost or never:
            yield Finding(
                "trains-in-eval-mode",
                "error" if lost else "warning",
                f"`{model.name}` trained in eval mode in {model.steps_in_eval} of "
                f"{model.steps_in_eval + model.steps_in_train} steps",
                where(model.eval_place or model.place, model.name),
                {"steps_in_eval": model.steps_in_eval, "steps_in_train": model.steps_in_train},
                "it was put to eval (for validation, say) and not back to train: dropout is off and batch norm "
                "no longer learns its statistics",
                f"call `{model.name}.train()` at the beginning of every epoch",
                verdict="proven" if lost else "suspected",
            )


def _frozen_norms_only(trace: Trace, model: str) -> bool:
    """Whether the statistics came from elsewhere: fine-tuning with those of other data is a known practice."""
    norms = [norm for norm in trace.batch_norms if norm.name.startswith(f"{model}.") and norm.tracks]
    return any(not norm.initial for norm in norms)


def validates_in_train_mode(trace: Trace) -> Iterator[Finding]:
    """Evaluation whose forwards ran in train mode."""
    for model in trace.models:
        if not (model.trained and model.mode_dependent and model.evaluations_in_train):
            continue
        if model.name in model.frozen_norms:  # it is trained no longer: another check
            continue
        if model.evaluations_in_train > 0.5 * trace.steps:  # a pass of every step, as for pseudo-labels
            continue
        mostly = not model.ever_eval or model.unseen_in_train > model.evaluations_in_eval
        deaf = model.deaf_train
        place = deaf or model.evaluation_place
        yield Finding(
            "validates-in-train-mode",
            "error" if mostly and model.unseen_in_train else "note",
            f"`{model.name}` was evaluated in train mode in {model.evaluations_in_train} of "
            f"{model.evaluations_in_train + model.evaluations_in_eval} evaluations",
            where(place, model.name),
            {"in_train": model.evaluations_in_train, "in_eval": model.evaluations_in_eval}
            | {"on_unseen_samples": model.unseen_in_train},
            "dropout still acts, and batch norm normalises by (and learns from) the validation data"
            + (
                "; `eval()` calls the module's own `train(False)`, which puts it into train mode all the same"
                if deaf
                else ""
            ),
            "hand the mode on: `super().train(mode)`"
            if deaf
            else f"call `{model.name}.eval()` before evaluating, and `{model.name}.train()` after",
            verdict="proven",
        )


def scheduler_collapses_lr(trace: Trace) -> Iterator[Finding]:
    """A learning rate that is used up long before training ends."""
    by_hand = [optimizer for optimizer in trace.optimizers if optimizer.rate_last < optimizer.rate_max]
    if not trace.schedulers and not by_hand:
        raise NotCheckedError("no learning-rate scheduler was seen")
    need_steps(trace, 20)
    scheduled = {scheduler.optimizer for scheduler in trace.schedulers}
    for i, optimizer in enumerate(trace.optimizers):
        starved = optimizer.steps_starved / max(1, optimizer.steps)
        if i not in scheduled and starved > 0.3 and optimizer.rate_place is not None:
            yield _starved_by_hand(optimizer, starved)
    for scheduler in trace.schedulers:
        if scheduler.optimizer is None or scheduler.inside_another:
            continue
        optimizer = trace.optimizers[scheduler.optimizer]
        each_batch = scheduler.steps >= 0.9 * optimizer.steps and trace.epochs >= 2
        if scheduler.mode and _is_upside_down(trace, scheduler):
            yield _upside_down(scheduler, optimizer)
            continue
        if scheduler.kind == "ReduceLROnPlateau" and not each_batch:
            continue
        starved = optimizer.steps_starved / max(1, optimizer.steps)
        swings = (
            scheduler.kind == "CosineAnnealingLR"
            and scheduler.period
            and scheduler.steps > 2.5 * scheduler.period
        )
        if starved > 0.3 or swings:
            yield Finding(
                "scheduler-collapses-lr",
                "error" if starved > 0.3 else "warning",
                f"the learning rate swings: {scheduler.kind} was stepped {scheduler.steps} times, its period is "
                f"{scheduler.period}"
                if swings and starved <= 0.3
                else f"{starved:.0%} of all steps ran at less than a hundredth of the highest learning rate "
                f"({optimizer.rate_max:.3g} to {optimizer.rate_last:.3g})",
                where(
                    (scheduler.step_place if each_batch or swings else None) or scheduler.place,
                    scheduler.kind,
                ),
                {"rate_max": optimizer.rate_max, "rate_last": optimizer.rate_last, "steps": optimizer.steps}
                | {"scheduler_steps": scheduler.steps, "epochs": trace.epochs, "share_starved": starved},
                "the scheduler is stepped for every batch, though its numbers count epochs"
                if scheduler.steps >= optimizer.steps - 1
                else "the schedule falls faster than training lasts",
                "step it once an epoch, or give its numbers in steps",
                verdict="proven",
            )


def _is_upside_down(trace: Trace, scheduler: SchedulerTrace) -> bool:
    """Whether a number that gets better all the time is taken for one that gets worse.

    Falling (or rising) from its very first values on, while training succeeds: a loss on new samples that rises with
    overfitting falls before.
    """
    optimizer = trace.optimizers[scheduler.optimizer or 0]
    values = [value if scheduler.mode == "max" else -value for value in scheduler.metrics]
    if len(values) < 5 or not all(map(math.isfinite, values)) or optimizer.rate_last >= optimizer.rate_max:
        return False
    best, worst = values.index(max(values)), values.index(min(values))
    fell = values[0] - median(values[-3:]) > 0.1 * max(map(abs, values))
    return best == 0 and worst >= 2 and fell and falls(trace)


def _upside_down(scheduler: SchedulerTrace, optimizer: OptimizerTrace) -> Finding:
    first, last, mode = scheduler.metrics[0], scheduler.metrics[-1], scheduler.mode
    right = "min" if mode == "max" else "max"
    starved = optimizer.steps_starved / max(1, optimizer.steps)
    return Finding(
        "scheduler-collapses-lr",
        "error" if starved > 0.3 else "warning",
        f"the {scheduler.kind} waits for a number to {'rise' if mode == 'max' else 'fall'} that "
        f"{'falls' if last < first else 'rises'} from {first:.4g} to {last:.4g} while training goes well: the learning "
        f"rate went from {optimizer.rate_max:.3g} to {optimizer.rate_last:.3g}",
        where(scheduler.place, scheduler.kind),
        {"mode": mode, "first": first, "last": last, "rate_max": optimizer.rate_max}
        | {"rate_last": optimizer.rate_last, "share_starved": starved},
        f'mode="{mode}" takes each improvement for none',
        f'use mode="{right}", or give it the number that mode="{mode}" is meant for',
        verdict="proven" if starved > 0.3 else "suspected",
    )


def _starved_by_hand(optimizer: OptimizerTrace, starved: float) -> Finding:
    return Finding(
        "scheduler-collapses-lr",
        "error",
        f"{starved:.0%} of all steps ran at less than a hundredth of the highest learning rate "
        f"({optimizer.rate_max:.3g} to {optimizer.rate_last:.3g})",
        where(optimizer.rate_place, optimizer.name or optimizer.kind),
        {"rate_max": optimizer.rate_max, "rate_last": optimizer.rate_last, "steps": optimizer.steps}
        | {"share_starved": starved},
        f"`{optimizer.rate_place.code if optimizer.rate_place else ''}` is reached too often",
        "change the rate once an epoch, or by less",
        verdict="proven",
    )


def scheduler_never_steps(trace: Trace) -> Iterator[Finding]:
    """A scheduler that was made, but is not stepped."""
    if not trace.schedulers:
        raise NotCheckedError("no learning-rate scheduler was seen")
    if trace.ended != "whole":
        raise NotCheckedError("the script did not run to its end")
    yield from _built_anew(trace)
    yield from _on_one_optimizer(trace)
    for scheduler in trace.schedulers:
        yield from _of_another_optimizer(trace, scheduler)
        used = scheduler.optimizer is not None and trace.optimizers[scheduler.optimizer].steps
        if used and scheduler.steps and scheduler.optimizer is not None and not scheduler.inside_another:
            yield from _of_another_unit(scheduler, trace.optimizers[scheduler.optimizer])
        if (
            scheduler.steps
            or scheduler.inside_another
            or not used
            or not (trace.epochs >= 2 or trace.steps >= 30)
        ):
            continue
        yield Finding(
            "scheduler-never-steps",
            "warning",
            f"the {scheduler.kind} was never stepped in {trace.steps} optimizer steps: the learning rate is constant",
            where(scheduler.place, scheduler.kind),
            {"optimizer_steps": trace.steps, "epochs": trace.epochs},
            "`scheduler.step()` is not called",
            "call `scheduler.step()` once an epoch (or once a step, as its numbers count)",
            verdict="proven",
        )


def _built_anew(trace: Trace) -> Iterator[Finding]:
    """A scheduler that is built again and again, and so never gets beyond its first steps."""
    own = [s for s in trace.schedulers if not s.inside_another and s.place is not None]
    for place in dict.fromkeys(s.place for s in own):
        group = [s for s in own if s.place == place]
        if len(group) >= 3 and max(s.steps for s in group) <= 2 and len({s.optimizer for s in group}) == 1:
            yield Finding(
                "scheduler-never-steps",
                "warning",
                f"the {group[0].kind} is built {len(group)} times for one optimizer, and is stepped "
                f"{max(s.steps for s in group)} times at most before the next one takes its place",
                where(place, group[0].kind),
                {"built": len(group), "most_steps": max(s.steps for s in group)},
                "each new scheduler begins to count at 0",
                "build it once, before the loop over epochs",
                verdict="proven",
            )


def _on_one_optimizer(trace: Trace) -> Iterator[Finding]:
    """Two schedulers of one kind on one optimizer, while another optimizer has none."""
    used = [s for s in trace.schedulers if s.steps >= 2 and not s.inside_another and s.optimizer is not None]
    bare = [
        i
        for i, optimizer in enumerate(trace.optimizers)
        if optimizer.steps and all(s.optimizer != i for s in used)
    ]
    for i, first in enumerate(used):
        twin = next(
            (s for s in used[i + 1 :] if (s.kind, s.optimizer) == (first.kind, first.optimizer)), None
        )
        if twin is not None and bare and twin.place != first.place:
            yield Finding(
                "scheduler-never-steps",
                "warning",
                f"two {first.kind} drive one optimizer, and the {trace.optimizers[bare[0]].kind} of "
                f"{trace.optimizers[bare[0]].place} has none",
                where(twin.place, twin.kind),
                {"steps": [first.steps, twin.steps], "without": str(trace.optimizers[bare[0]].place)},
                "the second scheduler was given the optimizer of the first",
                "give it the other optimizer",
                verdict="suspected",
            )


def _of_another_optimizer(trace: Trace, scheduler: SchedulerTrace) -> Iterator[Finding]:
    """A scheduler that is stepped while its optimizer rests and another one trains."""
    if scheduler.optimizer is None or scheduler.idle < 2 or scheduler.idle < 0.5 * scheduler.steps:
        return
    driven = trace.optimizers[scheduler.optimizer]
    used = max(trace.optimizers, key=lambda optimizer: optimizer.steps)
    if used is driven:
        return
    yield Finding(
        "scheduler-never-steps",
        "warning",
        f"the {scheduler.kind} drives an optimizer that made {driven.steps} steps, while another one made {used.steps}",
        where(scheduler.place, scheduler.kind),
        {"scheduler_steps": scheduler.steps, "idle": scheduler.idle}
        | {"driven": str(driven.place), "used": str(used.place), "steps_used": used.steps},
        "the optimizer was replaced after the scheduler was built: the learning rate in use stays as it is",
        "build the scheduler after, and from, the optimizer that is stepped",
        verdict="proven",
    )


def _of_another_unit(scheduler: SchedulerTrace, optimizer: OptimizerTrace) -> Iterator[Finding]:
    """A schedule as long as all steps of training, of which only the first few are gone."""
    length = scheduler.period or 0
    if length < 0.8 * optimizer.steps or scheduler.steps > 0.25 * optimizer.steps or optimizer.steps < 20:
        return
    yield Finding(
        "scheduler-never-steps",
        "warning",
        f"the {scheduler.kind} is {length} steps long and was stepped {scheduler.steps} times in {optimizer.steps} "
        f"optimizer steps: {scheduler.steps / length:.0%} of it was used ({optimizer.rate_first:.3g} to "
        f"{optimizer.rate_last:.3g})",
        where(scheduler.step_place or scheduler.place, scheduler.kind),
        {"length": length, "scheduler_steps": scheduler.steps, "optimizer_steps": optimizer.steps}
        | {"rate_first": optimizer.rate_first, "rate_last": optimizer.rate_last},
        "its length counts optimizer steps, but it is stepped once an epoch",
        "call `scheduler.step()` after every `optimizer.step()`, or give its length in epochs",
        verdict="proven",
    )


def clip_before_unscale(trace: Trace) -> Iterator[Finding]:
    """Gradients clipped while a scaler still multiplies them."""
    scaler = trace.scaler
    if not scaler.clips:
        raise NotCheckedError("no gradient scaler with clipping was seen")
    if scaler.clips_scaled >= 2 and scaler.clips_scaled >= 0.5 * scaler.clips:
        yield Finding(
            "clip-before-unscale",
            "error",
            f"gradients are clipped while they are scaled by {scaler.scale:g}, in {scaler.clips_scaled} of "
            f"{scaler.clips} calls",
            where(scaler.place),
            {"scale": scaler.scale, "clips": scaler.clips, "clips_scaled": scaler.clips_scaled},
            "the bound is compared with gradients that the scaler has multiplied",
            "call `scaler.unscale_(optimizer)` before clipping",
            patch=insert_line(scaler.place, "scaler.unscale_(optimizer)")
            if scaler.place and is_bound(scaler.place, "scaler") and is_bound(scaler.place, "optimizer")
            else None,
            verdict="proven",
        )
