"""Checks on parameters: are all of them trained, and only those."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from trivet.doctor.checks.common import NotCheckedError, count_text, listed, need_steps, parts_of, where
from trivet.doctor.finding import Finding, Severity
from trivet.doctor.probe.survey import multiplies_a_list
from trivet.doctor.source import Place, one_line_patch
from trivet.doctor.trace import ParameterTrace, Trace

ROUNDING = 1e-5
"""Size of a gradient, against the largest of its model, below which it may be rounding alone."""
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
    held = {i for p in trace.parameters if p.model == model for i in p.optimizers} or range(
        len(trace.optimizers)
    )
    optimizer = next((trace.optimizers[i] for i in held), None)
    count = sum(p.count for p in lost)
    title = f"{listed(parts)} ({count_text(count)} parameters) {'is' if len(parts) == 1 else 'are'} in no optimizer"
    if share is not None:
        title = f"{share:.0%} of the gradient's energy never reaches an optimizer: {title}"
    return Finding(
        "parameter-not-in-optimizer",
        "error",
        title,
        where(optimizer.place if optimizer else lost[0].place, parts[0]),
        {
            "parts": parts,
            "parameters": count,
            "gradient_energy_share": share,
            "steps_with_gradient": max(p.with_nonzero for p in lost),
            "optimizer": optimizer.kind if optimizer else None,
            "made_at": str(lost[0].place) if lost[0].place else None,
        },
        "the optimizer was given only some of the parameters when it was built"
        + (f" ({optimizer.place.code})" if optimizer and optimizer.place else ""),
        f"give the optimizer all of them (`{model}.parameters()`) or add {listed(parts)} with "
        "`add_param_group`; if they are meant to stay fixed, call `requires_grad_(False)` on them",
        verdict="proven",
    )


def foreign_parameter_in_optimizer(trace: Trace) -> Iterator[Finding]:
    """Tensors in an optimizer that belong to nothing that is trained."""
    need_steps(trace, SEEN)
    used = {p.model for p in trace.parameters if p.with_gradient and p.model}
    for i, optimizer in enumerate(trace.optimizers):
        held = [p for p in trace.parameters if i in p.optimizers]
        foreign = [
            p
            for p in held
            if p.observed >= SEEN and not p.with_gradient and p.requires_grad and p.model not in used
        ]
        missing = _left_out(trace)
        if not foreign or not used or not optimizer.steps:
            continue
        same = len({tuple(p.shape) for p in foreign} & {tuple(p.shape) for p in missing})
        yield Finding(
            "foreign-parameter-in-optimizer",
            "error" if missing or len(foreign) == len(held) else "warning",
            f"{len(foreign)} of {len(held)} tensors in the {optimizer.kind} belong to no model that is trained",
            where(optimizer.place, foreign[0].name),
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
        and any(q.with_gradient for q in trace.parameters if q.model == p.model)
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
            chosen_by_data = part == "unused" and all(_has_trained_sibling(p, trace) for p in chosen)
            yield Finding(
                "parameter-without-gradient",
                "error" if severe else "note" if chosen_by_data else "warning",
                f"{listed(parts)} never received a gradient in {chosen[0].observed} recorded steps",
                where(cut or chosen[0].place, parts[0]),
                {"parts": parts, "parameters": sum(p.count for p in chosen), "cut": str(cut) if cut else None}
                | {"made_at": str(chosen[0].place) if chosen[0].place else None},
                f"the graph is cut at {cut} (`{cut.code}`)"
                if cut
                else "the module is used, but the loss does not depend on it"
                if part == "used"
                else "no forward uses it",
                "remove the cut" if cut else "use it in the forward, or take it out of the model",
                verdict="proven" if cut else "suspected",
            )


def _has_trained_sibling(p: ParameterTrace, trace: Trace) -> bool:
    """Whether an equal place in a numbered list is trained, as the experts are that the data chose."""
    pattern = re.sub(r"\.\d+\.", ".*.", p.name)
    return pattern != p.name and any(
        q.with_gradient and re.sub(r"\.\d+\.", ".*.", q.name) == pattern for q in trace.parameters
    )


def parameter_never_changes(trace: Trace) -> Iterator[Finding]:
    """Parameters with gradients in a stepping optimizer whose values never move."""
    need_steps(trace, 4)
    still = [
        p
        for p in trace.parameters
        if p.optimizers
        and p.requires_grad
        and p.with_nonzero >= 3
        and p.changed is False
        and p.alive
        and not _zero_by_construction(p, trace)
        and any(trace.optimizers[i].steps > trace.optimizers[i].skipped + 2 for i in p.optimizers)
        and any(trace.optimizers[i].rate_max > 0 for i in p.optimizers)
    ]
    yield from _frozen_optimizers(trace)
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


def _zero_by_construction(p: ParameterTrace, trace: Trace) -> bool:
    """Whether the gradient is rounding only, as that of a bias whose effect a norm or a difference takes away."""
    largest = max((_size(q) for q in trace.parameters if q.model == p.model), default=0.0)
    return _size(p) <= ROUNDING * largest


def _size(p: ParameterTrace) -> float:
    """Root mean square of the largest finite gradient."""
    return max((n for n in p.gradient_norms if n - n == 0), default=0.0) / max(1, p.count) ** 0.5


def unregistered_module(trace: Trace) -> Iterator[Finding]:
    """Modules kept in a plain list or dict, which `parameters()` does not find."""
    hidden = [p for p in trace.parameters if not p.registered and p.requires_grad and p.with_nonzero]
    for holder in dict.fromkeys(p.hidden_in for p in hidden):
        group = [p for p in hidden if p.hidden_in == holder]
        trained = all(p.optimizers for p in group)
        attribute = (holder or "").rpartition(".")[2]
        yield Finding(
            "unregistered-module",
            "note" if trained else "error",
            f"`{holder}` holds modules in a plain list or dict: {count_text(sum(p.count for p in group))} "
            f"parameters are {'not saved with the model' if trained else 'never trained'}",
            where(group[0].hidden_at or group[0].place, holder),
            {
                "parameters": sum(p.count for p in group),
                "modules": len({p.name.rsplit(".", 1)[0] for p in group}),
            },
            "a module registers only modules, not python lists or dicts of them",
            f"wrap it: `self.{attribute} = nn.ModuleList(...)` (or `nn.ModuleDict`)",
            verdict="proven",
        )


def repeated_module(trace: Trace) -> Iterator[Finding]:
    """A container that holds one module several times."""
    for model in trace.models:
        for seen in model.repeated:
            multiplied = seen.place is not None and multiplies_a_list(seen.place.code)
            sure = multiplied or seen.container_kind == "Sequential"
            yield Finding(
                "repeated-module",
                "warning" if sure else "note",
                f"`{seen.container}` holds one {seen.kind} {seen.times} times: its {count_text(seen.parameters)} "
                "parameters are shared",
                where(seen.place, seen.container),
                {"times": seen.times, "parameters": seen.parameters, "list_multiplied": multiplied},
                "multiplying a list repeats the reference, not the module"
                if multiplied
                else "one object is reused",
                f"make a new one each time: `[{seen.kind}(...) for _ in range({seen.times})]`",
                verdict="proven" if multiplied else "suspected",
            )


def uninitialised_parameter(trace: Trace) -> Iterator[Finding]:
    """Parameters whose memory was never filled."""
    for p in trace.parameters:
        wild = p.largest > 1e6 or p.denormal_share > 0.1
        if p.poisoned or (not trace.poisoned and wild and p.requires_grad):
            yield Finding(
                "uninitialised-parameter",
                "error" if p.poisoned else "warning",
                f"`{p.name}` was never initialised: it holds whatever was in memory",
                where(p.place, p.name),
                {"unfilled_values": p.poisoned, "values": p.count, "largest": p.largest}
                | {"denormal_share": p.denormal_share},
                "`torch.Tensor(...)` and `torch.empty(...)` reserve memory without filling it",
                "fill it: `nn.Parameter(torch.zeros(...))`, `torch.ones`, or a function of `torch.nn.init`",
                patch=_initialised(p),
                verdict="proven" if p.poisoned else "suspected",
            )


def _initialised(p: ParameterTrace) -> str | None:
    if p.place is None:
        return None
    for old in ("torch.Tensor(", "torch.empty(", "torch.FloatTensor("):
        if old in p.place.code:
            return one_line_patch(p.place, p.place.code.replace(old, "torch.zeros(", 1))
    return None


def frozen_part_changes(trace: Trace) -> Iterator[Finding]:
    """Batch-norm statistics of a frozen part that go on moving."""
    for model in trace.models:
        for part, batches in model.frozen_norms.items():
            yield Finding(
                "frozen-part-changes",
                "warning",
                f"`{part}` is frozen, but the statistics of its batch norms moved in {batches} recorded batches",
                where(model.train_place or _first_place(trace, part), part),
                {"batches": batches},
                "`requires_grad_(False)` freezes weights only; batch norm in train mode still updates its statistics",
                f"call `{part}.eval()` after every `{model.name}.train()`",
                verdict="proven",
            )


def _first_place(trace: Trace, part: str) -> Place | None:
    return next((p.place for p in trace.parameters if p.name.startswith(part) and p.place), None)


def fake_freeze(trace: Trace) -> Iterator[Finding]:
    """Parts that are meant to be frozen by means that freeze nothing."""
    for model in trace.models:
        for part in model.fake_freezes:
            moving = _moving(trace, part)
            if moving:
                why = "`requires_grad = False` on a module is a plain attribute"
                finding = _fake(part, moving, "error", why)
                place = model.fake_freeze_places.get(part) or moving[0].place
                yield replace(finding, where=where(place, part))
        for part, place in model.eval_parts.items():
            moving = [p for p in _moving(trace, part) if p.in_eval and not p.in_train]
            if moving and part not in model.fake_freezes:
                finding = _fake(part, moving, "warning", "`eval()` changes dropout and batch norm only")
                yield replace(finding, where=where(place, part))
    wrong = [p for p in trace.parameters if p.misspelt and p.requires_grad and p.optimizers and p.changed]
    if wrong:
        part = parts_of(wrong, trace.parameters)[0]
        why = f"`{wrong[0].misspelt}` is no attribute of a parameter that does anything: `requires_grad` is meant"
        yield replace(_fake(part, wrong, "error", why), where=where(wrong[0].misspelt_at, part))


def _moving(trace: Trace, part: str) -> list[ParameterTrace]:
    inside = [p for p in trace.parameters if p.name == part or p.name.startswith(f"{part}.")]
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


def pretrained_weights_not_loaded(trace: Trace) -> Iterator[Finding]:
    """A `load_state_dict` that brought nothing, or almost nothing."""
    if not trace.loads:
        raise NotCheckedError("no `load_state_dict` before training was seen")
    for load in trace.loads:
        brought = load.matched - load.own
        if not load.wanted or brought >= max(1, 0.5 * load.given):
            continue
        if load.given and brought / load.given >= 0.5:
            continue
        nothing = brought == 0
        renamed = load.example_given and load.example_wanted
        yield Finding(
            "pretrained-weights-not-loaded",
            "error" if nothing else "warning",
            f"`load_state_dict` brought {brought} of {load.wanted} tensors into the {load.model}",
            where(load.place, load.model),
            {"given": load.given, "matched": load.matched, "its_own": load.own, "wanted": load.wanted}
            | {"given_key": load.example_given, "wanted_key": load.example_wanted},
            f"the keys differ: `{load.example_given}` is given, `{load.example_wanted}` is wanted"
            if renamed
            else "what was loaded are the model's own values",
            "rename the keys (often a prefix such as `module.`), and load with `strict=True` or print what "
            "`load_state_dict` returns",
            verdict="proven",
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
        yield Finding(
            "regularisation-moves-frozen-weights",
            "warning",
            f"{listed(parts)} is moved by the {optimizer.kind} although {why}",
            where(optimizer.place, parts[0]),
            {
                "weight_decay": optimizer.weight_decay,
                "steps": max(p.moved_while_frozen or p.decayed_only for p in group),
            },
            "a gradient of zeros is not none: weight decay and momentum still act on it",
            "leave frozen parameters out of the optimizer, or clear with `zero_grad(set_to_none=True)`",
            verdict="proven",
        )
