"""Checks of boxes: equal ones, those of whole images, those too small to learn from."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from trivet.data.audit_context import MOST_EXAMPLES, AuditContext, counted, examples_of
from trivet.data.box_statistics import boxes_at, coverage_of, sides_of
from trivet.data.dataset import Dataset
from trivet.doctor.finding import Finding, Where

FULL_SHARE = 0.998
"""A box covers its image when it is at least this share of its width and of its height (2 of 1,024 pixels free)."""

LEAST_PIXELS = 2.0
LEAST_SIDE_AT_INPUT = 8.0
"""Side in pixels of the input below which an object is smaller than a cell of the finest usual level."""

MOST_SMALL = 0.05
LEAST_COVERAGE = 0.9


def duplicate_boxes(context: AuditContext) -> list[Finding]:
    """Boxes that stand twice in one image: with the same class they count twice, with two classes they argue."""
    same = _found(
        context,
        lambda split: _repeated(split, with_label=True),
        Finding(
            name="duplicate-box",
            severity="warning",
            title="{boxes} the same as an earlier one of the same image and class",
            cause="The annotation was saved or joined twice; such an object counts twice, in training and in scores.",
            remedy="Delete the later one of each pair.",
        ),
    )
    two = _found(
        context,
        lambda split: np.setdiff1d(_repeated(split, with_label=False), _repeated(split, with_label=True)),
        Finding(
            name="box-with-two-classes",
            severity="note",
            title="{boxes} the same as an earlier one of another class",
            cause="Either the object belongs to both classes, or one of the two is a mistake.",
            remedy="Keep one class, unless objects may have several.",
        ),
    )
    return [*same, *two]


def full_image_boxes(context: AuditContext) -> list[Finding]:
    """Boxes that are as large as their image."""

    def rows(split: Dataset) -> np.ndarray:
        sizes_wh = split.truth.sizes_hw[:, ::-1][split.truth.image_index()]
        extent = split.truth.boxes_xyxy[:, 2:] - split.truth.boxes_xyxy[:, :2]
        return np.flatnonzero(np.all((sizes_wh > 0) & (extent >= FULL_SHARE * sizes_wh), axis=1))

    return _found(
        context,
        rows,
        Finding(
            name="full-image-box",
            severity="note",
            title="{boxes} as large as the whole image",
            cause="Often a class given to an image rather than a box drawn around an object.",
            remedy="Look at them; draw the object's box or leave it out.",
        ),
    )


def tiny_boxes(context: AuditContext) -> list[Finding]:
    """Boxes of less than two pixels in the file's own pixels."""

    def rows(split: Dataset) -> np.ndarray:
        extent = split.truth.boxes_xyxy[:, 2:] - split.truth.boxes_xyxy[:, :2]
        return np.flatnonzero(extent.min(axis=1, initial=np.inf) < LEAST_PIXELS)

    return _found(
        context,
        rows,
        Finding(
            name="tiny-box",
            severity="warning",
            title="{boxes} less than 2 pixels wide or high",
            cause="A click that became a box, or an object too small to be seen.",
            remedy="Look at them; delete those that hold nothing.",
        ),
    )


def crowd_boxes(context: AuditContext) -> list[Finding]:
    """Boxes that stand for groups of objects."""
    return _found(
        context,
        lambda split: np.flatnonzero(split.truth.crowd),
        Finding(
            name="crowd-box",
            severity="note",
            title="{boxes} marked as crowd or difficult",
            cause="They stand for groups, or for objects that are hard to make out.",
            remedy="Nothing: they are not trained on, and what is found in them is not counted as wrong.",
            verdict="proven",
        ),
    )


def small_boxes(context: AuditContext) -> list[Finding]:
    """Many objects that are hardly more than a point at the size of the network's input."""
    sides = sides_of(boxes_at(context.splits.train, context.size_hw))
    small = int((sides < LEAST_SIDE_AT_INPUT).sum())
    if not len(sides) or small / len(sides) <= MOST_SMALL:
        return []
    height, width = context.size_hw
    factor = max(LEAST_SIDE_AT_INPUT / max(float(np.quantile(sides, MOST_SMALL)), 0.1), 1.1)
    return [
        Finding(
            name="small-at-training-size",
            severity="warning",
            title=f"{small / len(sides):.0%} of the training boxes are under 8 pixels at {width} x {height}",
            evidence={"boxes": small, "share": small / len(sides), "size_hw": list(context.size_hw)},
            cause="The images are scaled down to the network's input, and the objects with them.",
            remedy=f"Train at a size about {factor:.1f} times as large, or on tiles of the images.",
            verdict="proven",
        )
    ]


def missed_by_anchors(context: AuditContext) -> list[Finding]:
    """Objects that no anchor meets: each trains one anchor that was never meant for it."""
    coverage = coverage_of(context.splits.train, context.size_hw, context.anchors)
    if coverage is None or coverage.share >= LEAST_COVERAGE:
        return []
    worst = min(coverage.by_size.items(), key=lambda item: item[1].share)
    return [
        Finding(
            name="anchors-miss-boxes",
            severity="warning",
            title=f"{1 - coverage.share:.0%} of the training boxes overlap no anchor by half",
            evidence={
                "share": coverage.share,
                "mean_best_iou": coverage.mean_best_iou,
                "by_size": {name: part.share for name, part in coverage.by_size.items()},
                "size_hw": list(context.size_hw),
            },
            cause=f"The anchors' sizes and shapes are others than the objects'; worst are the {worst[0]} ones.",
            remedy="Train with anchors proposed from the boxes, or at another size.",
            verdict="proven",
        )
    ]


def _repeated(split: Dataset, *, with_label: bool) -> np.ndarray:
    """Return the rows that repeat an earlier row of the same image."""
    truth = split.truth
    label = truth.labels if with_label else np.zeros_like(truth.labels)
    table = np.concatenate([truth.image_index()[:, None], label[:, None], truth.boxes_xyxy], axis=1)
    _, first = np.unique(table, axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(table)), first)


def _found(
    context: AuditContext, rows_of: Callable[[Dataset], np.ndarray], finding: Finding
) -> list[Finding]:
    """Return the finding filled with what `rows_of` finds in all splits, or nothing.

    `{boxes}` in its title becomes their number.
    """
    by_split = {split.split: (split, rows_of(split)) for split in context.splits.given}
    total = sum(len(rows) for _, rows in by_split.values())
    if not total:
        return []
    examples = [example for split, rows in by_split.values() for example in examples_of(split, rows)]
    evidence = {
        "boxes": total,
        "by_split": {name: len(rows) for name, (_, rows) in by_split.items()},
        "examples": examples[:MOST_EXAMPLES],
    }
    title = finding.title.format(boxes=counted(total, "box is", "boxes are"))
    return [replace(finding, title=title, evidence=evidence, where=Where(file=examples[0].split(": ")[0]))]
