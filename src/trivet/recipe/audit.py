"""The verb `audit`: faults and statistics of a data set, as text, data and a page."""

from collections.abc import Callable
from pathlib import Path

import torch

from trivet.data.audit import CHECKS_OF, Audit, audit_dataset
from trivet.data.dataset import Splits
from trivet.geometry.anchors import AnyAnchors
from trivet.recipe.facts import data_facts
from trivet.recipe.machine import environment
from trivet.recipe.recipe import Recipe
from trivet.recipe.run import model_as
from trivet.report.contents import AuditContents
from trivet.report.page import write_audit_page

MOST_DECODED = 5000
"""Up to so many images a run looks at every picture before it trains; more are looked at by `audit` alone."""


def audit_before_training(
    splits: Splits, recipe: Recipe, progress: Callable[[int, int], None] | None = None
) -> Audit:
    """Audit a data set that is about to be trained on by a recipe, pictures included where they are few."""
    few = sum(len(dataset) for dataset in splits.given) <= MOST_DECODED
    return audit_dataset(
        splits,
        size_hw=recipe.model.size_hw,
        anchors=_anchors_of(recipe, classes=len(splits.labels)),
        look_at_images=few,
        progress=progress,
    )


def _anchors_of(recipe: Recipe, *, classes: int) -> AnyAnchors | None:
    """Return the anchors of a recipe's detector; the model is made of shapes alone."""
    if recipe.task.kind != "detection":
        return None
    with torch.device("meta"):
        return model_as(recipe.model.model_copy(update={"pretrained": False}), classes=classes).anchor_spec


def write_audit(
    path: str | Path, audit: Audit, *, size_hw: tuple[int, int] = (512, 512), command: str = ""
) -> Path:
    """Write an audit as a self-contained page and return its path."""
    checks = {name: audit.not_checked.get(name, "done") for name in CHECKS_OF[audit.splits.task]}
    contents = AuditContents(
        title=audit.splits.train.root.name,
        names=audit.splits.labels.names,
        facts=data_facts(audit.splits, size_hw),
        problems=audit.problems,
        findings=audit.findings,
        checks=checks,
        environment=environment(),
        command=command,
    )
    return write_audit_page(path, contents)
