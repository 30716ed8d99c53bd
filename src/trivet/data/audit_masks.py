"""Checks of what masks hold: classes without pixels, rare ones, pixels without a label."""

import numpy as np

from trivet.data.audit_context import MOST_EXAMPLES, AuditContext, counted
from trivet.data.mask_statistics import ignored_share, label_shares
from trivet.data.mask_survey import MaskSurvey
from trivet.doctor.finding import Finding, Where

FEW_IMAGES = 10
RARE_SHARE = 0.001
UNEVEN = 100.0
MUCH_UNLABELLED = 0.2


def unusable_masks(context: AuditContext) -> list[Finding]:
    """Masks that cannot be decoded, are missing, or hold values that no class has."""
    faults = [
        f"{split.name(i)}: {message}"
        for split, survey in zip(context.splits.given, context.surveys or (), strict=False)
        for i, message in survey.faults.items()
    ]
    if not faults:
        return []
    return [
        Finding(
            name="mask-unusable",
            severity="error",
            title=f"{counted(len(faults), 'mask')} cannot be used",
            where=Where(file=faults[0].split(": ")[0]),
            evidence={"masks": len(faults), "examples": faults[:MOST_EXAMPLES]},
            cause=f"First: {faults[0]}.",
            remedy="Mend the masks; training would stop at them.",
            verdict="proven",
        )
    ]


def unlabelled_pixels(context: AuditContext) -> list[Finding]:
    """Pixels that neither train nor count."""
    shares = {name: ignored_share(survey) for name, survey in _by_split(context).items()}
    if not any(shares.values()):
        return []
    share = shares.get("train", 0.0)
    words = ", ".join(f"{name} {part:.1%}" for name, part in shares.items())
    return [
        Finding(
            name="unlabelled-pixels",
            severity="warning" if max(shares.values()) > MUCH_UNLABELLED else "note",
            title=f"pixels without a label: {words}",
            evidence={"by_split": shares, "share": share},
            cause="They are void in the masks, or belong to objects whose outline is not known.",
            remedy="Nothing if they are edges and things of no class; a model is free to say anything there.",
            verdict="proven",
        )
    ]


def classes_of_pixels(context: AuditContext) -> list[Finding]:
    """Classes that no training mask shows, or few, and the span between the most and the least frequent."""
    survey = _by_split(context).get("train")
    if survey is None:
        return []
    names = context.splits.labels.names
    counts = survey.counts[:, : len(names)]
    shares, images = label_shares(survey, len(names)), (counts > 0).sum(axis=0)
    return [*_absent(context, names, images), *_rare(names, shares, images), *_uneven(names, shares)]


def _by_split(context: AuditContext) -> dict[str, MaskSurvey]:
    return dict(zip((split.split for split in context.splits.given), context.surveys or (), strict=False))


def _absent(context: AuditContext, names: tuple[str, ...], images: np.ndarray) -> list[Finding]:
    absent = np.flatnonzero(images == 0)
    if not len(absent):
        return []
    elsewhere = [
        names[label]
        for label in absent
        if any(
            survey.counts[:, label].any() for name, survey in _by_split(context).items() if name != "train"
        )
    ]
    shown = ", ".join(names[label] for label in absent[:10]) + (", ..." if len(absent) > 10 else "")
    return [
        Finding(
            name="class-without-pixels",
            severity="warning",
            title=f"{counted(len(absent), 'class has', 'classes have')} no training pixel: {shown}",
            evidence={"classes": [names[label] for label in absent], "in_other_splits": elsewhere},
            cause="The class list names more than the training masks show.",
            remedy="Add examples to the training split, divide the set anew, or take the class off the list.",
            verdict="proven",
        )
    ]


def _rare(names: tuple[str, ...], shares: np.ndarray, images: np.ndarray) -> list[Finding]:
    rare = np.flatnonzero((images > 0) & ((images < FEW_IMAGES) | (shares < RARE_SHARE)))
    if not len(rare):
        return []
    told = {names[label]: {"share": float(shares[label]), "images": int(images[label])} for label in rare}
    shown = ", ".join(f"{names[label]} {shares[label]:.2%} on {images[label]}" for label in rare[:8])
    return [
        Finding(
            name="rare-class",
            severity="warning",
            title=f"{counted(len(rare), 'class has', 'classes have')} under {RARE_SHARE:.1%} of the training pixels or fewer "
            f"than {FEW_IMAGES} images: {shown}{', ...' if len(rare) > 8 else ''}",
            evidence={"classes": told},
            cause="There is little to learn these classes from, and their scores will be mostly chance.",
            remedy="Add examples, weigh the class in the loss, or join it with one like it.",
            verdict="proven",
        )
    ]


def _uneven(names: tuple[str, ...], shares: np.ndarray) -> list[Finding]:
    present = np.flatnonzero(shares)
    if len(present) < 2:
        return []
    most, least = present[shares[present].argmax()], present[shares[present].argmin()]
    ratio = float(shares[most] / shares[least])
    if ratio < UNEVEN:
        return []
    return [
        Finding(
            name="class-imbalance",
            severity="note",
            title=f"{names[most]} has {ratio:,.0f} times the training pixels of {names[least]}",
            evidence={"most": float(shares[most]), "least": float(shares[least]), "ratio": ratio},
            cause="Large things have more pixels than small ones, and some things are seen more often.",
            remedy="Judge the classes one by one: pixel accuracy hides the small ones. Weigh them in the loss.",
            verdict="proven",
        )
    ]
