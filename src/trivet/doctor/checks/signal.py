"""Checks on activations and on random draws."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from trivet.doctor.checks.common import NotCheckedError, falls, need_steps, where
from trivet.doctor.checks.gradients import IN_PLACE, vanishing_gradient
from trivet.doctor.finding import Finding
from trivet.doctor.patches import name_called, replace_expression, statement_at
from trivet.doctor.signals import LayerTrace
from trivet.doctor.source import Place
from trivet.doctor.trace import Trace

DEAD, MOSTLY = 0.95, 0.8
SATURATING = 3
AGAIN = "backward through the graph a second time"
PURE = 0.85
"""Mean share of one class in a batch above which samples are not drawn at random."""
CLASSIFYING = {"cross_entropy", "nll_loss"}
COLLAPSED = 1e-2
"""Share of the first layer's diversity that the last one must keep."""
CHUNKS = 4
"""Backward passes of a step from which on it goes through parts of something long."""
FADED = 1e-3
"""Share of the size of the first layer's outputs that those of the last but one must have in a new network."""


def dead_relu(trace: Trace) -> Iterator[Finding]:
    """Layers whose ReLU is zero for every sample."""
    if not trace.relus:
        raise NotCheckedError("no ReLU was seen in training")
    need_steps(trace, 10)
    stuck = not falls(trace)
    dead = [r for r in trace.relus if r.steps >= 5 and r.units >= 4 and r.silent >= DEAD * r.units]
    if not dead:
        dead = [
            r for r in trace.relus if stuck and r.steps >= 5 and r.units >= 8 and r.silent >= MOSTLY * r.units
        ]
    if not dead:
        return
    first = dead[0]
    yield Finding(
        "dead-relu",
        "error" if stuck and first.silent >= DEAD * first.units else "warning",
        f"{first.silent} of {first.units} units behind `{first.name}` are zero for every sample",
        where(first.place, first.name),
        {"silent": first.silent, "units": first.units, "silent_at_first": first.silent_first}
        | {"layers": [r.name for r in dead], "loss_falls": not stuck},
        "their inputs are always negative, so that neither value nor gradient passes"
        + (
            " from the first step on"
            if first.silent_first >= MOSTLY * first.units
            else ": the training killed them"
        ),
        "start with biases at 0 and Kaiming weights"
        if first.silent_first >= MOSTLY * first.units
        else "lower the learning rate (warm it up), normalise before the ReLU, or use LeakyReLU",
        verdict="proven",
    )


def signal_collapse(trace: Trace) -> Iterator[Finding]:
    """Outputs that no longer depend on the sample, though the first layer's do."""
    need_steps(trace, 10)
    stepping = [optimizer for optimizer in trace.optimizers if optimizer.steps]
    if len(stepping) != 1:
        raise NotCheckedError("several optimizers step: the loss of one model does not tell")
    if falls(trace):
        return
    if trace.backward.squashing >= SATURATING and any(vanishing_gradient(trace)):
        return  # what saturates shrinks the gradient more than the signal: that check says so
    for model in trace.models:
        layers = [layer for layer in trace.layers if layer.model == model.name and len(layer.diversity) >= 3]
        if len(layers) < 4:
            continue
        kept = [median(layer.diversity[len(layer.diversity) // 2 :]) for layer in layers]
        faded = _faded(trace, model.name, layers)
        if faded is not None:
            yield faded
            continue
        start = max(kept[:2])
        begun = [layer.diversity[0] for layer in layers]
        if start <= 0.02 or kept[-1] > COLLAPSED * start or not layers[-1].scale[-1]:
            continue
        low = next(i for i, value in enumerate(kept) if value <= 0.1 * start)
        yield Finding(
            "signal-collapse",
            "error",
            f"the outputs of `{model.name}` hardly depend on the sample: they vary by {kept[-1]:.1e} of their "
            f"size, those of the first layer by {start:.2g}",
            where(layers[low].place, layers[low].name),
            {"first": start, "last": kept[-1], "at_the_start": begun[-1], "layers": len(layers)},
            "each layer shrinks what differs between samples, and the biases remain",
            "initialise for the activation (`nn.init.kaiming_normal_`), or add normalisation or skip connections",
            verdict="proven",
        )


def _faded(trace: Trace, model: str, layers: list[LayerTrace]) -> Finding | None:
    """The outputs of a new network get smaller from layer to layer, until hardly anything is left."""
    first, last = layers[0].scale[0], layers[-2].scale[0]  # the very last one may be made to begin at 0
    if not 0 < last <= FADED * first:
        return None
    falling = [b.scale[0] / a.scale[0] for a, b in pairwise(layers[:-1]) if a.scale[0]]
    at = 1 + min(range(len(falling)), key=falling.__getitem__)
    weight = next((p for p in trace.parameters if p.name == f"{layers[at].name}.weight"), None)
    made = (weight.drawn or weight.filled) if weight is not None else None
    if made is None or "_(" not in made.code:
        return None  # torch's own draw, or that of a library's model, whose authors chose it
    return Finding(
        "signal-collapse",
        "error",
        f"the outputs of `{model}` have faded: those of its first layer are of size {first:.1e}, those of "
        f"`{layers[-2].name}` {last:.1e} in the new network",
        where(made, layers[at].name),
        {"first": first, "last": last, "layers": len(layers), "shrinks": median(falling)},
        f"the initial weights are too small: each layer makes of its input {median(falling):.2g} of its size, and "
        "gradients shrink with it",
        "initialise for the activation (`nn.init.kaiming_normal_`), or add normalisation or skip connections",
        verdict="proven",
    )


def random_in_eval(trace: Trace) -> Iterator[Finding]:
    """Dropout that acts although the model is in eval mode."""
    yield from _noise_in_eval(trace)
    for seen in trace.random:
        if seen.noise and not seen.attribute and (not seen.mask or seen.averaged):
            continue
        trained = any(m.name == seen.model and m.trained for m in trace.models) or not seen.model
        if not trained:
            continue
        yield Finding(
            "random-in-eval",
            "note" if seen.asked else "error",
            f"{'a random mask' if seen.mask else 'noise' if seen.noise else 'dropout'} acts while `{seen.model or 'the model'}` is in eval mode "
            f"({seen.calls} times)",
            where(seen.place, seen.model or None),
            {"calls": seen.calls, "function": seen.function, "made_in_forward": seen.unregistered},
            f"`{seen.attribute}` is a plain list or dictionary: what is in it is no part of the model, and stays in train mode"
            if seen.attribute
            else "the forward makes a new `nn.Dropout`, which is always in train mode"
            if seen.unregistered
            else f"`{seen.function}` does not know the mode of the module that calls it",
            f"register it: `self.{seen.attribute} = nn.ModuleList([...])`"
            if seen.attribute
            else "make the layer in `__init__` (`self.drop = nn.Dropout(p)`)"
            if seen.unregistered
            else "draw it `if self.training` only (`stochastic_depth(..., training=self.training)`)"
            if seen.mask
            else "pass `dropout_p=p if self.training else 0.0`"
            if seen.function.startswith("scaled")
            else "pass `training=self.training`, or use an `nn.Dropout` made in `__init__`",
            patch=None
            if seen.unregistered or seen.asked or seen.mask
            else replace_expression(seen.place, _knowing_the_mode),
            verdict="proven",
        )


def _noise_in_eval(trace: Trace) -> Iterator[Finding]:
    """Noise that a classifier adds in training, and in eval mode as well."""
    used = {loss.function for loss in trace.losses if loss.trained}
    if not used or not used <= CLASSIFYING:
        return  # what models generate, or mask, is drawn on purpose
    for seen in trace.random:
        if (
            not seen.noise
            or seen.mask
            or seen.attribute
            or seen.averaged
            or not any(m.name == seen.model and m.trained for m in trace.models)
        ):
            continue
        yield Finding(
            "random-in-eval",
            "warning",
            f"`{seen.function}` draws noise while `{seen.model}` is in eval mode ({seen.calls} times)",
            where(seen.place, seen.model),
            {"calls": seen.calls, "function": seen.function},
            "the noise that is added in training is added whatever the mode of the module",
            "add it `if self.training` only",
            verdict="proven",
        )


def _knowing_the_mode(node: ast.expr) -> ast.expr | None:
    """`F.dropout(x, p, training=self.training)`."""
    if "dropout" not in name_called(node) or not isinstance(node, ast.Call) or len(node.args) > 2:
        return None
    if any(keyword.arg == "training" for keyword in node.keywords):
        return None
    node.keywords.append(ast.keyword("training", ast.parse("self.training", mode="eval").body))
    return node


def data_order_repeats(trace: Trace) -> Iterator[Finding]:
    """A random order of the samples that is the same in every epoch."""
    yield from _class_by_class(trace)
    if not trace.orders:
        raise NotCheckedError("no random order was drawn in training")
    for seen in trace.orders:
        once = seen.draws >= 3 and seen.different == 1
        ahead = seen.draws >= 5 and seen.different == 2  # loaders that read ahead draw the next order, too
        if once or ahead:
            yield Finding(
                "data-order-repeats",
                "warning",
                f"the random order of {seen.size} samples was the same in every epoch",
                where(seen.seeded_at or seen.place),
                {
                    "samples": seen.size,
                    "draws": seen.draws,
                    "different": seen.different,
                    "function": seen.function,
                },
                "the generator is seeded with the same number before every epoch, or the sampler is not told the epoch",
                "seed once before training; with a `DistributedSampler` call `sampler.set_epoch(epoch)` every epoch",
                verdict="proven",
            )


def _class_by_class(trace: Trace) -> Iterator[Finding]:
    """Batches of one class each, though there are several: the samples come as a sorted list has them."""
    for seen in trace.data.classes:
        total = sum(seen.counts)
        used = sum(n > 0.02 * total for n in seen.counts)
        if seen.batches < 12 or used < 3 or max(seen.counts) > 0.6 * total or seen.purity < PURE:
            continue
        loader = trace.data.loaders[0] if len(trace.data.loaders) == 1 else None
        yield Finding(
            "data-order-repeats",
            "warning",
            f"the samples come class by class: {seen.purity:.0%} of a batch are of one of {used} classes",
            where(loader.place if loader else seen.place, "data"),
            {"purity": seen.purity, "batches": seen.batches, "classes": used},
            "the data is sorted by class, as folders list it, and is read in that order: each step pulls towards one class",
            "shuffle the training data: `DataLoader(..., shuffle=True)`",
            verdict="proven",
        )


def graph_retained(trace: Trace) -> Iterator[Finding]:
    """Graphs of the losses of earlier steps that stay alive, or are to be gone through once more."""
    if trace.exception is not None and _is_stale(trace):
        yield _stale_graph(trace)
        return
    yield from _growing_graph(trace)
    yield from _growing_within_steps(trace)
    kept = trace.backward.kept
    if kept.planted < 20:
        raise NotCheckedError(f"{kept.planted} graphs of losses were seen, 20 are needed")
    if kept.most < 15:
        return
    yield Finding(
        "graph-retained",
        "error",
        f"the graphs of {kept.most} earlier steps are kept in memory"
        + (f" by `{kept.name}`" if kept.name else ""),
        where(kept.place, kept.name or None),
        {"graphs": kept.most, "statement": kept.place.code if kept.place else None},
        "a loss is summed up or stored with the graph that made it, so that memory grows with every step",
        "store `loss.item()` or `loss.detach()`",
        patch=_as_number(kept.place),
        verdict="proven",
    )


def _is_stale(trace: Trace) -> bool:
    """Whether a backward failed on a graph that leads into operations of an earlier step."""
    message, backward = trace.exception.message if trace.exception else "", trace.backward
    failed = AGAIN in message or (IN_PLACE in message and backward.overtaken is None)
    return failed and backward.stale > 0 and backward.stale_step == trace.steps


def _stale_graph(trace: Trace) -> Finding:
    backward, fault = trace.backward, trace.exception
    freed = fault is not None and AGAIN in fault.message
    return Finding(
        "graph-retained",
        "error",
        f"the loss of step {trace.steps + 1} leads into {backward.stale} operations of the steps before, "
        + ("whose graph is gone" if freed else "whose weights have been updated since"),
        where(backward.stale_place or backward.place, "loss"),
        {"operations": backward.stale, "step": trace.steps, "backward": str(backward.place)},
        "something that is carried from step to step (a hidden state, a running mean, a generated batch) or was "
        "computed once before the loop keeps the graph that made it",
        "detach what is carried over (`state = state.detach()`) before the next step, and compute what needs a gradient "
        "anew in each; `retain_graph=True` hides the first error and does not mend it",
        verdict="proven",
    )


def _growing_graph(trace: Trace) -> Iterator[Finding]:
    """A loss whose graph reaches back into all steps before, as that of a state that is carried on."""
    largest: dict[int, int] = {}
    for step, size in trace.backward.sizes:
        largest[step] = max(largest.get(step, 0), size)
    sizes = [largest[step] for step in sorted(largest)]
    if len(largest) == 1:  # the weights are updated by hand: there are no steps
        sizes = [size for _, size in trace.backward.sizes]
    grows = all(b > a for a, b in pairwise(sizes))
    middle = sizes[len(sizes) // 2] if sizes else 0
    if (
        len(sizes) < 8
        or not grows
        or sizes[-1] < 3 * sizes[0]
        or sizes[-1] - middle < 0.6 * (middle - sizes[0])
    ):
        return
    yield Finding(
        "graph-retained",
        "error",
        f"the graph of the loss grows with every step: from {sizes[0]} to {sizes[-1]} operations",
        where(trace.backward.stale_place or trace.backward.place, "loss"),
        {"first": sizes[0], "last": sizes[-1], "looked_at": len(sizes)},
        "something that is carried from step to step (a hidden state, a running mean) keeps the graph that made it, so "
        "that every backward goes through all steps before",
        "detach what is carried over (`state = state.detach()`) before the next step; `retain_graph=True` hides the "
        "error and does not mend it",
        verdict="proven",
    )


def _growing_within_steps(trace: Trace) -> Iterator[Finding]:
    """Backward passes of one step each of which goes through all those before it, as of chunks of a long sequence."""
    steps: dict[int, list[int]] = {}
    reached: dict[int, set[int]] = {}
    for (step, size), leaves in zip(trace.backward.sizes, trace.backward.leaves, strict=False):
        steps.setdefault(step, []).append(size)
        reached.setdefault(step, set()).add(leaves)
    if any(
        len(counts) > 1 for counts in reached.values()
    ):  # outputs of ever deeper layers, not the same ones again
        return
    long = [sizes for sizes in steps.values() if len(sizes) >= CHUNKS]
    growing = [sizes for sizes in long if all(b - a >= 0.5 * sizes[0] for a, b in pairwise(sizes))]
    if len(growing) < 2 or len(growing) < len(long):
        return
    first, last = growing[0][0], growing[0][-1]
    yield Finding(
        "graph-retained",
        "error",
        f"each backward of a step goes through those before it again: {first} operations in the first, {last} in the "
        f"last of {len(growing[0])}",
        where(trace.backward.place, "loss"),
        {"first": first, "last": last, "passes": len(growing[0]), "steps": len(growing)},
        "what is carried on from part to part (a hidden state) keeps the graph that made it; `retain_graph=True` lets it "
        "be gone through again and again, which takes time and memory and counts the first parts several times",
        "detach what is carried on (`state = state.detach()`) before the next part, and leave out `retain_graph=True`",
        verdict="proven",
    )


def _as_number(place: Place | None) -> str | None:
    """`total += loss.item()`, `losses.append(loss.item())`: where one plain value is added."""
    statement = statement_at(place)
    if isinstance(statement, ast.AugAssign):
        value = statement.value
    elif (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Call)
        and len(statement.value.args) == 1
    ):
        value = statement.value.args[0]
    else:
        return None
    if not isinstance(value, (ast.Name, ast.Attribute, ast.BinOp)):
        return None
    whole = ast.unparse(value)

    def edit(node: ast.expr) -> ast.expr | None:
        same = isinstance(node, type(value)) and ast.unparse(node) == whole
        stored = isinstance(getattr(node, "ctx", None), ast.Store)
        return ast.parse(f"({whole}).item()", mode="eval").body if same and not stored else None

    return replace_expression(place, edit)
