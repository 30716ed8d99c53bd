"""Checks of classes: those without examples, those that few examples stand for, ids that are no labels."""

import numpy as np

from trivet.data.audit_context import AuditContext, counted
from trivet.data.box_statistics import class_counts
from trivet.data.dataset import Splits
from trivet.doctor.finding import Finding

FEW = 10
UNEVEN = 10.0


def absent_classes(context: AuditContext) -> list[Finding]:
    """Classes that cannot be learnt, as no training image shows them."""
    train = class_counts(context.splits.train)
    absent = np.flatnonzero(train == 0)
    if not len(absent):
        return []
    names = context.splits.labels.names
    elsewhere = [
        names[label]
        for label in absent
        if any(
            class_counts(split)[label] for split in context.splits.given if split is not context.splits.train
        )
    ]
    shown = ", ".join(names[label] for label in absent[:10])
    one, many = _examples(context.splits)
    return [
        Finding(
            name=f"class-without-{many}",
            severity="warning",
            title=f"{counted(len(absent), 'class has', 'classes have')} no training {one}: {shown}",
            evidence={"classes": [names[label] for label in absent], "in_other_splits": elsewhere},
            cause="The class list names more than the training images show.",
            remedy="Add examples to the training split, divide the set anew, or take the class off the list.",
            verdict="proven",
        )
    ]


def rare_classes(context: AuditContext) -> list[Finding]:
    """Classes with too few examples to be told from chance."""
    train = class_counts(context.splits.train)
    rare = np.flatnonzero((train > 0) & (train < FEW))
    if not len(rare):
        return []
    counts = {context.splits.labels.names[label]: int(train[label]) for label in rare}
    shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:10])
    _, many = _examples(context.splits)
    return [
        Finding(
            name="rare-class",
            severity="warning",
            title=f"{counted(len(rare), 'class has', 'classes have')} fewer than {FEW} training {many}: {shown}",
            evidence={many: counts},
            cause="There is little to learn these classes from, and their scores will be mostly chance.",
            remedy="Add examples, or join the class with one like it.",
            verdict="proven",
        )
    ]


def uneven_classes(context: AuditContext) -> list[Finding]:
    """One class with many times the examples of another."""
    train = class_counts(context.splits.train)
    present = np.flatnonzero(train)
    if len(present) < 2:
        return []
    most, least = present[train[present].argmax()], present[train[present].argmin()]
    ratio = float(train[most] / train[least])
    if ratio < UNEVEN:
        return []
    names = context.splits.labels.names
    _, many = _examples(context.splits)
    return [
        Finding(
            name="class-imbalance",
            severity="note",
            title=f"{names[most]} has {ratio:.0f} times the training {many} of {names[least]}",
            evidence={"most": int(train[most]), "least": int(train[least]), "ratio": ratio},
            cause="Some things are seen more often than others.",
            remedy=f"Judge the classes one by one: a mean over {many} hides the rare ones. Show their images more often.",
            verdict="proven",
        )
    ]


def ids_apart_from_labels(context: AuditContext) -> list[Finding]:
    """File ids that are not the labels, which is what goes wrong most when predictions are read elsewhere."""
    ids = context.splits.labels.file_ids
    if ids == tuple(range(len(ids))) or not all(isinstance(i, int) for i in ids):
        return []
    return [
        Finding(
            name="ids-are-not-labels",
            severity="note",
            title=f"class ids in the files go from {ids[0]} to {ids[-1]}, labels from 0 to {len(ids) - 1}",
            evidence={"first": ids[0], "last": ids[-1], "classes": len(ids)},
            cause="The format counts from another number, or leaves numbers out.",
            remedy="Nothing here: the class map is kept with the run. Other tools need it to read predictions.",
            verdict="proven",
        )
    ]


def _examples(splits: Splits) -> tuple[str, str]:
    """Return what stands for a class: one of it, and many."""
    return ("image", "images") if splits.task == "classification" else ("box", "boxes")
