"""The audit of a data set: every fault by name, and the numbers it is made of, before training."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trivet.data.audit_alignment import misaligned_masks
from trivet.data.audit_boxes import (
    crowd_boxes,
    duplicate_boxes,
    full_image_boxes,
    missed_by_anchors,
    small_boxes,
    tiny_boxes,
)
from trivet.data.audit_classes import absent_classes, ids_apart_from_labels, rare_classes, uneven_classes
from trivet.data.audit_context import MOST_EXAMPLES, AuditContext, counted
from trivet.data.audit_images import (
    images_without_colour,
    images_without_objects,
    same_images,
    unreadable_images,
)
from trivet.data.audit_masks import classes_of_pixels, unlabelled_pixels, unusable_masks
from trivet.data.audit_outlines import overlapping_labels, rectangular_outlines
from trivet.data.audit_sequences import sequences_across_splits
from trivet.data.box_statistics import describe, describe_classes
from trivet.data.dataset import Dataset, Splits
from trivet.data.fingerprints import Fingerprints, fingerprint, fingerprint_pictures
from trivet.data.mask_statistics import describe_masks
from trivet.data.mask_survey import survey_masks
from trivet.data.problems import PROBLEMS, Problem
from trivet.data.sources import read_dataset
from trivet.data.sources.folder import Folder
from trivet.doctor.finding import Finding, Where, by_importance
from trivet.geometry.anchors import AnchorSpec, AnyAnchors
from trivet.structures import TaskName

CHECKS: dict[str, Callable[[AuditContext], list[Finding]]] = {
    "unreadable images": unreadable_images,
    "equal images and leaks": same_images,
    "recordings in several splits": sequences_across_splits,
    "equal boxes": duplicate_boxes,
    "tiny boxes": tiny_boxes,
    "boxes of whole images": full_image_boxes,
    "size of objects at the input": small_boxes,
    "anchor coverage": missed_by_anchors,
    "classes without examples": absent_classes,
    "rare classes": rare_classes,
    "class balance": uneven_classes,
    "images without objects": images_without_objects,
    "crowd": crowd_boxes,
    "colour": images_without_colour,
    "ids and labels": ids_apart_from_labels,
}
MASK_CHECKS: dict[str, Callable[[AuditContext], list[Finding]]] = {
    "unreadable images": unreadable_images,
    "unusable masks": unusable_masks,
    "equal images and leaks": same_images,
    "recordings in several splits": sequences_across_splits,
    "masks of other images": misaligned_masks,
    "pixels of several labels": overlapping_labels,
    "rectangular outlines": rectangular_outlines,
    "classes of pixels": classes_of_pixels,
    "pixels without a label": unlabelled_pixels,
    "colour": images_without_colour,
    "ids and labels": ids_apart_from_labels,
}
CLASS_CHECKS: dict[str, Callable[[AuditContext], list[Finding]]] = {
    name: CHECKS[name]
    for name in (
        "unreadable images",
        "equal images and leaks",
        "recordings in several splits",
        "classes without examples",
        "rare classes",
        "class balance",
        "colour",
        "ids and labels",
    )
}
CHECKS_OF: Mapping[TaskName, Mapping[str, Callable[[AuditContext], list[Finding]]]] = {
    "detection": CHECKS,
    "segmentation": MASK_CHECKS,
    "classification": CLASS_CHECKS,
}
_NEED_PIXELS = (
    "unreadable images",
    "equal images and leaks",
    "recordings in several splits",
    "masks of other images",
    "colour",
)


@dataclass(frozen=True)
class Audit:
    """What the audit of a data set found.

    Args:
        splits: The data set.
        findings: Most important first.
        statistics: Plain data: counts, sizes, coverage; see `describe`.
        not_checked: What was left out, and why.
        seconds: How long it took, reading included.
    """

    splits: Splits
    findings: tuple[Finding, ...]
    statistics: Mapping[str, object]
    not_checked: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The faults met while reading, one by one."""
        return self.splits.problems

    def to_json(self) -> dict[str, object]:
        """Return the audit as plain data, the form of `audit --json`."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "statistics": dict(self.statistics),
            "not_checked": [{"check": check, "why": why} for check, why in self.not_checked.items()],
            "cost": {"seconds": round(self.seconds, 3)},
        }

    def text(self) -> str:
        """Return the audit in words, for a terminal."""
        lines = [
            f"{split.split:5} {len(split):>7,} images{self._truth_of(split)}" for split in self.splits.given
        ]
        lines += [f"made  {self.splits.made}"] if self.splits.made else []
        lines += [f"note  {note}" for note in self.splits.notes]
        for finding in self.findings:
            lines += ["", f"{finding.severity}: {finding.title} [{finding.name}]"]
            lines += [f"  where: {finding.where.file}"] if finding.where.file else []
            lines += [f"  why:   {finding.cause}", f"  do:    {finding.remedy}"]
        lines += ["", *(f"not checked: {check} ({why})" for check, why in self.not_checked.items())]
        lines.append(counted(len(self.findings), "finding") if self.findings else "no fault was found")
        return "\n".join(
            "".join(letter if letter.isprintable() else "?" for letter in line) for line in lines
        )

    def _truth_of(self, split: Dataset) -> str:
        """Return how much truth a split has, where that is not one a picture by its nature."""
        if self.splits.task == "classification":
            return ""
        masks = self.splits.task == "segmentation"
        return f" {len(split):>9,} masks" if masks else f" {len(split.truth.labels):>9,} boxes"


def audit_dataset(
    data: Splits | str | Path,
    *,
    size_hw: tuple[int, int] | None = None,
    anchors: AnyAnchors | None = None,
    format: str | None = None,
    labels: str | None = None,
    images: str | Path | None = None,
    look_at_images: bool = True,
    task: TaskName | None = None,
    overlap: str = "small-on-top",
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Look for faults of a data set before training on it.

    Where no image file is there, the annotations alone are audited.

    Args:
        data: A data set that was read, or its folder or annotation file.
        size_hw: Size of the network's input; 512 x 512 when not given.
        anchors: The anchors coverage is measured for; the usual ones when not given.
        format: See `read_dataset`; for a path.
        labels: See `read_dataset`; for a path.
        images: See `read_dataset`; for a path.
        look_at_images: Whether image files are decoded (small), for duplicates, colour and damage.
        task: See `read_dataset`; for a path.
        overlap: See `read_dataset`; for a path.
        progress: Called with what was looked at and all there is to look at, images and masks.

    Raises:
        UsageError: If there is no data set, or its format is not plain.
        DataError: If no image is left to train on.
    """
    start = time.perf_counter()
    splits = (
        data
        if isinstance(data, Splits)
        else _read(Path(data), format=format, labels=labels, images=images, task=task, overlap=overlap)
    )
    there = _has_files(splits.train) or splits.train.pictures is not None
    masks = splits.task == "segmentation"
    looks = look_at_images and there
    steps = _Steps(sum(map(len, splits.given)) * (looks + masks), progress)
    prints = tuple(_print(split, steps) for split in splits.given) if looks else None
    surveys = (
        tuple(survey_masks(split, with_images=looks, progress=steps) for split in splits.given)
        if masks
        else None
    )
    context = AuditContext(splits, size_hw or (512, 512), anchors or AnchorSpec(), prints, surveys)
    checks = CHECKS_OF[splits.task]
    not_checked = {}
    if prints is None:
        why = "not asked for" if there else "the image files are not there"
        not_checked = {name: why for name in _NEED_PIXELS if name in checks}
    elif not _has_files(splits.train):
        not_checked = {"recordings in several splits": "the images are not files of their own"}
    findings = _of_problems(splits)
    for name, check in checks.items():
        if name not in not_checked:
            findings += check(context)
    return Audit(
        splits,
        tuple(by_importance(findings)),
        _statistics(context),
        not_checked,
        time.perf_counter() - start,
    )


def _statistics(context: AuditContext) -> dict[str, object]:
    if context.surveys is not None:
        return describe_masks(context.splits, context.surveys)
    if context.splits.task == "classification":
        return describe_classes(context.splits)
    return describe(context.splits, context.size_hw, context.anchors)


def _read(
    path: Path,
    *,
    format: str | None,
    labels: str | None,
    images: str | Path | None,
    task: TaskName | None,
    overlap: str,
) -> Splits:
    folder = Folder.at(path, images=None if images is None else Path(images))
    return read_dataset(
        path,
        format=format,
        labels=labels,
        images=images,
        task=task,
        overlap=overlap,
        val_share=0.0,
        check="headers" if folder.images else "none",
    )


def _has_files(split: Dataset) -> bool:
    return split.path(0).is_file()


class _Steps:
    """Counts what was looked at, over all splits."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.total, self.progress, self.done = total, progress, 0

    def __call__(self, _: int) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _print(split: Dataset, steps: _Steps) -> Fingerprints:
    if split.pictures is not None and not _has_files(split):
        return fingerprint_pictures(split.pictures, progress=steps)
    return fingerprint((split.path(i) for i in range(len(split))), progress=steps)


def _of_problems(splits: Splits) -> list[Finding]:
    """Return one finding for each kind of fault that reading met."""
    by_name: dict[str, list[Problem]] = {}
    for found in splits.problems:
        by_name.setdefault(found.name, []).append(found)
    return [
        Finding(
            name=name,
            severity="warning" if PROBLEMS[name].stops else "note",
            title=f"{PROBLEMS[name].meaning}: {counted(len(found), 'time')} ({PROBLEMS[name].action})",
            where=Where(file=found[0].file),
            evidence={
                "count": len(found),
                "examples": [f"{item.file}: {item.detail}" for item in found[:MOST_EXAMPLES]],
            },
            cause=f"First: {found[0].detail}.",
            remedy=PROBLEMS[name].remedy,
            verdict="proven",
        )
        for name, found in by_name.items()
    ]
