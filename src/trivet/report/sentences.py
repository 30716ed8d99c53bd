"""Figures -> plain words: what was learnt, and what would help most."""

import math
from collections.abc import Sequence

from trivet.doctor.finding import SEVERITIES, Finding
from trivet.evaluate.scores import ClassScore, DetectionScores, ErrorShare
from trivet.report.naming import plain_label

# Kind of mistake -> what it means, what to try.
ADVICE = {
    "wrong class": (
        "Found in the right place but named wrongly.",
        "Look at the confusion matrix: more examples of the classes it mixes up, or joining them, helps most.",
    ),
    "wrong place": (
        "Named rightly, but the box fits too loosely (IoU 0.1 to 0.5).",
        "Check that the truth is drawn tightly and alike everywhere; a larger image size helps with small objects.",
    ),
    "both": (
        "Named wrongly and placed loosely at once.",
        "Usually goes away with the two mistakes it is made of.",
    ),
    "double": (
        "The same object reported twice.",
        "Lower the IoU of non-maximum suppression, or use soft suppression.",
    ),
    "background": (
        "Something reported where the truth has nothing.",
        "Look at the worst images: often these are real objects that were never labelled. Else add images without objects.",
    ),
    "missed": (
        "Objects that no prediction comes near.",
        "Small or rare objects: train on larger images, for longer, or with more examples of the classes found least.",
    ),
}


def learnt(scores: DetectionScores | None, names: Sequence[str]) -> str:
    """Say in one or two sentences what a detector has learnt."""
    if scores is None:
        return f"A detector of {class_words(names)} was trained; it has not been scored."
    known = sorted((s for s in scores.per_class if math.isfinite(s.ap50)), key=lambda s: -s.ap50)
    if not known:
        return f"The {scores.images:,} images it was scored on hold no objects, so it has no score."
    share = found_share(scores)
    start = f"On {scores.images:,} images the detector finds {share:.0%} of {scores.boxes:,} objects"
    if len(known) == 1:
        return f"{start}, {plain_label(known[0].name)}, with an AP50 of {known[0].ap50:.2f}."
    return f"{start}: {_quoted(known[0])} best, {_quoted(known[-1])} least well."


def found_share(scores: DetectionScores) -> float:
    """Return the share of objects found with the right class at the confusion matrix's setting, 0-1."""
    objects = int(scores.confusion[:-1].sum())
    return float(scores.confusion[:-1, :-1].trace()) / objects if objects else 0.0


def class_words(names: Sequence[str], most: int = 3) -> str:
    """Return the class names as a list in words: "a, b and c", or "80 classes"."""
    if len(names) > most:
        return f"{len(names)} classes"
    plain = [plain_label(name) for name in names]
    return plain[0] if len(plain) == 1 else f"{', '.join(plain[:-1])} and {plain[-1]}"


def advice(error: ErrorShare) -> tuple[str, str]:
    """Return what a kind of mistake means and what to try about it."""
    return ADVICE.get(error.name, ("", ""))


def audited(findings: Sequence[Finding], problems: int) -> str:
    """Say in one sentence what an audit has found."""
    counts = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    told = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n]
    read = (
        f"{problems:,} record{'s' if problems != 1 else ''} could not be used as written" if problems else ""
    )
    parts = [part for part in (" and ".join(told[-2:]) if len(told) < 3 else ", ".join(told), read) if part]
    return ("; ".join(parts) or "No fault was found") + "."


def _quoted(score: ClassScore) -> str:
    return f"{plain_label(score.name)} (AP50 {score.ap50:.2f})"
