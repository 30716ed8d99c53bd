"""Figures -> plain words: what was learnt, and what would help most."""

import math
from collections.abc import Sequence

from trivet.doctor.finding import SEVERITIES, Finding
from trivet.evaluate.mistakes import ERRORS
from trivet.evaluate.scores import ClassScore, DetectionScores, ErrorShare, ImageMistakes
from trivet.report.naming import plain_label

LITTLE = 0.1  # an AP50 below this is of no use
# Kind of mistake -> what to try about it.
ADVICE = {
    "wrong class": "The confusion matrix names the pairs: more examples of them, or one class for both, helps most.",
    "poor place": "Check that the truth is drawn tightly and alike everywhere; small objects gain from larger images.",
    "both": "Usually goes away with the two mistakes it is made of.",
    "double": "Suppress at a lower IoU, or softly.",
    "background": "Look at the worst images: often these are real objects that nobody labelled. Else add images without objects.",
    "missed": "Often small or rare objects: train on larger images, for longer, or with more examples of the weakest classes.",
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
    if known[0].ap50 < LITTLE:
        return (
            f"{start}, among many false ones: it has learnt next to nothing yet (mAP50 {scores.map50:.2f})."
        )
    if len(known) == 1:
        return f"{start}; {_quoted(known[0])} is the one class with truth."
    return f"{start}; it knows {_quoted(known[0])} best and {_quoted(known[-1])} least."


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
    """Return what a kind of mistake is, and what to try about it."""
    return ERRORS[error.name], ADVICE[error.name]


def image_words(mistakes: ImageMistakes) -> str:
    """Say what went well and wrong in one image: "12 of 15 found, 3 missed, 1 false"."""
    told = {
        "missed": mistakes.missed,
        "false": mistakes.false,
        "of a wrong class": mistakes.wrong_class,
        "badly placed": mistakes.poor_place,
    }
    start = f"{mistakes.found} of {mistakes.found + mistakes.missed} found"
    return ", ".join([start, *(f"{count} {what}" for what, count in told.items() if count)])


def audited(findings: Sequence[Finding], problems: int) -> str:
    """Say in one sentence what an audit has found."""
    counts = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    told = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts.items() if n]
    parts = [" and ".join(told) if len(told) < 3 else ", ".join(told)] if told else []
    if problems:
        parts.append(
            "1 fault was met while reading"
            if problems == 1
            else f"{problems:,} faults were met while reading"
        )
    return ("; ".join(parts) or "No fault was found") + "."


def _quoted(score: ClassScore) -> str:
    return f"{plain_label(score.name, 40)} (AP50 {score.ap50:.2f})"
