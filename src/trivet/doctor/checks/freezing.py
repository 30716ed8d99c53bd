"""Checks on what is meant to stay as it is."""

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from trivet.doctor.checks.common import count_text, listed, parts_of, where
from trivet.doctor.finding import Finding, Severity
from trivet.doctor.patches import (
    calls_at,
    insert_line,
    name_called,
    replace_keyword,
    replace_statement,
    statement_at,
)
from trivet.doctor.source import Place
from trivet.doctor.trace import OptimizerTrace, Trace
from trivet.doctor.trace_model import ParameterTrace

FEWEST_MOVES = 5
"""Recorded steps in which rows without a gradient have to move."""


def frozen_part_changes(trace: Trace) -> Iterator[Finding]:
    """Batch-norm statistics of a frozen part that go on moving."""
    for model in trace.models:
        moving = {part: batches for part, batches in model.frozen_norms.items() if batches}
        if moving:
            part, batches = next(iter(moving.items()))
            yield Finding(
                "frozen-part-changes",
                "warning",
                f"{listed(list(moving))} is frozen, but the statistics of its batch norms moved in {batches} recorded "
                "batches",
                where(model.train_place or model.freeze_place or _first_place(trace, part), part),
                {"batches": batches, "parts": list(moving)},
                "`requires_grad_(False)` freezes weights only; batch norm in train mode still updates its statistics",
                f"call `{part}.eval()` after every `{model.name}.train()`"
                + (", and those of the others" if len(moving) > 1 else ""),
                patch=_kept_in_eval(model.train_place, part.partition(".")[2]) if len(moving) == 1 else None,
                verdict="proven",
            )


def _kept_in_eval(place: Place | None, path: str) -> str | None:
    """`model.part.eval()` after the statement `model.train()`."""
    statement = statement_at(place)
    call = statement.value if isinstance(statement, ast.Expr) else None
    if name_called(call or ast.Constant(0)) != "train" or not path.replace(".", "").isidentifier():
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.args:
        return None
    return insert_line(place, f"{ast.unparse(call.func.value)}.{path}.eval()", after=True)


def _first_place(trace: Trace, part: str) -> Place | None:
    return next((p.place for p in trace.parameters if p.name.startswith(part) and p.place), None)


def fake_freeze(trace: Trace) -> Iterator[Finding]:
    """Parts that are meant to be frozen by means that freeze nothing."""
    for model in trace.models:
        for part in model.fake_freezes:
            moving = _moving(trace, part, model.fake_freeze_parameters.get(part, ()))
            if moving:
                why = "`requires_grad = False` on a module is a plain attribute"
                finding = _fake(part, moving, "error", why)
                place = model.fake_freeze_places.get(part) or moving[0].place
                yield replace(finding, where=where(place, part), patch=_really_frozen(place))
        for part, place in model.eval_parts.items():
            moving = [p for p in _moving(trace, part) if p.in_eval >= 3]
            if moving and part not in model.fake_freezes:
                finding = _fake(part, moving, "warning", "`eval()` changes dropout and batch norm only")
                yield replace(finding, where=where(place, part))
    if trace.state_freeze is not None and all(p.requires_grad for p in trace.parameters):
        moving = [p for p in trace.parameters if p.requires_grad and p.optimizers and p.changed]
        if moving:
            why = (
                "`state_dict()` gives detached copies of the parameters: what is set on these freezes nothing"
            )
            finding = _fake(moving[0].model, moving, "error", why)
            yield replace(finding, where=where(trace.state_freeze, moving[0].model))
    wrong = [p for p in trace.parameters if p.misspelt and p.requires_grad and p.optimizers and p.changed]
    if wrong:
        part = parts_of(wrong, trace.parameters)[0]
        why = f"`{wrong[0].misspelt}` is no attribute of a parameter that does anything: `requires_grad` is meant"
        finding = _fake(part, wrong, "error", why)
        patch = _spelt_rightly(wrong[0].misspelt_at, wrong[0].misspelt)
        yield replace(finding, where=where(wrong[0].misspelt_at, part), patch=patch)


def _really_frozen(place: Place | None) -> str | None:
    """`part.requires_grad_(False)` in the place of `part.requires_grad = False`."""
    statement = statement_at(place)
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Attribute):
        return None
    return replace_statement(place, f"{ast.unparse(statement.targets[0].value)}.requires_grad_(False)")


def _spelt_rightly(place: Place | None, wrong: str) -> str | None:
    statement = statement_at(place)
    if statement is None or not isinstance(statement, ast.Assign):
        return None
    return replace_statement(place, ast.unparse(statement).replace(f".{wrong} ", ".requires_grad "))


def _moving(trace: Trace, part: str, others: Collection[str] = ()) -> list[ParameterTrace]:
    """Return the parameters of a part, or by the names of `others`, that are trained."""
    inside = [
        p for p in trace.parameters if p.name == part or p.name.startswith(f"{part}.") or p.name in others
    ]
    return [p for p in inside if p.requires_grad and p.optimizers and p.changed and p.with_nonzero]


def _fake(part: str, moving: Sequence[ParameterTrace], severity: Severity, why: str) -> Finding:
    return Finding(
        "fake-freeze",
        severity,
        f"`{part}` looks frozen, but {count_text(sum(p.count for p in moving))} of its parameters are trained",
        where(moving[0].place, part),
        {"parameters": sum(p.count for p in moving)},
        why,
        f"call `{part}.requires_grad_(False)`",
        verdict="proven" if severity == "error" else "suspected",
    )


def regularisation_moves_frozen_weights(trace: Trace) -> Iterator[Finding]:
    """Weights that only weight decay or momentum moves."""
    frozen = [p for p in trace.parameters if p.moved_while_frozen]
    drifting = [p for p in trace.parameters if p.decayed_only >= 5 and p.decayed_only >= 0.9 * p.observed]
    for group, why in (
        (frozen, "they do not require a gradient"),
        (drifting, "their gradient is always zero"),
    ):
        if not group:
            continue
        optimizer = trace.optimizers[group[0].optimizers[0]]
        parts = parts_of(group, trace.parameters)
        cleared = _zero_filled(optimizer) if group is frozen else None
        yield Finding(
            "regularisation-moves-frozen-weights",
            "warning",
            f"{listed(parts)} is moved by the {optimizer.kind} although {why}",
            where(cleared or optimizer.place, parts[0]),
            {
                "weight_decay": optimizer.weight_decay,
                "steps": max(p.moved_while_frozen or p.decayed_only for p in group),
            },
            "a gradient of zeros is not none: weight decay and momentum still act on it",
            "leave frozen parameters out of the optimizer, or clear with `zero_grad(set_to_none=True)`",
            patch=replace_keyword(cleared, "set_to_none", False, "True"),
            verdict="proven",
        )

    for parameter in [p for p in trace.parameters if p.masked_moved >= FEWEST_MOVES and p.optimizers][:1]:
        optimizer = trace.optimizers[parameter.optimizers[0]]
        yield Finding(
            "regularisation-moves-frozen-weights",
            "warning",
            f"{parameter.masked_rows} rows of `{parameter.name}` are moved by the {optimizer.kind} although a hook makes "
            "their gradient zero",
            where(optimizer.place, parameter.name),
            {
                "weight_decay": optimizer.weight_decay,
                "rows": parameter.masked_rows,
                "steps": parameter.masked_moved,
            },
            "a gradient of zeros is not none: weight decay and momentum still act on it",
            "give this parameter a group without weight decay, or keep the frozen rows in a tensor of their own",
            verdict="proven",
        )


def _zero_filled(optimizer: OptimizerTrace) -> Place | None:
    """Where gradients are cleared by filling them with zeros: what was frozen since would have none otherwise."""
    calls = [call for call in calls_at(optimizer.clear_place) if name_called(call) == "zero_grad"]
    return optimizer.clear_place if any(call.args or call.keywords for call in calls) else None
