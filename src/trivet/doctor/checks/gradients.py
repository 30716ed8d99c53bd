"""Checks on gradients: that they exist, are finite, and reach the first layers."""

import ast
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from trivet.doctor.checks.common import (
    NARROW,
    NotCheckedError,
    falls,
    gain_of,
    is_no_better,
    need_steps,
    where,
)
from trivet.doctor.exceptions import in_place_target
from trivet.doctor.finding import Finding
from trivet.doctor.messages import translated
from trivet.doctor.patches import replace_statement, statement_at
from trivet.doctor.source import Place
from trivet.doctor.trace import BackwardTrace, ExceptionTrace, Trace
from trivet.doctor.trace_model import ParameterTrace

VANISHED_RATIO = 1e-4
EXPLODED_RATIO = 100.0
HUGE = 1e8
EXCESSIVE = 30.0
"""Answers of a new network against the largest target, from which on they are the initialisation's fault."""
WIDE = 1.6
"""Growth of a signal by a weight, beyond that of the widest usual initialisation, the root of 2."""
FAR = 10.0
"""Error against that of always answering the mean, from which on answers are still out of reach late in training."""
FEWEST_VALUES = 200
AMPLIFIED = 300.0
"""Growth of the signal through a new network that no sound initialisation has."""
IN_PLACE = "modified by an inplace operation"
LEAF_IN_PLACE = "leaf Variable that requires grad"
REGRESSION_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
DETACHED = "does not require grad and does not have a grad_fn"


def inplace_on_saved_tensor(trace: Trace) -> Iterator[Finding]:
    """The exception of a tensor that was changed after the backward pass had been promised it."""
    fault = trace.exception
    if fault is None or not (IN_PLACE in fault.message or LEAF_IN_PLACE in fault.message):
        return
    if trace.backward.overtaken is not None:
        yield _overtaken(trace.backward, fault)
        return
    place, target = _culprit(fault)
    rewrite = in_place_target(place.code) if place else None
    shape = re.search(r"\[([^\]]*\[[^\]]*\])\]", fault.message)
    yield Finding(
        "inplace-on-saved-tensor",
        "error",
        f"`{target}` is changed in place, but its old values are needed for the gradient",
        where(place, target),
        {
            "statement": place.code if place else None,
            "tensor": shape.group(1) if shape else None,
            "needed_by": str(fault.forward[0]) if fault.forward else None,
            "needed_by_code": fault.forward[0].code if fault.forward else None,
        },
        f"`{place.code}` overwrites the tensor" if place else "an operation overwrites a saved tensor",
        (
            f"write `{rewrite[1]}`: a new tensor, and the old one is kept. "
            if rewrite
            else "make a new tensor instead. "
        )
        + "Do not silence it: `.detach()` or `.data` ends the error by ending the learning of that tensor, and "
        "`clone()` in `__init__` does not help, since every forward changes it again",
        patch=_out_of_place(place),
        verdict="proven",
    )


def _overtaken(backward: BackwardTrace, fault: ExceptionTrace) -> Finding:
    return Finding(
        "inplace-on-saved-tensor",
        "error",
        "an optimizer's step moves weights whose old values a loss made before it still needs for its gradient",
        where(backward.overtaken, "step"),
        {"backward": str(backward.place), "needed_by": str(fault.forward[0]) if fault.forward else None},
        "a step changes weights in place, between the forward and the backward of another loss",
        "compute that loss after the step, by a forward of its own (detach what the first loss is given of the other "
        "network), or call both `backward()` before the first `step()`",
        verdict="proven",
    )


def _out_of_place(place: Place | None) -> str | None:
    statement = statement_at(place)
    rewrite = in_place_target(ast.unparse(statement)) if statement is not None else None
    if rewrite is None or ";" in rewrite[1] or place is None:
        return None
    return replace_statement(place, rewrite[1])


def _culprit(fault: ExceptionTrace) -> tuple[Place | None, str]:
    """The statement that most likely did it: same variable as in the operation that needed it comes first."""
    if LEAF_IN_PLACE in fault.message and fault.places:
        place = fault.places[0]
        found = in_place_target(place.code)
        return place, found[0] if found else "a parameter"
    operation = re.search(r"output \d+ of (\w+?)Backward", fault.message)
    kind = operation.group(1).lower() if operation else ""
    needed = " ".join(place.code for place in fault.forward)
    best: tuple[int, Place, str] | None = None
    for rank, place in enumerate(fault.in_place):
        found = in_place_target(place.code)
        if found is None:
            continue
        named = re.search(rf"(?<![\w.]){re.escape(found[0])}(?!\w)", needed) is not None
        points = 40 * named + 10 * _does(place.code, kind) - rank
        if best is None or points > best[0]:
            best = points, place, found[0]
    return (best[1], best[2]) if best else (fault.forward[0] if fault.forward else None, "a tensor")


def _does(code: str, operation: str) -> bool:
    signs = {"div": ("/=", "div_"), "mul": ("*=", "mul_"), "add": ("+=", "add_"), "sub": ("-=", "sub_")}
    if operation in ("copyslices", "asstrided"):
        return "] =" in code or "]=" in code
    return any(sign in code for sign in signs.get(operation, (f"{operation}_(", "inplace=True")))


def loss_detached(trace: Trace) -> Iterator[Finding]:
    """A loss from which no parameter can be reached, or a term of one."""
    fault, backward = trace.exception, trace.backward
    if fault is not None and DETACHED in fault.message:
        cut = next(iter(backward.cuts.values()), None)
        yield _detached(
            cut or (fault.places[0] if fault.places else None), "the loss has no graph", 0, bool(cut)
        )
        return
    stepping = [o for o in trace.optimizers if o.steps >= 2]
    recorded = len(trace.recorded)
    empty = sum(o.empty_steps for o in stepping)
    if stepping and recorded >= 2 and empty == recorded and not backward.reached_parameters:
        cut = next(iter(backward.cuts.values()), None)
        what = "`backward()` is never called" if not backward.calls else "the loss reaches no parameter"
        yield _detached(cut or backward.place or stepping[0].step_place, what, empty, bool(cut))
        return
    yield from _never_with_gradient(trace)
    for term in backward.constant_terms:
        yield Finding(
            "loss-detached",
            "error",
            f"a term of the loss has no gradient, though it is {term.share:.0%} of it: for the optimizer it is a constant",
            where(term.place or term.added_at, "loss"),
            {"share": term.share, "steps": term.steps, "added_at": str(term.added_at)},
            f"it is computed from the model, but loses its graph at {term.place} (`{term.place.code}`)"
            if term.place
            else "it is computed from the model, but has lost its graph",
            "compute the term with gradients: without `no_grad` around it, and without `detach`; or leave it out of the "
            "loss, if it is only to be watched",
            verdict="proven",
        )


def _never_with_gradient(trace: Trace) -> Iterator[Finding]:
    """Nothing that an optimizer trains gets a gradient: it is called without, or its answer loses its graph."""
    if any(p.with_gradient and p.requires_grad and not p.optimizers for p in trace.parameters):
        return  # that is what the optimizer was meant to be given
    for i, optimizer in enumerate(trace.optimizers):
        held = [p for p in trace.parameters if i in p.optimizers and p.requires_grad and not p.gone]
        idle = [p for p in held if p.called and not p.with_gradient and not p.reached]
        if optimizer.steps < 3 or not held or len(idle) < len(held) or any(p.observed < 3 for p in held):
            continue
        cut = next((p.cut for p in held if p.cut is not None), None)
        with_graph = any(p.called_with_gradient for p in held)
        if with_graph:  # then what switches gradients off elsewhere is not it
            others = (at for key, at in trace.backward.cuts.items() if not key.startswith("no_grad"))
            cut = next(others, cut)
        name = held[0].model or optimizer.kind
        yield Finding(
            "loss-detached",
            "error",
            f"no gradient ever reaches `{name}`, which the {optimizer.kind} of {optimizer.steps} steps is to train",
            where(cut or optimizer.step_place, name),
            {"optimizer": optimizer.kind, "steps": optimizer.steps, "cut": str(cut) if cut else None},
            (
                f"what `{name}` answers loses its graph"
                if with_graph
                else f"`{name}` is called with gradients switched off"
            )
            + (f" at {cut} (`{cut.code}`)" if cut else ""),
            "take the cut away where it is trained (of a distribution, `rsample()` has a gradient, `sample()` has none)"
            if with_graph
            else "call it with gradients where it is trained; `no_grad` is for sampling and for evaluating",
            verdict="proven",
        )


def _detached(place: Place | None, what: str, steps: int, cut: bool) -> Finding:
    return Finding(
        "loss-detached",
        "error",
        f"{what}: nothing is learned" + (f" in {steps} steps" if steps else ""),
        where(place, "loss"),
        {"empty_steps": steps, "cut": str(place) if cut else None},
        f"the graph is cut at {place} (`{place.code}`)"
        if cut and place
        else "between the model and the loss something takes the values out of the graph (`detach`, `item`, `numpy`, "
        "`argmax`, `torch.tensor(...)`, `no_grad`)",
        "compute the loss from the model's output with tensor operations only; `requires_grad_()` on the loss hides "
        "the error and does not mend it",
        verdict="proven",
    )


def _layers(trace: Trace) -> list[ParameterTrace]:
    return [p for p in trace.parameters if p.optimizers and len(p.shape) > 1 and len(p.gradient_norms) >= 5]


def _rms(p: ParameterTrace) -> float:
    return median(p.gradient_norms[-20:]) / max(1, p.count) ** 0.5


def vanishing_gradient(trace: Trace) -> Iterator[Finding]:
    """Gradients that have all but gone by the time they reach the first layers."""
    need_steps(trace, 10)
    for model in trace.models:
        layers = [p for p in _layers(trace) if p.model == model.name]
        if len(layers) < 4:
            continue
        first, last = layers[0], max(layers[-2:], key=_rms)
        low, high = max(_rms(p) for p in layers[: max(1, len(layers) // 4)]), _rms(last)
        if high > 0 and low / high < VANISHED_RATIO and first.with_nonzero:
            stuck = not falls(trace)
            narrow = min((p for p in layers if 0 < gain_of(p) < NARROW), key=gain_of, default=None)
            at = (narrow.filled or narrow.place) if narrow is not None else first.place
            yield Finding(
                "vanishing-gradient",
                "error" if stuck else "warning",
                f"the gradient of the first layers of `{model.name}` is {low / high:.1e} of that of the last",
                where(at, (narrow or first).name),
                {
                    "first": low,
                    "last": high,
                    "ratio": low / high,
                    "layers": len(layers),
                    "loss_falls": not stuck,
                },
                "each layer shrinks the gradient: saturated activations, a poor initialisation, or depth without "
                "normalisation or skip connections",
                "initialise for the activation (`nn.init.kaiming_normal_`), add batch norm or skip connections, or "
                "replace sigmoid and tanh",
                verdict="proven",
            )


def exploding_gradient(trace: Trace) -> Iterator[Finding]:
    """Gradients that grow by orders of magnitude while the loss rises."""
    need_steps(trace, 5)
    amplified = list(_amplified(trace)) or list(_huge(trace))
    if amplified:
        yield amplified[0]
        return
    norms = [s.gradient_norm for s in trace.recorded if s.gradient_norm is not None]
    values = [value for _, value in trace.loss_curve]
    if len(norms) < 5 or not values:
        return
    start = sorted(norms[:3])[1]
    peak = max((n for n in norms if n - n == 0), default=0.0)
    broken = trace.backward.not_finite > 0 or any(n - n != 0 for n in norms)
    rises = broken or max(values[len(values) // 2 :]) > 5 * max(abs(values[0]), 1e-12)
    if start > 0 and peak / start > EXPLODED_RATIO and rises:
        optimizer = trace.optimizers[trace.recorded[0].optimizer]
        yield Finding(
            "exploding-gradient",
            "error",
            f"the gradient's norm grew from {start:.3g} to {peak:.3g} while the loss rose",
            where(optimizer.place, optimizer.name or optimizer.kind),
            {"first": start, "largest": peak, "rate": optimizer.rate_max, "not_finite": broken},
            "each update overshoots: the learning rate is too high for this model, or the model amplifies",
            "lower the learning rate (warm it up), clip with `clip_grad_norm_`, normalise inputs and layers",
            verdict="proven",
        )


def _amplified(trace: Trace) -> Iterator[Finding]:
    """Layers each of which makes its input larger, from the first step on."""
    for model in trace.models:
        layers = [layer for layer in trace.layers if layer.model == model.name and layer.scale]
        scales = [layer.scale[0] for layer in layers]
        if len(layers) < 4 or not 0 < scales[0] < math.inf:
            continue
        ratio = max(scales) / scales[0]
        if not ratio > AMPLIFIED:
            continue
        at = next(i for i, (a, b) in enumerate(pairwise(scales), 1) if b > 2 * a)
        yield Finding(
            "exploding-gradient",
            "error" if ratio > 10 * AMPLIFIED else "warning",
            f"the signal grows {ratio:.3g}-fold through the layers of `{model.name}` at the first step, and the gradient "
            "with it",
            where(layers[at].place, layers[at].name),
            {"first": scales[0], "largest": max(scales), "layers": len(layers)},
            "each layer makes its input larger: the weights were drawn too wide for the count of inputs, and nothing "
            "normalises",
            "initialise for the count of inputs (`nn.init.kaiming_normal_`), or normalise between the layers",
            verdict="proven",
        )


def _huge(trace: Trace) -> Iterator[Finding]:
    """A gradient, or answers, astronomical at the first step already, which destroy the weights or stay out of reach."""
    first = trace.recorded[0]
    norm, update = first.gradient_norm, first.update_ratio
    excess = _excess(trace)
    if norm is None or first.step or trace.backward.risks:  # NaN is not huge
        return
    if not norm >= HUGE and not excess >= EXCESSIVE:
        return
    losses = [abs(value) for step, value in trace.loss_curve if step == first.step]
    if norm == math.inf and not max(losses, default=0.0) >= HUGE:  # of a small loss: a root or logarithm of 0
        return
    broken = bool(trace.backward.not_finite)
    if broken:
        harmless = update is not None and update < 1
    else:
        harmless = falls(trace, 0.5) if norm >= HUGE else not _stays_at_the_mean(trace)
        harmless = harmless and not any(
            r.late_error > FAR * r.late_variance > 0 for r in trace.data.regressions
        )
    if harmless:
        return
    begun = [p for p in trace.parameters if p.gradient_norms and first.optimizer in p.optimizers]
    steepest = max(begun, key=lambda p: p.gradient_norms[0] / max(1, p.count) ** 0.5, default=None)
    worst = max((p for p in begun if gain_of(p) > WIDE), key=gain_of, default=steepest)
    optimizer = trace.optimizers[first.optimizer]
    place = (worst.filled or worst.place) if worst else None
    yield Finding(
        "exploding-gradient",
        "error",
        (
            f"the new network answers {excess:.3g} times the largest target, and "
            if excess >= EXCESSIVE
            else ""
        )
        + f"the gradient's norm is {norm:.3g} at the first step, "
        + (
            "after which nothing is finite"
            if broken
            else "and the loss does not come down to what it could be"
        ),
        where(place or optimizer.place, worst.name if worst else optimizer.kind),
        {"first": norm, "update_ratio": update, "rate": first.rate, "answers_to_targets": excess},
        "the model amplifies: a recurrence or a chain of layers whose weights are too wide makes its input larger each "
        "time, or inputs and targets are not normalised",
        "initialise for the count of inputs (`nn.init.orthogonal_` for what recurs), clip with `clip_grad_norm_`, "
        "normalise inputs, layers and targets",
        verdict="proven",
    )


def _excess(trace: Trace) -> float:
    """How many times the largest target of the only regressing loss its first answers are; 0 when not known."""
    trained = [loss for loss in trace.losses if loss.trained]
    begun = [value for step, value in trace.loss_curve if step == 0]
    if len(trained) != 1 or trained[0].function not in REGRESSION_LOSSES or not begun:
        return 0.0
    loss = trained[0]
    target = max(abs(loss.target_min), abs(loss.target_max))
    error = abs(begun[0]) ** 0.5 if loss.function == "mse_loss" else abs(begun[0])
    answer = max(abs(loss.input_min), abs(loss.input_max))  # for the loss may be a sum
    return min(error, answer) / target if 0 < target < math.inf else 0.0


def _stays_at_the_mean(trace: Trace) -> bool:
    """Whether values are predicted no better, in the end, than by their mean."""
    ends = [item for item in trace.data.regressions if item.late_values >= FEWEST_VALUES]
    return any(is_no_better(item.late_error, item.late_variance) for item in ends)


def non_finite(trace: Trace) -> Iterator[Finding]:
    """A loss or weights that are NaN or infinite."""
    backward = trace.backward
    weights = next(
        (s.step for s in trace.recorded if s.weight_norm is not None and s.weight_norm != s.weight_norm), None
    )
    if not trace.steps and not backward.calls:
        raise NotCheckedError("no backward pass was seen")
    if backward.not_finite < 2 and weights is None:
        return
    step = backward.first_not_finite if backward.first_not_finite is not None else weights
    risk = next((seen for seen in backward.risks if seen.place is not None), None)
    if risk is not None and risk.place is not None:
        yield Finding(
            "non-finite",
            "error",
            f"the loss is NaN or infinite from step {step} on: {risk.reason} ({risk.operation}, `{risk.place.code}`)",
            where(risk.place, risk.operation),
            {"first_step": step, "backward_passes": backward.not_finite, "met_at_step": risk.step}
            | {"met_in_passes": risk.passes, "operation": risk.operation},
            risk.reason,
            "keep it away from there: a small constant inside (`(x + 1e-8).sqrt()`, `x.clamp_min(1e-7).log()`), or a "
            "function that is stable by itself (`F.logsigmoid`, `F.log_softmax`)",
            verdict="proven",
        )
        return
    loss = next((item for item in trace.losses if item.trained), None)
    over = next((s for s in trace.recorded if s.step < (step or 0) and (s.update_ratio or 0.0) >= 1), None)
    forward = backward.weights_finite_then and backward.first_not_finite is not None and over is None
    updated_at = trace.optimizers[over.optimizer].place if over is not None else None
    yield Finding(
        "non-finite",
        "error",
        f"the loss is NaN or infinite from step {step} on ({backward.not_finite} backward passes)",
        where(
            loss.place if loss and forward else updated_at or backward.place, "loss" if forward else "weights"
        ),
        {"first_step": step, "backward_passes": backward.not_finite, "weights_finite_then": forward}
        | {"update_ratio": over.update_ratio if over is not None else None},
        "the weights were still finite: the forward or the loss makes it (a logarithm or root of 0, a division by 0)"
        if forward
        else f"the updates are larger than the weights themselves from step {over.step} on: training diverges"
        if over is not None
        else "the weights had already become NaN or infinite through the step before",
        "add a small constant inside the logarithm, root or quotient, and check the data for NaN"
        if forward
        else "lower the learning rate, clip the gradient, and look for roots and norms whose derivative at 0 is infinite",
        verdict="proven",
    )


def script_failed(trace: Trace) -> Iterator[Finding]:
    """Whatever else ended the script."""
    fault = trace.exception
    if fault is None:
        return
    place, failed = fault.places[0] if fault.places else None, fault.failed
    raised = f"raised at `{place.code}`" if place else ""
    cause, remedy = translated(fault.message) or (raised, "see the traceback")
    if failed is not None and failed.place is not None:
        cause += f"; the layer is `{failed.layer}`, made at {failed.place}, and is given {failed.given}"
    yield Finding(
        "script-failed",
        "error",
        f"the script ended with {fault.kind}: {fault.message.splitlines()[0] if fault.message else ''}",
        where(place),
        {"kind": fault.kind, "path": [str(item) for item in fault.places[:6]]}
        | ({"layer": failed.layer, "given": failed.given} if failed else {}),
        cause,
        remedy,
        verdict="proven",
    )
