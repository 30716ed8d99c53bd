"""Figures -> plain words: what was learnt, and what would help most."""

import math
from collections.abc import Sequence

from trivet.doctor.finding import SEVERITIES, Finding
from trivet.evaluate.classification_scores import ClassificationScores, ImageClass
from trivet.evaluate.mistakes import ERRORS
from trivet.evaluate.scores import ClassScore, DetectionScores, ErrorShare, ImageMistakes
from trivet.evaluate.segmentation_scores import ImageMask, SegmentationScores
from trivet.report.contents import Scores
from trivet.report.naming import plain_label
from trivet.structures import TaskName

LITTLE = 0.1  # an AP50 or mIoU below this is of no use
WELL_CALIBRATED = 0.03  # expected calibration error
# Kind of mistake -> what to try about it.
ADVICE = {
    "wrong class": "The confusion matrix names the pairs: more examples of them, or one class for both, helps most.",
    "poor place": "Check that the truth is drawn tightly and alike everywhere; small objects gain from larger images.",
    "both": "Usually goes away with the two mistakes it is made of.",
    "double": "Suppress at a lower IoU, or softly.",
    "background": "Look at the worst images: often these are real objects that nobody labelled. Else add images without objects.",
    "missed": "Often small or rare objects: train on larger images, for longer, or with more examples of the weakest classes.",
}


LEARNERS: dict[TaskName, str] = {
    "detection": "A detector",
    "segmentation": "A segmenter",
    "classification": "A classifier",
}


def learnt(scores: Scores | None, names: Sequence[str], task: TaskName = "detection") -> str:
    """Say in one or two sentences what a model has learnt; `task` matters for one that was not scored."""
    if scores is None:
        return f"{LEARNERS[task]} of {class_words(names)} was trained; it has not been scored."
    if isinstance(scores, SegmentationScores):
        return _segmenter_learnt(scores)
    if isinstance(scores, ClassificationScores):
        return _classifier_learnt(scores)
    return _detector_learnt(scores)


def _detector_learnt(scores: DetectionScores) -> str:
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


def _segmenter_learnt(scores: SegmentationScores) -> str:
    if math.isnan(scores.miou):
        return f"The {scores.images:,} images it was scored on are void everywhere, so it has no score."
    known = sorted((row for row in scores.per_class if math.isfinite(row.iou)), key=lambda row: -row.iou)
    start = f"On {scores.images:,} images the segmenter gives {scores.pixel_accuracy:.0%} of the pixels their class"
    if scores.miou < LITTLE:
        return f"{start}, yet few classes: it has learnt next to nothing yet (mIoU {scores.miou:.2f})."
    if len(known) == 1:
        return f"{start}; {_named(known[0].name, 'IoU', known[0].iou)} is the one class there is."
    best, least = (_named(row.name, "IoU", row.iou) for row in (known[0], known[-1]))
    return f"{start}; it knows {best} best and {least} least."


def _classifier_learnt(scores: ClassificationScores) -> str:
    known = sorted(
        (row for row in scores.per_class if math.isfinite(row.accuracy)), key=lambda row: -row.accuracy
    )
    if not known:
        return "No images were there to score it on, so it has no score."
    start = f"The classifier is right on {scores.top1:.1%} of {scores.images:,} images"
    largest = max(row.images for row in known) / scores.images
    if len(known) > 1 and scores.top1 <= largest:
        return f"{start}, no better than always naming the most frequent class ({largest:.1%})."
    if len(known) == 1:
        return f"{start}; {known[0].name!r} is the one class with images."
    best, least = (_named(row.name, "accuracy", row.accuracy) for row in (known[0], known[-1]))
    return f"{start}; it knows {best} best and {least} least."


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


def segmentation_words(image: ImageMask, names: Sequence[str]) -> str:
    """Say how one image was segmented: "IoU 0.41, 83% of the pixels right; most often road taken for pavement"."""
    start = f"IoU {image.iou:.2f}, {image.pixel_accuracy:.0%} of the pixels right"
    if image.confused is None:
        return start
    truth, predicted = names[image.confused.truth], names[image.confused.predicted]
    return f"{start}; most often {truth} taken for {predicted}, {image.confused.pixels / image.pixels:.1%} of the pixels"


def classification_words(image: ImageClass, names: Sequence[str]) -> str:
    """Say how one image was classified: "dog 0.98; is cat 0.01"."""
    start = f"{names[image.predicted]} {image.score:.2f}"
    if image.predicted == image.truth:
        return start
    return f"{start}; is {names[image.truth]} {image.truth_score:.2f}"


def absent_words(scores: SegmentationScores) -> str:
    """Say which classes mIoU leaves out; empty where none."""
    if not scores.absent:
        return ""
    verb = "is" if len(scores.absent) == 1 else "are"
    return f"{class_words(scores.absent)} {verb} neither in the truth nor predicted and left out of mIoU."


def calibration_words(scores: ClassificationScores) -> str:
    """Say whether a classifier's probabilities can be believed."""
    gap = scores.confidence - scores.top1
    told = f"It is {scores.confidence:.0%} sure on average and right on {scores.top1:.0%}"
    if scores.ece < WELL_CALIBRATED:
        return f"{told}: its probabilities can be taken as they are."
    way = "more" if gap > 0 else "less"
    return f"{told}: it is {way} sure than it should be. Temperature scaling on other images puts that right."


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
    return _named(score.name, "AP50", score.ap50)


def _named(name: str, figure: str, value: float) -> str:
    return f"{plain_label(name, 40)} ({figure} {value:.2f})"
