"""Checks of images: unreadable, without colour, the same twice, the same in two splits."""

from collections.abc import Sequence

import numpy as np

from trivet.data.audit_context import MOST_EXAMPLES, AuditContext, counted
from trivet.data.fingerprints import Fingerprints
from trivet.data.near_duplicates import find_duplicates
from trivet.doctor.finding import Finding, Verdict, Where


def unreadable_images(context: AuditContext) -> list[Finding]:
    """Images whose head was sound but whose pixels cannot be decoded."""
    faults = [
        f"{split.name(place)}: {message}"
        for split, prints in zip(context.splits.given, context.prints or (), strict=False)
        for place, message in prints.faults.items()
    ]
    if not faults:
        return []
    return [
        Finding(
            name="image-undecodable",
            severity="error",
            title=f"{counted(len(faults), 'image')} cannot be decoded",
            where=Where(file=faults[0].split(": ")[0]),
            evidence={"images": len(faults), "examples": faults[:MOST_EXAMPLES]},
            cause="The file was cut short or damaged; training would stop at it.",
            remedy='Replace the files, or read the data set with check="pixels", which leaves them out.',
            verdict="proven",
        )
    ]


def images_without_objects(context: AuditContext) -> list[Finding]:
    """Negatives, which are wanted in small numbers and are a fault when objects were not drawn."""
    counts = {split.split: int((np.diff(split.truth.offsets) == 0).sum()) for split in context.splits.given}
    total, images = sum(counts.values()), sum(map(len, context.splits.given))
    if not total:
        return []
    return [
        Finding(
            name="image-without-objects",
            severity="warning" if total > images / 2 else "note",
            title=f"{counted(total, 'image shows', 'images show')} no object ({total / images:.1%})",
            evidence={"images": total, "by_split": counts, "share": total / images},
            cause="They are true negatives, or were never annotated.",
            remedy="Look at some: true negatives help, an object without box teaches the model not to see it.",
        )
    ]


def images_without_colour(context: AuditContext) -> list[Finding]:
    """Grayscale images among colour images."""
    if context.prints is None:
        return []
    counts = {
        split.split: int(prints.gray.sum())
        for split, prints in zip(context.splits.given, context.prints, strict=True)
    }
    total, images = sum(counts.values()), sum(map(len, context.splits.given))
    if total in (0, images):
        return []
    return [
        Finding(
            name="grayscale-image",
            severity="note",
            title=f"{counted(total, 'image has', 'images have')} no colour ({total / images:.1%})",
            evidence={"images": total, "by_split": counts},
            cause="They were stored or taken in gray.",
            remedy="Nothing: they are read as colour. If many, let the augmentation take colour away at times.",
            verdict="proven",
        )
    ]


def same_images(context: AuditContext) -> list[Finding]:
    """Images that are there twice; across splits the score is then of what was trained on."""
    if context.prints is None:
        return []
    images = [(split.split, split.name(i)) for split in context.splits.given for i in range(len(split))]
    groups = find_duplicates(_joined(context.prints))
    findings = []
    for kind, found in (("exact", groups.exact), ("near", groups.near)):
        named = [[images[i] for i in group] for group in found]
        across = [group for group in named if len({split for split, _ in group}) > 1]
        within = [group for group in named if len({split for split, _ in group}) == 1]
        findings += _leak(kind, across) + _twice(kind, within)
    return findings


def _leak(kind: str, groups: Sequence[list[tuple[str, str]]]) -> list[Finding]:
    if not groups:
        return []
    held_back = sum(split != "train" for group in groups for split, _ in group)
    exact = kind == "exact"
    verdict: Verdict = "proven" if exact else "suspected"
    return [
        Finding(
            name="leak-across-splits" if exact else "near-leak-across-splits",
            severity="error" if exact else "warning",
            title=f"{counted(held_back, 'image')} of val or test {'are' if held_back > 1 else 'is'} "
            f"{'the same as' if exact else 'nearly the same as'} one of another split",
            where=Where(file=groups[0][0][1]),
            evidence={"images": held_back, "groups": len(groups), "examples": _shown(groups)},
            cause="The set was divided image by image, though some images are copies or frames of one scene.",
            remedy="Keep copies and frames of one scene in one split (fit --set data.groups=PATTERN), or delete all but one.",
            verdict=verdict,
        )
    ]


def _twice(kind: str, groups: Sequence[list[tuple[str, str]]]) -> list[Finding]:
    if not groups:
        return []
    extra = sum(len(group) - 1 for group in groups)
    exact = kind == "exact"
    verdict: Verdict = "proven" if exact else "suspected"
    return [
        Finding(
            name="duplicate-image" if exact else "near-duplicate-image",
            severity="warning" if exact else "note",
            title=f"{counted(extra, 'image')} {'repeat' if extra > 1 else 'repeats'} another of the same split"
            f"{'' if exact else ' nearly'}",
            where=Where(file=groups[0][0][1]),
            evidence={"images": extra, "groups": len(groups), "examples": _shown(groups)},
            cause="Copies count several times in training; where their labels differ they contradict each other.",
            remedy="Keep one of each group.",
            verdict=verdict,
        )
    ]


def _shown(groups: Sequence[list[tuple[str, str]]]) -> list[list[str]]:
    return [[f"{split}: {name}" for split, name in group[:MOST_EXAMPLES]] for group in groups[:MOST_EXAMPLES]]


def _joined(prints: Sequence[Fingerprints]) -> Fingerprints:
    starts = np.cumsum([0, *(len(part) for part in prints)])
    return Fingerprints(
        np.concatenate([part.digests for part in prints]),
        np.concatenate([part.thumbnails for part in prints]),
        np.concatenate([part.hashes for part in prints]),
        {
            int(start) + place: text
            for start, part in zip(starts, prints, strict=False)
            for place, text in part.faults.items()
        },
    )
