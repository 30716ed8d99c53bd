"""Checks of whether masks belong to their images: their edges against the images', and against other images'."""

import numpy as np

from trivet.data.audit_context import MOST_EXAMPLES, AuditContext, counted
from trivet.doctor.finding import Finding, Where

LEAST_IMAGES = 8
"""With fewer, chance alone can put every mask right."""
PERMUTATIONS = 999
SIGNIFICANT = 0.05
LEAST_GAIN = 0.1
"""A mask is called another image's when its edges correlate with that one's by this much more than with its own's."""


def misaligned_masks(context: AuditContext) -> list[Finding]:
    """Masks whose edges fit the images no better than shuffled, and single masks that fit another image."""
    findings = []
    for split, survey in zip(context.splits.given, context.surveys or (), strict=False):
        fit = survey.image_edges @ survey.mask_edges.T
        if len(fit) < LEAST_IMAGES:
            continue
        p_value = permutation_p(fit)
        if p_value > SIGNIFICANT:
            findings.append(_all_misaligned(split.split, fit, p_value))
            continue
        findings += _exchanged(split.split, [split.name(int(i)) for i in survey.looked_at], fit)
    return findings


def permutation_p(fit: np.ndarray, *, permutations: int = PERMUTATIONS) -> float:
    """Return the share (0-1) of shuffled pairings that fit at least as well as the given one.

    Args:
        fit: float `[n, n]`, how well the edges of mask j fit those of image i.
        permutations: How many are drawn; the given one counts as one more.
    """
    rng, rows = np.random.default_rng(0), np.arange(len(fit))
    own = float(fit.diagonal().mean())
    shuffled = np.array([fit[rows, rng.permutation(rows)].mean() for _ in range(permutations)])
    return float((1 + (shuffled >= own).sum()) / (1 + permutations))


def _all_misaligned(split: str, fit: np.ndarray, p_value: float) -> Finding:
    own, others = float(fit.diagonal().mean()), _mean_of_others(fit)
    return Finding(
        name="masks-misaligned",
        severity="error",
        title=f"the masks of {split} fit their images no better than those of other images",
        evidence={"own": own, "others": others, "p": p_value, "images": len(fit), "split": split},
        cause=f"Mask edges correlate {own:.3f} with their own image's edges and {others:.3f} with other images'.",
        remedy="Look at overlays: most likely masks were sorted otherwise than images, mirrored, cropped or resized.",
        verdict="confirmed",
    )


def _exchanged(split: str, names: list[str], fit: np.ndarray) -> list[Finding]:
    best_mask, best_image = fit.argmax(axis=1), fit.argmax(axis=0)
    own = fit.diagonal()
    gain = fit[np.arange(len(fit)), best_mask] - own
    mutual = best_image[best_mask] == np.arange(len(fit))
    # A neighbouring frame's mask fits nearly as well; one that fits its own image too was not exchanged.
    taken = fit[np.arange(len(fit)), best_mask] - own[best_mask] >= LEAST_GAIN
    wrong = np.flatnonzero((gain >= LEAST_GAIN) & mutual & taken)
    if not len(wrong):
        return []
    examples = [
        f"{names[i]}: its mask fits less ({own[i]:.2f}) than that of {names[best_mask[i]]} ({own[i] + gain[i]:.2f})"
        for i in wrong
    ]
    return [
        Finding(
            name="mask-of-another-image",
            severity="warning",
            title=f"{counted(len(wrong), 'image')} of {split} {'seems' if len(wrong) == 1 else 'seem'} to have another image's mask",
            where=Where(file=names[int(wrong[0])]),
            evidence={"images": len(wrong), "split": split, "examples": examples[:MOST_EXAMPLES]},
            cause="Edges of the mask lie where another image has edges, and that image's mask does not fit it.",
            remedy="Look at these images with their masks; exchange the files or take them out.",
        )
    ]


def _mean_of_others(fit: np.ndarray) -> float:
    count = len(fit)
    return float((fit.sum() - fit.diagonal().sum()) / max(count * (count - 1), 1))
