"""Checks of sequences: frames of one recording in two splits make the score one of what was trained on."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from trivet.data.audit_context import MOST_EXAMPLES, AuditContext, counted
from trivet.data.sources.folder import stem_of
from trivet.doctor.finding import Finding

LEAST_FRAMES = 5
CLOSER = 0.8
"""Frames of one recording are nearer to each other than this times what they are to other recordings."""
_MOST = 200


def sequence_of(name: str) -> str | None:
    """Return what is before an image's last number, its recording's name perhaps; `None` where that says nothing.

    Example:
        >>> sequence_of("train/0016E5_00390.png"), sequence_of("000000000009.jpg")
        ('0016E5', None)
    """
    found = re.fullmatch(r"(.*?[^\d_-].*?)[_\-. ]*(\d+)[^\d_-]{0,2}", stem_of(name))
    return found.group(1).rstrip("_- ") if found else None


def sequences_across_splits(context: AuditContext) -> list[Finding]:
    """Recordings that are in two splits, told by the images' names and confirmed by their looks."""
    if context.prints is None:
        return []
    members: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for split, prints in zip(context.splits.given, context.prints, strict=True):
        for i in range(len(split)):
            sequence = sequence_of(split.name(i))
            if sequence is not None and i not in prints.faults:
                members[sequence][split.split].append(prints.thumbnails[i])
    if len(members) < 2:
        return []
    shared = {
        name: splits
        for name, splits in members.items()
        if len(splits) > 1 and _frames(splits) >= LEAST_FRAMES
    }
    everything = [
        (name, image) for name, splits in members.items() for images in splits.values() for image in images
    ]
    alike = {name: splits for name, splits in shared.items() if _closer(name, splits, everything)}
    return (
        [
            _leak(
                {
                    name: {split: len(images) for split, images in splits.items()}
                    for name, splits in alike.items()
                }
            )
        ]
        if alike
        else []
    )


def _frames(splits: dict[str, list[np.ndarray]]) -> int:
    return sum(map(len, splits.values()))


def _closer(
    name: str, splits: dict[str, list[np.ndarray]], everything: Sequence[tuple[str, np.ndarray]]
) -> bool:
    """Whether frames held back are nearer to the recording's frames in the first split than to other recordings."""
    first, *held_back = splits.values()
    strangers = [image for whose, image in everything if whose != name]
    return any(_nearest(part, first) < CLOSER * _nearest(part, strangers) for part in held_back)


def _nearest(images: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Return the median distance, in levels, from an image to the nearest of others."""
    some, rest = (np.stack(part)[:: -(-len(part) // _MOST)].astype(np.int16) for part in (images, others))
    return float(np.median([np.abs(rest - image).mean(axis=(1, 2, 3)).min() for image in some]))


def _leak(sequences: dict[str, dict[str, int]]) -> Finding:
    told = [
        f"{name} ({', '.join(f'{split} {count}' for split, count in splits.items())})"
        for name, splits in sequences.items()
    ]
    return Finding(
        name="sequence-across-splits",
        severity="warning",
        title=f"{counted(len(sequences), 'recording has', 'recordings have')} images in several splits: {'; '.join(told[:5])}",
        evidence={"images": dict(list(sequences.items())[:MOST_EXAMPLES]), "sequences": len(sequences)},
        cause="Their names differ in a number only, and they look like each other: frames of one scene.",
        remedy="Keep each recording in one split (fit --set data.groups=PATTERN); the score says less of scenes that are new.",
        verdict="suspected",
    )
