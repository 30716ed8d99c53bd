"""Checks on batch norm and on the input."""

import ast
import linecache
import math
from collections.abc import Iterator
from statistics import median

from trivet.doctor.checks.common import NotCheckedError, fed_at, samples_made_at, where
from trivet.doctor.finding import Finding, Severity
from trivet.doctor.patches import replace_keyword, statement_at
from trivet.doctor.source import Place, parsed
from trivet.doctor.trace import Trace
from trivet.doctor.trace_data import RangeTrace
from trivet.doctor.trace_model import BatchNormTrace

FEW_SAMPLES = 8
USUAL = 0.1


def batchnorm_momentum(trace: Trace) -> Iterator[Finding]:
    """Momentum with the meaning that other frameworks give it."""
    norms = _norms(trace)
    wrong = [
        n for n in norms if n.momentum is not None and (n.momentum > 0.5 or n.momentum == 0) and n.tracks
    ]
    for momentum in dict.fromkeys(n.momentum for n in wrong):
        group = [n for n in wrong if n.momentum == momentum]
        used = [n for n in group if n.calls_in_train]
        first = (used or group)[0]
        jitter = median([value for n in group for value in n.jitter[1:]] or [0.0])
        value = float(momentum or 0.0)
        severity: Severity = "note" if not used else "error" if value >= 0.9 and jitter > 0.05 else "warning"
        yield Finding(
            "batchnorm-momentum",
            severity,
            f"{len(group)} batch norms have momentum {value:g}: "
            + ("their statistics never move" if not value else f"{value:.4g} of them is the last batch alone")
            + ("" if used else " (dormant: they run in eval mode)"),
            where(_written(first), first.name),
            {"momentum": value, "eps": first.eps, "layers": len(group), "jitter": jitter},
            "in PyTorch momentum is the weight of the new batch; other frameworks mean the weight of the old value",
            f"use momentum={round(1 - value, 6):g}" if value else "use the default 0.1",
            patch=_patched(first, value),
            verdict="proven" if used else "suspected",
        )


def _written(norm: BatchNormTrace) -> Place | None:
    """Where an unusual momentum is written: where the layer is made, or, by a factory, the only place of the number."""
    place, value = norm.place, norm.momentum
    if place is None or value is None or value == USUAL:
        return place
    statement = statement_at(place)
    if statement is None or "BatchNorm" in ast.unparse(statement) or _numbers(statement, value):
        return place
    lines = _numbers(parsed(place.file), value)
    return (
        Place(place.file, lines[0], linecache.getline(place.file, lines[0]).strip())
        if len(lines) == 1
        else place
    )


def _numbers(tree: ast.AST | None, value: float) -> list[int]:
    """The lines of a tree that hold a number, or one less it (as in `1 - 0.9997`)."""
    numbers = [
        (node.value, node.lineno)
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    return [line for number, line in numbers if math.isclose(number, value)] or [
        line for number, line in numbers if math.isclose(1 - number, value)
    ]


def _patched(norm: BatchNormTrace, value: float) -> str | None:
    """Another momentum, where it is written as a number in the line that makes the layer."""
    return replace_keyword(norm.place, "momentum", value, f"{round(1 - value, 6):g}" if value else "0.1")


def batchnorm_stats_stale(trace: Trace) -> Iterator[Finding]:
    """Running statistics that are used, but are still those that a new layer has."""
    copies = [model for model in trace.models if model.new_norms]
    names = tuple(f"{model.name}." for model in copies)
    norms = [n for n in _norms(trace) if n.tracks and not n.name.startswith(names)]
    for model in copies:
        yield Finding(
            "batchnorm-stats-stale",
            "error",
            f"{model.new_norms} batch norms of `{model.name}` have the mean 0 and variance 1 of new layers, though "
            "its weights follow those that are trained",
            where(model.follows_at or model.evaluation_place or model.place, model.name),
            {"layers": model.new_norms, "evaluations": model.evaluations_in_eval},
            "only the weights are averaged or copied into it: the running statistics are buffers",
            "copy the buffers too (`AveragedModel(model, use_buffers=True)`), or recompute them before evaluating "
            "(`torch.optim.swa_utils.update_bn`)",
            verdict="proven",
        )
    frozen = [
        n
        for n in norms
        if n.initial
        and not n.batches
        and not n.calls_in_train
        and n.calls_in_eval >= 3
        and _is_trained(n, trace)
    ]
    if frozen and trace.steps >= 3:
        yield _stale(
            frozen,
            f"{len(frozen)} batch norms ran in eval mode only, with the mean 0 and variance 1 of new layers",
            "they never saw a batch in train mode: nothing is normalised",
            "leave them in train mode when training from scratch, or load the statistics with the weights",
            "warning",  # which statistics a pretrained part came with is its author's business
        )
    slow = [n for n in norms if n.kept_share > 0.5 and n.drift > 0.2 and n.batches >= 20]
    if slow:
        share = median([n.kept_share for n in slow])
        yield _stale(
            slow,
            f"{share:.0%} of the running statistics of {len(slow)} batch norms were still those of a new layer when "
            f"used: momentum {slow[0].momentum:g} over {slow[0].batches} batches",
            f"they lie {median([n.drift for n in slow]):.2g} standard deviations from those of the batches",
            "use momentum 0.1, train longer, or recompute them before evaluating (`torch.optim.swa_utils.update_bn`)",
        )


def _is_trained(norm: BatchNormTrace, trace: Trace) -> bool:
    """Whether weights beside or around the layer are trained: a frozen extractor is what it was given as."""
    around = norm.name.rpartition(".")[0]
    held = [
        p for p in trace.parameters if p.name.startswith(f"{norm.name}.") or p.name.startswith(f"{around}.")
    ]
    return any(p.requires_grad and p.optimizers and p.with_nonzero for p in held)


def _stale(
    norms: list[BatchNormTrace], title: str, cause: str, remedy: str, severity: Severity = "error"
) -> Finding:
    first = norms[0]
    return Finding(
        "batchnorm-stats-stale",
        severity,
        title,
        where((None if first.calls_in_train else first.eval_place) or _written(first), first.name),
        {
            "layers": len(norms),
            "batches": first.batches,
            "kept_share": first.kept_share,
            "drift": first.drift,
        },
        cause,
        remedy,
        verdict="proven",
    )


def batchnorm_few_samples(trace: Trace) -> Iterator[Finding]:
    """Batch norm over so few values that its statistics are noise."""
    few = [n for n in _norms(trace) if n.samples and median(n.samples) < FEW_SAMPLES]
    if few:
        worst = min(few, key=lambda n: median(n.samples))
        count = int(median(worst.samples))
        yield Finding(
            "batchnorm-few-samples",
            "error" if count <= 1 else "warning",
            f"`{worst.name}` normalises over {count} values a channel ({len(few)} such layers)",
            where(worst.place, worst.name),
            {"samples": count, "layers": len(few), "batch": int(median(worst.batch_sizes or [0]))},
            "mean and variance of so few values are mostly chance, and differ from the running ones used in eval",
            "use a larger batch, GroupNorm, or batch norm with fixed statistics; accumulating gradients does not help",
            verdict="proven",
        )


def input_not_normalised(trace: Trace) -> Iterator[Finding]:
    """Inputs far from zero mean and unit scale."""
    if not trace.inputs:
        raise NotCheckedError("no input of a model was seen")
    yield from _scaled_otherwise(trace)
    for given in trace.inputs:
        if given.kind == "norm" or not _large(given.mean, given.std, given.low, given.high):
            continue
        yield Finding(
            "input-not-normalised",
            "note" if given.normalised_next else "warning",
            f"the input of `{given.model}` reaches from {given.low:.3g} to {given.high:.3g} "
            f"(mean {given.mean:.3g}, standard deviation {given.std:.3g})",
            where(samples_made_at(trace) or fed_at(trace, given.model) or given.place, given.model),
            {
                "mean": given.mean,
                "std": given.std,
                "low": given.low,
                "high": given.high,
                "layer": given.layer,
            },
            "pixels of 0-255 are fed as they are"
            if 100 < given.high <= 255 and given.low >= 0
            else "it is not scaled",
            "subtract the mean and divide by the standard deviation of the training images",
            verdict="proven",
        )


def _scaled_otherwise(trace: Trace) -> Iterator[Finding]:
    """Pictures of evaluation that were normalised in another way than those of training."""
    for seen in trace.data.scales:
        trained, evaluated = seen.trained, seen.evaluated
        if min(trained.samples, evaluated.samples) < 32 or not min(trained.std, evaluated.std) > 0:
            continue
        ratio = max(trained.std, evaluated.std) / min(trained.std, evaluated.std)
        apart = abs(trained.mean - evaluated.mean) > 0.75 * max(trained.std, evaluated.std)
        if _units(trained) != _units(evaluated) and (ratio > 1.8 or apart):
            yield Finding(
                "input-not-normalised",
                "warning",
                f"`{seen.model}` is trained on pictures with mean {trained.mean:.3g} and standard deviation "
                f"{trained.std:.3g}, and evaluated on such with mean {evaluated.mean:.3g} and {evaluated.std:.3g}",
                where(seen.place, seen.model),
                {"trained": [trained.low, trained.high], "evaluated": [evaluated.low, evaluated.high]},
                "the transforms of training and of evaluation do not scale alike: the score is that of another task",
                "give both the same scaling: the same division and the same `Normalize(mean, std)`",
                verdict="proven",
            )


def _units(values: RangeTrace) -> str:
    if values.low < 0 or values.high > 255:
        return "normalised"
    return "0 to 1" if values.high <= 1 else "0 to 255" if values.high > 2 else "other"


def _large(mean: float, std: float, low: float, high: float) -> bool:
    return max(abs(low), abs(high)) > 20 and (std > 10 or abs(mean) > 10)


def _norms(trace: Trace) -> list[BatchNormTrace]:
    if not trace.batch_norms:
        raise NotCheckedError("no batch norm was seen")
    return trace.batch_norms
