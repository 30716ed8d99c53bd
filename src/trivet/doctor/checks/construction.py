"""Checks on how a model is built: that its parts are its own, filled, and loaded."""

import ast
from collections.abc import Iterator

from trivet.doctor.checks.common import NotCheckedError, count_text, where
from trivet.doctor.finding import Finding
from trivet.doctor.patches import alias_of_nn, name_called, replace_expression, statement_at
from trivet.doctor.probe.survey import multiplies_a_list
from trivet.doctor.source import Place
from trivet.doctor.trace import LoadTrace, Trace
from trivet.doctor.trace_model import ParameterTrace, RepeatedModule

SECOND_TIME = "backward through the graph a second time"


def unregistered_module(trace: Trace) -> Iterator[Finding]:
    """Modules kept in a plain list or dict, or plain tensors, which `parameters()` does not find."""
    yield from _made_once(trace)
    hidden = [p for p in trace.parameters if not p.registered and p.requires_grad and p.with_nonzero >= 2]
    for holder in dict.fromkeys(p.hidden_in or "" for p in hidden):
        group = [p for p in hidden if (p.hidden_in or "") == holder]
        trained = all(p.optimizers or p.changed for p in group)
        attribute, tensor = holder.rpartition(".")[2], group[0].name == holder
        yield Finding(
            "unregistered-module",
            "note" if trained else "error",
            f"`{holder}` {'is a plain tensor' if tensor else 'holds modules in a plain list or dict'}: "
            f"{count_text(sum(p.count for p in group))} parameters are "
            f"{'not saved with the model' if trained else 'never trained'}",
            where(group[0].hidden_at or group[0].place, holder),
            {"parameters": sum(p.count for p in group), "tensors": len(group)}
            | {"modules": len({p.name.rsplit(".", 1)[0] for p in group if p.owner})},
            "a module registers only modules and parameters, not tensors that require a gradient"
            if tensor
            else "a module registers only modules, not python lists or dicts of them",
            f"make it a parameter: `self.{attribute} = nn.Parameter(...)`"
            if tensor
            else f"wrap it: `self.{attribute} = nn.ModuleList(...)` (or `nn.ModuleDict`)",
            patch=None if tensor else _wrapped(group[0].hidden_at, any(p.owner for p in group)),
            verdict="proven",
        )


def _made_once(trace: Trace) -> Iterator[Finding]:
    """An attribute that was computed from parameters once, when the model was built, and used in every step."""
    fault = trace.exception
    if fault is None or SECOND_TIME not in fault.message:
        return
    for model in trace.models:
        for holder, place in model.made_once.items():
            yield Finding(
                "unregistered-module",
                "error",
                f"`{holder}` is computed once, when the model is built: it is no parameter, and its graph is gone after "
                "the first backward",
                where(place, holder),
                {"exception": fault.kind, "raised_at": str(fault.places[0]) if fault.places else None},
                "an operation on an `nn.Parameter` gives a plain tensor, which the module does not register",
                "put the operation inside (`nn.Parameter(0.02 * torch.randn(...))`), or do it in the forward; "
                "`retain_graph=True` only silences the error",
                verdict="proven",
            )


def _wrapped(place: Place | None, modules: bool) -> str | None:
    """Wrap a list or dict of modules, or of parameters, where it is written as such."""
    nn = alias_of_nn(place.file) if place is not None else None
    statement = statement_at(place)
    if nn is None or not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return None

    def edit(node: ast.expr) -> ast.expr | None:
        if node.__class__ not in (ast.List, ast.ListComp, ast.Dict, ast.DictComp):
            return None
        kind = ("Module" if modules else "Parameter") + ("Dict" if "Dict" in type(node).__name__ else "List")
        empty = not getattr(node, "elts", True) or not getattr(node, "keys", True)
        return ast.parse(f"{nn}.{kind}({'' if empty else ast.unparse(node)})", mode="eval").body

    return replace_expression(place, edit)


def repeated_module(trace: Trace) -> Iterator[Finding]:
    """A container that holds one module several times."""
    for model in trace.models:
        for seen in model.repeated:
            if not seen.container_kind:
                yield _shared_norm(seen)
                continue
            multiplied = seen.place is not None and multiplies_a_list(seen.place.code)
            sure = multiplied or seen.shallow or seen.container_kind == "Sequential"
            yield Finding(
                "repeated-module",
                "warning" if sure else "note",
                f"`{seen.container}` holds "
                + (
                    f"{seen.times} shallow copies of one {seen.kind}"
                    if seen.shallow
                    else f"one {seen.kind} {seen.times} times"
                )
                + f": its {count_text(seen.parameters)} parameters are shared",
                where(seen.place, seen.container),
                {"times": seen.times, "parameters": seen.parameters, "list_multiplied": multiplied},
                "multiplying a list repeats the reference, not the module"
                if multiplied
                else "`copy.copy` makes a new shell around the same layers"
                if seen.shallow
                else "one object is reused",
                "copy with `copy.deepcopy`, or make a new one each time"
                if seen.shallow
                else f"make a new one each time: `[{seen.kind}(...) for _ in range({seen.times})]`",
                patch=replace_expression(seen.place, _made_anew) if multiplied else None,
                verdict="proven" if multiplied or seen.shallow else "suspected",
            )


def _shared_norm(seen: RepeatedModule) -> Finding:
    return Finding(
        "repeated-module",
        "warning",
        f"one {seen.kind} stands in {seen.times} places of `{seen.container}`: they share its weights and statistics",
        where(seen.place, seen.container),
        {"places": seen.times, "parameters": seen.parameters},
        "it was made once, outside of what makes its places (an argument's default value, say): its running mean and "
        "variance mix those of all places and fit none in eval mode",
        f"make a new {seen.kind} for each place",
        verdict="proven",
    )


def _made_anew(node: ast.expr) -> ast.expr | None:
    """`[f() for _ in range(n)]` in the place of `[f()] * n`."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult):
        return None
    items, times = (node.left, node.right) if isinstance(node.left, ast.List) else (node.right, node.left)
    if not isinstance(items, ast.List) or len(items.elts) != 1 or not isinstance(items.elts[0], ast.Call):
        return None
    text = f"[{ast.unparse(items.elts[0])} for _ in range({ast.unparse(times)})]"
    return ast.parse(text, mode="eval").body


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
                "fill it: small random numbers (`0.02 * torch.randn(...)`), `torch.ones` for a factor, or a function of "
                "`torch.nn.init`",
                patch=_initialised(p),
                verdict="proven" if p.poisoned else "suspected",
            )


def _initialised(p: ParameterTrace) -> str | None:
    def edit(node: ast.expr) -> ast.expr | None:
        if name_called(node) not in ("Tensor", "empty", "FloatTensor") or not isinstance(node, ast.Call):
            return None
        if any(isinstance(given, ast.List) for given in node.args):  # values are given
            return None
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else "torch"
        text = f"0.02 * {owner}.randn({', '.join(map(ast.unparse, [*node.args, *node.keywords]))})"
        return ast.parse(text, mode="eval").body

    return replace_expression(p.place, edit)


def _refilled(load: LoadTrace) -> Finding:
    return Finding(
        "pretrained-weights-not-loaded",
        "warning",
        f"{load.refilled} of {load.weights} weights that were loaded into the {load.model} are filled anew afterwards",
        where(load.place, load.model),
        {"weights": load.weights, "refilled": load.refilled, "refilled_at": str(load.refilled_at)},
        f"the initialisation at {load.refilled_at} comes after the loading, and overwrites it",
        "initialise first, then load; or initialise the new layers only",
        verdict="proven",
    )


def pretrained_weights_not_loaded(trace: Trace) -> Iterator[Finding]:
    """A `load_state_dict` that brought nothing, or almost nothing."""
    if not trace.loads:
        raise NotCheckedError("no `load_state_dict` before training was seen")
    for load in trace.loads:
        if load.refilled > 0.5 * load.weights and load.matched > load.own:
            yield _refilled(load)
            continue
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
