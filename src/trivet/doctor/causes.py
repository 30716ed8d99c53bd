"""Which findings are consequences of which: one fault leads, the rest is listed under it."""

from dataclasses import replace

from trivet.doctor.finding import Finding, by_importance

CAUSES: dict[str, tuple[str, ...]] = {
    "inplace-on-saved-tensor": ("script-failed",),
    "loss-detached": (
        "plateau",
        "script-failed",
        "parameter-without-gradient",
        "parameter-never-changes",
        "missing-zero-grad",
    ),
    "foreign-parameter-in-optimizer": (
        "parameter-not-in-optimizer",
        "parameter-without-gradient",
        "missing-zero-grad",
    ),
    "unregistered-module": ("parameter-not-in-optimizer", "script-failed"),
    "parameter-never-changes": ("parameter-not-in-optimizer", "loss-detached", "missing-zero-grad"),
    "label-out-of-range": ("script-failed", "non-finite", "exploding-gradient"),
    "all-targets-ignored": ("non-finite",),
    "uninitialised-parameter": ("non-finite", "exploding-gradient", "vanishing-gradient"),
    "input-not-normalised": ("exploding-gradient", "non-finite", "dead-relu", "lr-too-high"),
    "exploding-gradient": (
        "non-finite",
        "lr-too-high",
        "lr-too-low",
        "regularisation-moves-frozen-weights",
        "dead-relu",
        "plateau",
    ),
    "non-finite": ("regularisation-moves-frozen-weights", "parameter-never-changes", "dead-relu"),
    "lr-too-high": (
        "exploding-gradient",
        "non-finite",
        "dead-relu",
        "signal-collapse",
        "vanishing-gradient",
        "plateau",
    ),
    "dead-relu": (
        "vanishing-gradient",
        "signal-collapse",
        "parameter-never-changes",
        "regularisation-moves-frozen-weights",
        "lr-too-low",
        "plateau",
    ),
    "signal-collapse": ("vanishing-gradient", "lr-too-low", "plateau"),
    "lr-too-low": ("plateau", "signal-collapse"),
    "graph-retained": ("host-memory-growth", "inplace-on-saved-tensor", "script-failed"),
    "trains-in-eval-mode": ("batchnorm-stats-stale", "overfitting", "plateau"),
    "batchnorm-stats-stale": (
        "signal-collapse",
        "lr-too-low",
        "overfitting",
        "plateau",
    ),
    "batchnorm-momentum": ("batchnorm-stats-stale", "overfitting"),
    "validates-in-train-mode": ("overfitting",),
    "random-in-eval": ("overfitting",),
    "parameter-not-in-optimizer": ("lr-too-low", "plateau"),
    "parameter-without-gradient": ("lr-too-low", "plateau"),
    "scheduler-collapses-lr": ("lr-too-low", "plateau"),
    "scheduler-never-steps": ("lr-too-low", "plateau"),
    "vanishing-gradient": ("parameter-never-changes", "lr-too-low", "plateau"),
    "clip-before-unscale": ("vanishing-gradient", "lr-too-low", "plateau"),
    "missing-zero-grad": ("exploding-gradient", "non-finite", "lr-too-high"),
    "batchnorm-few-samples": ("script-failed",),
    "samples-mixed": ("plateau", "lr-too-low", "signal-collapse", "overfitting"),
    "targets-misaligned": ("plateau", "majority-class-collapse", "lr-too-low", "overfitting"),
    "box-format": ("degenerate-boxes", "script-failed", "plateau", "lr-too-low"),
    "degenerate-boxes": ("non-finite", "script-failed", "exploding-gradient", "lr-too-high"),
    "majority-class-collapse": ("class-imbalance", "plateau", "lr-too-low"),
    "class-imbalance": ("plateau",),
    "input-normalised-twice": ("plateau", "lr-too-low", "vanishing-gradient", "exploding-gradient"),
    "data-order-repeats": ("plateau", "lr-too-low", "majority-class-collapse"),
    "loss-broadcast": ("plateau", "lr-too-low"),
    "fake-freeze": ("frozen-part-changes",),
    "probabilities-into-cross-entropy": (
        "vanishing-gradient",
        "lr-too-low",
        "plateau",
        "majority-class-collapse",
    ),
    "sigmoid-before-bce-with-logits": (
        "vanishing-gradient",
        "lr-too-low",
        "plateau",
        "majority-class-collapse",
    ),
}
"""Name of a cause -> names of what follows from it, most direct first."""


RAISED = ("input-not-normalised", "batchnorm-stats-stale")
"""Warnings about what often does no harm: what follows shows that it did."""


def _is_raised(finding: Finding) -> bool:
    return finding.name in RAISED and finding.severity == "warning"


def lead(findings: list[Finding]) -> list[Finding]:
    """Fold consequences into their causes (`evidence["consequences"]`), most important first.

    A warning is not made the cause of an error, nor a note that of a warning, but for those of `RAISED`, which are as
    grave as what follows from them.
    """
    rank = {"error": 0, "warning": 1, "note": 2}
    under: dict[int, int] = {}
    for i, cause in enumerate(findings):
        for j, other in enumerate(findings):
            graver = rank[cause.severity] <= rank[other.severity]
            follows = other.name in CAUSES.get(cause.name, ()) and (graver or _is_raised(cause))
            if follows and j not in under and i != j and under.get(i) != j:
                under[j] = i
    leading = []
    for i, finding in enumerate(findings):
        if i in under:
            continue
        below = [findings[j] for j in under if _root(j, under) == i]
        if below:
            told = [{"name": item.name, "title": item.title} for item in below]
            finding = replace(finding, evidence={**finding.evidence, "consequences": told})
            if _is_raised(finding):
                finding = replace(
                    finding, severity=min(finding, *below, key=lambda f: rank[f.severity]).severity
                )
        leading.append(finding)
    return by_importance(leading)


def _root(index: int, under: dict[int, int]) -> int:
    while index in under:
        index = under[index]
    return index
