"""Checks on losses and their targets."""

import ast
import re
from collections.abc import Iterator

from trivet.doctor.checks.common import NotCheckedError, where
from trivet.doctor.finding import Finding
from trivet.doctor.origins import value_at
from trivet.doctor.patches import (
    calls_at,
    first_of,
    name_called,
    replace_expression,
    without_call,
    without_layer,
)
from trivet.doctor.probe.losses import BINARY_LOSSES, CLASS_LOSSES
from trivet.doctor.source import Place, whole_statement
from trivet.doctor.trace import LossTrace, Trace


def _trained(trace: Trace) -> list[LossTrace]:
    losses = [loss for loss in trace.losses if loss.trained and loss.examined]
    if not losses:
        raise NotCheckedError("no loss function of torch.nn.functional was called in training")
    return losses


def probabilities_into_cross_entropy(trace: Trace) -> Iterator[Finding]:
    """Cross-entropy that is given probabilities in the place of logits."""
    yield from _sigmoid_into_cross_entropy(trace)
    for loss in _trained(trace):
        if loss.function in CLASS_LOSSES and loss.examined >= 2 and loss.probabilities == loss.examined:
            yield Finding(
                "probabilities-into-cross-entropy",
                "error",
                f"{loss.function} was given probabilities in all {loss.examined} calls: every row sums to 1",
                where(_squashed_at(loss, "Softmax"), loss.function),
                _range(loss),
                "softmax is applied twice, once by the model and once by the loss: gradients shrink and the loss "
                "cannot come near 0"
                if loss.function == "cross_entropy"
                else "it wants logarithms of probabilities, and has no minimum but -1 on probabilities",
                "give the loss the logits: leave the softmax out of the model while training"
                if loss.function == "cross_entropy"
                else "use `log_softmax` in the place of `softmax`, or `cross_entropy` on the logits",
                patch=_without(loss, "softmax", "Softmax", "softmax2d", "Softmax2d")
                if loss.function == "cross_entropy"
                else replace_expression(loss.produced_at, _as_logarithm),
                verdict="proven",
            )


def _sigmoid_into_cross_entropy(trace: Trace) -> Iterator[Finding]:
    """Cross-entropy over classes of values that a sigmoid made."""
    for loss in _trained(trace):
        within = loss.examined >= 3 and loss.input_min >= 0 and loss.input_max <= 1
        if loss.function == "cross_entropy" and within and loss.produced_by.startswith("Sigmoid"):
            yield Finding(
                "probabilities-into-cross-entropy",
                "error",
                f"cross_entropy was given values within 0-1, which a sigmoid made, in all {loss.examined} calls",
                where(_squashed_at(loss, "Sigmoid"), loss.function),
                _range(loss) | {"produced_by": loss.produced_by},
                "it applies softmax to what it gets: of values within 0-1 no class can be made likely",
                "give the loss the logits: leave out the sigmoid (for several labels a sample, use "
                "`binary_cross_entropy_with_logits`)",
                patch=_without(loss, "sigmoid", "Sigmoid"),
                verdict="proven",
            )


def _squashed_at(loss: LossTrace, *words: str) -> Place | None:
    """Where the operation is written that is one too many, if one made the loss's input; else the loss."""
    made = any(loss.produced_by.startswith(word) for word in words)
    return (loss.produced_at if made else None) or loss.place


def _without(loss: LossTrace, function: str, layer: str, *more: str) -> str | None:
    """The patch that leaves out a function or a layer, where the input of the loss is made or at the loss itself."""
    for place in (loss.produced_at, loss.place):
        patch = first_of(
            replace_expression(place, without_layer(layer, *more)),
            replace_expression(place, without_call(function)),
        )
        if patch is not None:
            return patch
    return None


def _as_logarithm(node: ast.expr) -> ast.expr | None:
    names = {"softmax": "log_softmax", "Softmax": "LogSoftmax"}
    if not isinstance(node, ast.Call) or name_called(node) not in names:
        return None
    if isinstance(node.func, ast.Attribute):
        node.func.attr = names[node.func.attr]
        return node
    return None


def sigmoid_before_bce_with_logits(trace: Trace) -> Iterator[Finding]:
    """Binary cross-entropy on logits that is given probabilities."""
    for loss in _trained(trace):
        squashed = loss.examined >= 3 and loss.squashed == loss.examined and loss.input_max > loss.input_min
        made = any(word in loss.produced_by for word in ("Sigmoid", "Softmax"))
        if loss.function == "binary_cross_entropy_with_logits" and squashed:
            yield Finding(
                "sigmoid-before-bce-with-logits",
                "error" if made else "warning",
                f"binary_cross_entropy_with_logits was given values within 0-1 in all {loss.examined} calls",
                where(_squashed_at(loss, "Sigmoid", "Softmax"), "binary_cross_entropy_with_logits"),
                _range(loss) | {"produced_by": loss.produced_by},
                "a sigmoid is applied twice: no output can say less than one half",
                "give the loss the logits, or use `binary_cross_entropy`",
                patch=_without(loss, "sigmoid", "Sigmoid"),
                verdict="proven" if made else "suspected",
            )


def loss_broadcast(trace: Trace) -> Iterator[Finding]:
    """A loss over all pairs of outputs and targets, made by broadcasting."""
    yield from _spread_by_hand(trace)
    for loss in _trained(trace):
        if loss.spread and loss.spread >= 0.5 * loss.examined:
            yield Finding(
                "loss-broadcast",
                "error",
                f"{loss.function} compares {_shape(loss.input_shape)} with {_shape(loss.target_shape)}: "
                "each output with every target",
                where(loss.place, loss.function),
                {"input_shape": loss.input_shape, "target_shape": loss.target_shape, "calls": loss.spread},
                "the shapes differ and broadcasting makes a larger tensor of both; the best answer is then the mean",
                "give both the same shape: `output.squeeze(1)` or `target.unsqueeze(1)`",
                patch=_squeezed(loss),
                verdict="proven",
            )


def _squeezed(loss: LossTrace) -> str | None:
    """Take the axis of length 1 from the side that has one more."""
    longer, shorter = sorted((loss.input_shape, loss.target_shape), key=len, reverse=True)
    if longer != [*shorter, 1]:
        return None
    side = 0 if longer == loss.input_shape else 1
    if len([call for call in calls_at(loss.place) if len(call.args) == 2]) != 1:
        return None

    def edit(node: ast.expr) -> ast.expr | None:
        if not isinstance(node, ast.Call) or len(node.args) != 2 or isinstance(node.args[side], ast.Starred):
            return None
        node.args[side] = ast.parse(f"({ast.unparse(node.args[side])}).squeeze(-1)", mode="eval").body
        return node

    return replace_expression(loss.place, edit)


def _spread_by_hand(trace: Trace) -> Iterator[Finding]:
    for outer in trace.data.outers:
        one, other = outer.shapes
        yield Finding(
            "loss-broadcast",
            "error",
            f"{_shape(one)} times {_shape(other)} make {_shape([max(one[0], other[0])] * 2)}, of which the loss is the mean: "
            "each sample is weighted by all weights alike",
            where(outer.place, "loss"),
            {"shapes": outer.shapes, "calls": outer.calls},
            "the shapes differ and broadcasting makes a larger tensor of both: a mean over it is the product of two means",
            "give both the same shape: `weights.squeeze(1)`",
            verdict="proven",
        )
    for spread in trace.data.spreads:
        if spread.calls < 2:
            continue
        n = spread.sizes[0]
        yield Finding(
            "loss-broadcast",
            "error",
            f"outputs {_shape(spread.output_shape)} less targets {_shape(spread.target_shape)} make "
            f"{_shape([n, n, *min(spread.output_shape, spread.target_shape, key=len)[1:]])}: "
            "each output with every target",
            where(spread.place, "loss"),
            {"output_shape": spread.output_shape, "target_shape": spread.target_shape, "calls": spread.calls},
            "the shapes differ and broadcasting makes a larger tensor of both; the best answer is then the mean",
            "give both the same shape: `output.squeeze(1)` or `target.unsqueeze(1)`",
            verdict="proven",
        )


def all_targets_ignored(trace: Trace) -> Iterator[Finding]:
    """Batches none of whose targets count."""
    for loss in _trained(trace):
        if loss.function in CLASS_LOSSES and loss.all_ignored:
            every = loss.all_ignored == loss.examined
            yield Finding(
                "all-targets-ignored",
                "error" if every or trace.backward.not_finite else "warning",
                f"all targets were ignored (= {loss.ignore_index}) in {loss.all_ignored} of {loss.examined} batches",
                where(_ignored_at(loss) or loss.place, loss.function),
                {"batches": loss.all_ignored, "examined": loss.examined, "ignore_index": loss.ignore_index},
                "a mean over no targets is NaN",
                "check what turns targets into the ignored value; skip batches without targets",
                verdict="proven",
            )


def _ignored_at(loss: LossTrace) -> Place | None:
    """Where the targets are made, if the ignored value is written there."""
    made = value_at(loss.place, argument=1)
    written = made is not None and re.search(rf"(?<![\w.]){loss.ignore_index}\b", whole_statement(made))
    return made if written else None


def label_out_of_range(trace: Trace) -> Iterator[Finding]:
    """Targets outside what the loss accepts."""
    for loss in trace.losses:
        if not loss.outside:
            continue
        binary = loss.function in BINARY_LOSSES
        wanted = "0-1" if binary else f"0-{(loss.classes or 1) - 1}"
        yield Finding(
            "label-out-of-range",
            "error",
            f"targets of {loss.function} reach from {loss.target_min:g} to {loss.target_max:g}; {wanted} is wanted",
            where(loss.place, loss.function),
            {"target_min": loss.target_min, "target_max": loss.target_max, "classes": loss.classes}
            | {"batches": loss.outside},
            "masks are read as 0-255" if binary and loss.target_max > 1 else "the labels do not count from 0",
            "divide masks by 255" if binary else "map the labels to 0..classes-1, or pass `ignore_index`",
            patch=None,
            verdict="proven",
        )


def _range(loss: LossTrace) -> dict[str, object]:
    return {
        "made_at": str(loss.produced_at) if loss.produced_at else None,
        "calls": loss.examined,
        "input_min": loss.input_min,
        "input_max": loss.input_max,
        "classes": loss.classes,
    }


def _shape(shape: list[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
