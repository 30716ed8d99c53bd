"""Checks on parameters: are all of them trained, and only those."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from trivet.doctor.checks.common import count_text, listed, need_steps, parts_of, where
from trivet.doctor.finding import Finding
from trivet.doctor.origins import selected_at
from trivet.doctor.patches import is_bound, name_called, replace_expression
from trivet.doctor.source import Place
from trivet.doctor.trace import OptimizerTrace, Trace
from trivet.doctor.trace_model import ParameterTrace

ROUNDING = 1e-5
"""Size of a gradient, against the largest of its model, below which it may be rounding alone."""
ALWAYS = 10
"""Recorded steps at which a gradient is exactly 0 before that is taken for a rule."""
SEEN = 2
"""Recorded steps with a gradient that a claim about a parameter needs."""


def parameter_not_in_optimizer(trace: Trace) -> Iterator[Finding]:
    """Trainable parameters that get a gradient at every step, are in no optimizer, and never move."""
    missing = [p for p in _left_out(trace) if p.registered]
    for model in dict.fromkeys(p.model for p in missing):
        lost = [p for p in missing if p.model == model]
        if _is_fixed_network(trace, model):
            yield _needless_gradients(model, lost)
        else:
            yield _not_in_optimizer(trace, model, lost)


def _left_out(trace: Trace) -> list[ParameterTrace]:
    need_steps(trace, SEEN)
    return [
        p
        for p in trace.parameters
        if p.model and p.requires_grad and not p.optimizers and p.with_nonzero >= SEEN and not p.changed
    ]


def _is_fixed_network(trace: Trace, model: str) -> bool:
    """A network of its own, none of which is trained, run in eval mode: a teacher or a perceptual loss."""
    if any(p.optimizers for p in trace.parameters if p.model == model):
        return False
    found = next((m for m in trace.models if m.name == model), None)
    return found is not None and found.steps_in_eval > 0 and found.steps_in_train == 0


def _needless_gradients(model: str, lost: list[ParameterTrace]) -> Finding:
    return Finding(
        "parameter-not-in-optimizer",
        "note",
        f"`{model}` is used in eval mode and trained by no optimizer, but gradients are computed for it",
        where(lost[0].place, model),
        {"parameters": sum(p.count for p in lost)},
        "its parameters still require gradients",
        f"if it is meant to stay fixed, call `{model}.requires_grad_(False)`: that saves time and memory",
    )


def _not_in_optimizer(trace: Trace, model: str, lost: list[ParameterTrace]) -> Finding:
    energy = sum(p.first_energy for p in trace.parameters if p.requires_grad)
    share = sum(p.first_energy for p in lost) / energy if energy and energy - energy == 0 else None
    parts = parts_of(lost, [p for p in trace.parameters if p.requires_grad and p.model])
    held: Iterable[int] = {i for p in trace.parameters if p.model == model for i in p.optimizers} or range(
        len(trace.optimizers)
    )
    stepping = [trace.optimizers[i] for i in held if trace.optimizers[i].steps]
    optimizer = stepping[-1] if stepping else None  # of several phases, the one of now
    later = _made_later(lost, trace.optimizers.index(optimizer), trace) if optimizer else None
    place = later or (selected_at(optimizer.place) or optimizer.place if optimizer else lost[0].place)
    count = sum(p.count for p in lost)
    title = f"{listed(parts)} ({count_text(count)} parameters) {'is' if len(parts) == 1 else 'are'} in no optimizer"
    if share is not None:
        title = f"{share:.0%} of the gradient's energy never reaches an optimizer: {title}"
    return Finding(
        "parameter-not-in-optimizer",
        "error",
        title,
        where(place, parts[0]),
        {
            "parts": parts,
            "parameters": count,
            "gradient_energy_share": share,
            "steps_with_gradient": max(p.with_nonzero for p in lost),
            "optimizer": optimizer.kind if optimizer else None,
            "made_at": str(lost[0].place) if lost[0].place else None,
        },
        (
            f"they were made after the optimizer ({optimizer.place})"
            if later and optimizer
            else "the optimizer was given only some of the parameters when it was built"
            + (f" ({optimizer.place.code})" if optimizer and optimizer.place else "")
        ),
        f"give the optimizer all of them (`{model}.parameters()`) or add {listed(parts)} with "
        "`add_param_group`; if they are meant to stay fixed, call `requires_grad_(False)` on them",
        patch=None if later else _given_all(trace, model, parts, optimizer),
        verdict="proven",
    )


def _made_later(lost: list[ParameterTrace], optimizer: int, trace: Trace) -> Place | None:
    """Where parts of a model were made, when that was after the optimizer, which trains the rest of it."""
    if not lost or any(p.born is None or p.born <= optimizer for p in lost):
        return None
    rest = any(
        optimizer in p.optimizers and p.model == lost[0].model and not p.gone for p in trace.parameters
    )
    return lost[0].place if rest else None


def _given_all(trace: Trace, model: str, parts: list[str], optimizer: OptimizerTrace | None) -> str | None:
    """Give the optimizer the whole model, or the parts left out besides what it has."""
    place = optimizer.place if optimizer is not None else None
    if place is None or optimizer is None or not is_bound(place, model):
        return None
    others = {i for p in trace.parameters if p.model == model for i in p.optimizers}

    def edit(node: ast.expr) -> ast.expr | None:
        if not isinstance(node, ast.Call) or name_called(node) != optimizer.kind or not node.args:
            return None
        given = node.args[0]
        whole = re.fullmatch(rf"{re.escape(model)}\.[\w.]+\.parameters\(\)", ast.unparse(given))
        if whole and len(others) == 1:
            text = f"{model}.parameters()"
        elif name_called(given) == "parameters" and parts == [model]:
            text = f"[*{ast.unparse(given)}, *{model}.parameters()]"
        elif (
            isinstance(given, ast.List)
            and parts == [model]
            and given.elts
            and isinstance(given.elts[0], ast.Dict)
        ):
            text = f"[{', '.join(map(ast.unparse, given.elts))}, {{'params': {model}.parameters()}}]"
        else:
            return None
        node.args[0] = ast.parse(text, mode="eval").body
        return node

    return replace_expression(place, edit)


def _without_cut(node: ast.expr) -> ast.expr | None:
    """The tensor itself in the place of `x.detach()` or `x.data`."""
    if name_called(node) == "detach" and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.value
    return node.value if isinstance(node, ast.Attribute) and node.attr == "data" else None


def foreign_parameter_in_optimizer(trace: Trace) -> Iterator[Finding]:
    """Tensors in an optimizer that belong to nothing that is trained."""
    need_steps(trace, SEEN)
    used = {p.model for p in trace.parameters if p.with_gradient and p.model}
    for i, optimizer in enumerate(trace.optimizers):
        held = [p for p in trace.parameters if i in p.optimizers]
        foreign = [
            p
            for p in held
            if p.observed >= SEEN
            and p.requires_grad
            and (
                (p.gone and optimizer.steps_foreign >= SEEN)
                or (not p.with_gradient and p.model not in used and not p.called_with_gradient)
            )
        ]
        missing = _left_out(trace)
        if not missing:  # then no other copy is trained in their place
            foreign = [p for p in foreign if p.gone or not p.called]
        if not foreign or not used or not optimizer.steps:
            continue
        same = len({tuple(p.shape) for p in foreign} & {tuple(p.shape) for p in missing})
        yield Finding(
            "foreign-parameter-in-optimizer",
            "error" if missing or len(foreign) == len(held) else "warning",
            f"{len(foreign)} of {len(held)} tensors in the {optimizer.kind} belong to no model that is trained",
            where(_made_later(missing, i, trace) or optimizer.place, foreign[0].name),
            {
                "tensors": len(foreign),
                "held": len(held),
                "untrained_now": len(missing),
                "of_equal_shape": same,
            },
            "the optimizer was built from another copy of the model, or before a layer was replaced",
            "build the optimizer after the last change of the model, from the model that is trained",
            verdict="proven",
        )


def parameter_without_gradient(trace: Trace) -> Iterator[Finding]:
    """Parameters in an optimizer that never get a gradient while others do."""
    need_steps(trace, 3)
    dead = [
        p
        for p in trace.parameters
        if p.optimizers
        and p.requires_grad
        and p.observed >= 3
        and not p.with_gradient
        and any(q.with_gradient for q in trace.parameters if q.model == p.model or _beside(p, q))
    ]
    among = [p for p in trace.parameters if p.requires_grad]
    for cut in dict.fromkeys(p.cut for p in dead):
        group = [p for p in dead if p.cut == cut]
        used = [p for p in group if p.called_with_gradient or p.cut]
        for part, chosen in (("used", used), ("unused", [p for p in group if p not in used])):
            if not chosen:
                continue
            parts = parts_of(chosen, among)
            severe = part == "used" and cut is not None
            loss = _loss_without(chosen, trace) if part == "used" and cut is None else None
            called = _called_at(parts[0], trace) if part == "used" else None
            chosen_by_data = part == "unused" and all(_has_trained_sibling(p, trace) for p in chosen)
            yield Finding(
                "parameter-without-gradient",
                "error" if severe else "note" if chosen_by_data else "warning",
                f"{listed(parts)} never received a gradient in {chosen[0].observed} recorded steps",
                where(cut or loss or called or chosen[0].place, parts[0]),
                {"parts": parts, "parameters": sum(p.count for p in chosen), "cut": str(cut) if cut else None}
                | {"made_at": str(chosen[0].place) if chosen[0].place else None},
                f"the graph is cut at {cut} (`{cut.code}`)"
                if cut
                else f"the model gives what it makes of it, but the loss ({loss}) does not use that"
                if loss
                else "the module is used, but the loss does not depend on it"
                if part == "used"
                else "no forward uses it",
                "remove the cut"
                if cut
                else "add its part to the loss, or take it out of the model"
                if loss
                else "use it in the forward, or take it out of the model",
                patch=replace_expression(cut, _without_cut),
                verdict="proven" if cut else "suspected",
            )


def _called_at(part: str, trace: Trace) -> Place | None:
    """The line that calls a part of a model, whose answer is not used."""
    return next((model.called_at[part] for model in trace.models if part in model.called_at), None)


def _loss_without(unused: list[ParameterTrace], trace: Trace) -> Place | None:
    """The line that makes the loss of a model, some parameters of which lead to its answer and not to the loss."""
    if not all(p.answered and not p.reached for p in unused):
        return None
    lines = Counter(
        q.reached_from
        for q in trace.parameters
        if q.reached_from is not None and any(q.model == p.model or _beside(p, q) for p in unused)
    )
    return max(lines, key=lambda place: lines[place], default=None)


def _beside(p: ParameterTrace, q: ParameterTrace) -> bool:
    """Whether a parameter whose module is called in training is in an optimizer with the other."""
    return p.called_with_gradient is True and not set(p.optimizers).isdisjoint(q.optimizers)


def _has_trained_sibling(p: ParameterTrace, trace: Trace) -> bool:
    """Whether an equal place in a numbered list is trained, as the experts are that the data chose."""
    pattern = _without_numbers(p.name)
    return pattern != p.name and any(
        q.with_nonzero and _without_numbers(q.name) == pattern for q in trace.parameters
    )


def _without_numbers(name: str) -> str:
    """A parameter's name with a star for each number, also where two stand side by side: `norms.0.4.bias`."""
    return re.sub(r"\.\d+(?=\.)", ".*", name)


def parameter_never_changes(trace: Trace) -> Iterator[Finding]:
    """Parameters with gradients in a stepping optimizer whose values never move."""
    need_steps(trace, 4)
    still = [
        p
        for p in trace.parameters
        if p.optimizers
        and p.requires_grad
        and p.own_nonzero >= 3
        and p.changed is False
        and p.alive
        and not _zero_by_construction(p, trace)
        and any(trace.optimizers[i].steps > trace.optimizers[i].skipped + 2 for i in p.optimizers)
    ]
    yield from _frozen_optimizers(trace)
    yield from _never_stepped(trace)
    yield from _emptied(trace)
    yield from _without_rate(trace, [p for p in still if not p.rate])
    yield from _without_effect(trace)
    still = [p for p in still if p.rate]
    if still:
        parts = parts_of(still, [p for p in trace.parameters if p.optimizers])
        optimizer = trace.optimizers[still[0].optimizers[0]]
        yield Finding(
            "parameter-never-changes",
            "error",
            f"{listed(parts)} gets gradients and is in the {optimizer.kind}, but never changes",
            where(
                optimizer.step_place or optimizer.place if still[0].contiguous else still[0].place, parts[0]
            ),
            {
                "parts": parts,
                "contiguous": still[0].contiguous,
                "rate_max": optimizer.rate_max,
                "steps": optimizer.steps,
            }
            | {"gradient_norm": max(still[0].gradient_norms, default=0.0)},
            "the update has no effect: it is lost to rounding, undone, or written to another tensor"
            if still[0].contiguous
            else "its values are not contiguous in memory: an update through a reshaped copy does not reach it",
            "compare a weight before and after `optimizer.step()`; look for a learning rate below the type's "
            "precision, weights that are reloaded each step, and tensors that are not contiguous",
            verdict="proven",
        )


def _without_effect(trace: Trace) -> Iterator[Finding]:
    """Parameters whose gradient is there and exactly zero at every step."""
    idle = [
        p
        for p in trace.parameters
        if p.optimizers
        and p.requires_grad
        and p.alive
        and p.changed is False
        and p.with_gradient >= ALWAYS
        and not p.with_nonzero
        and not _has_trained_sibling(p, trace)
        # one of several in its module: a bias that a difference takes away, say
        and not any(
            q.with_nonzero and q.name.rpartition(".")[0] == p.name.rpartition(".")[0]
            for q in trace.parameters
        )
    ]
    if not idle or not any(p.with_nonzero for p in trace.parameters):
        return
    parts = parts_of(idle, [p for p in trace.parameters if p.optimizers])
    zeros = [p.zero_at for p in idle if p.zero_at is not None]
    factors = len(zeros) >= 2  # each waits for the other to be anything but 0
    yield Finding(
        "parameter-never-changes",
        "warning",
        f"{listed(parts)} gets a gradient of exactly 0 at each of {idle[0].with_gradient} recorded steps, and never changes",
        where(zeros[0] if factors else idle[0].flat_at or idle[0].place, parts[0]),
        {"parts": parts, "parameters": sum(p.count for p in idle), "steps": idle[0].with_gradient}
        | {"made_0_by": idle[0].flat_by or None},
        "its parts are all 0 and multiply each other, so that the gradient of each is 0"
        if factors
        else f"the gradient becomes 0 in `{idle[0].flat_at.code}` ({idle[0].flat_by}): it has no slope there, or a factor of 0"
        if idle[0].flat_at
        else "between it and the loss stands what has no slope there (rounding, a sign, a clamp that is always at its limit), "
        "or a factor of 0",
        "start one of the factors with random values"
        if factors
        else "start inside of a clamp's limits; pass the gradient straight through a rounding "
        "(`x + (x.round() - x).detach()`); or take it out of the optimizer",
        verdict="proven",
    )


def _without_rate(trace: Trace, still: list[ParameterTrace]) -> Iterator[Finding]:
    """Parameters whose group has the learning rate 0."""
    for index in dict.fromkeys(p.optimizers[0] for p in still):
        optimizer, group = trace.optimizers[index], [p for p in still if p.optimizers[0] == index]
        parts = parts_of(group, [p for p in trace.parameters if p.optimizers])
        if group[0].own_nonzero >= 10:
            yield Finding(
                "parameter-never-changes",
                "error",
                f"{listed(parts)} gets gradients, but its learning rate in the {optimizer.kind} was 0 at all "
                f"{group[0].own_nonzero} recorded steps",
                where(optimizer.place, parts[0]),
                {"parts": parts, "rate": 0.0, "rate_of_the_first_group": optimizer.rate_max},
                "a learning rate of 0 moves nothing: it was rounded to 0, or a schedule never leaves it",
                "give the group its rate (`/`, not `//`), or freeze it with `requires_grad_(False)` if that is meant",
                verdict="proven",
            )


def _emptied(trace: Trace) -> Iterator[Finding]:
    """Optimizers whose gradients are cleared after the backward pass and before the step."""
    for optimizer in trace.optimizers:
        if optimizer.emptied >= 3 and optimizer.emptied >= 0.9 * (optimizer.judged + 1):
            clear = optimizer.clear_place
            yield Finding(
                "parameter-never-changes",
                "error",
                f"gradients are cleared between `backward()` and `step()`: {optimizer.emptied} steps had none to use",
                where(clear or optimizer.step_place, optimizer.name or optimizer.kind),
                {"emptied": optimizer.emptied, "steps": optimizer.steps},
                "`zero_grad()` stands after `backward()`" + (f" (`{clear.code}`)" if clear else ""),
                "call `zero_grad()` before `backward()`, or after `step()`",
                verdict="proven",
            )


def _frozen_optimizers(trace: Trace) -> Iterator[Finding]:
    """Optimizers that step although nothing they hold requires a gradient."""
    for i, optimizer in enumerate(trace.optimizers):
        held = [p for p in trace.parameters if i in p.optimizers]
        idle = held and all(not p.requires_grad and not p.changed and not p.with_gradient for p in held)
        if idle and optimizer.steps >= 3 and trace.backward.calls >= 3:
            parts = parts_of(held, trace.parameters)
            yield Finding(
                "parameter-never-changes",
                "error",
                f"the {optimizer.kind} holds only {listed(parts)}, which is frozen: nothing it holds is ever trained",
                where(optimizer.place, parts[0]),
                {"parts": parts, "steps": optimizer.steps, "parameters": sum(p.count for p in held)},
                "its parameters do not require a gradient",
                "unfreeze them (`requires_grad_(True)`), or give the optimizer what is to be trained",
                verdict="proven",
            )


def _never_stepped(trace: Trace) -> Iterator[Finding]:
    """Optimizers whose gradients are made and cleared, but which never step, while others do."""
    if trace.steps < 20 or trace.ended != "whole":
        return
    for i, optimizer in enumerate(trace.optimizers):
        held = [p for p in trace.parameters if i in p.optimizers and p.requires_grad and p.alive]
        alone = held and all(
            p.with_nonzero >= 3 and not any(trace.optimizers[j].steps for j in p.optimizers) for p in held
        )
        if alone and not optimizer.steps and not optimizer.skipped and optimizer.clear_place is not None:
            parts = parts_of(held, trace.parameters)
            yield Finding(
                "parameter-never-changes",
                "error",
                f"{listed(parts)} gets gradients, but the {optimizer.kind} that holds it never steps",
                where(optimizer.place, optimizer.name or parts[0]),
                {"parts": parts, "steps_of_others": trace.steps, "cleared": str(optimizer.clear_place)},
                "`step()` is called on another optimizer, or not at all",
                f"call `{optimizer.name or 'optimizer'}.step()` after the backward pass of its own loss",
                verdict="proven",
            )


def _zero_by_construction(p: ParameterTrace, trace: Trace) -> bool:
    """Whether the gradient is rounding only, as that of a bias whose effect a norm or a difference takes away."""
    largest = max((_size(q) for q in trace.parameters if q.model == p.model), default=0.0)
    return _size(p) <= ROUNDING * largest


def _size(p: ParameterTrace) -> float:
    """Root mean square of the largest finite gradient."""
    return max((n for n in p.gradient_norms if n - n == 0), default=0.0) / max(1, p.count) ** 0.5
