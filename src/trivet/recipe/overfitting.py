"""Whether a classifier has learnt its training images by heart, and what to do about it."""

import numpy as np

from trivet.data.dataset import Dataset
from trivet.doctor.finding import Finding
from trivet.evaluate.generalisation import generalisation_gap
from trivet.recipe.assess_classification import predicted_classes
from trivet.recipe.recipe import Recipe
from trivet.recipe.run_folder import Run
from trivet.report.overfitting import overfitting_finding

MOST_IMAGES = 2000
"""So many images of each split are compared: enough for an interval of two points."""


def overfitting_findings(run: Run, train: Dataset, val: Dataset) -> list[Finding]:
    """Compare a classifier's accuracy on training and validation images, both as they are."""
    if run.recipe.task.kind != "classification":
        return []
    gap = generalisation_gap(_correct(run, train), _correct(run, val))
    found = overfitting_finding(gap, remedies_on(run.recipe))
    return [] if found is None else [found]


def remedies_on(recipe: Recipe) -> list[str]:
    """Return which remedies of `report.overfitting.REMEDIES` a recipe uses already."""
    train, augment = recipe.train, recipe.augment
    on = {
        "crop_flip": augment.strength not in ("none", 0, 0.0),
        "cutout": augment.strength == "strong",
        "regularised_optimizer": train.weight_decay > 0 and train.schedule in ("onecycle", "cosine"),
        "label_smoothing": bool(recipe.task.options.get("label_smoothing")),
        "mix": augment.mixup > 0 or augment.cutmix > 0,
        "ema": train.ema > 0,
    }
    return [name for name, used in on.items() if used]


def _correct(run: Run, dataset: Dataset) -> np.ndarray:
    """Return for some images from all over a split whether they are classified rightly."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, MOST_IMAGES).astype(np.int64))
    some = dataset.take(chosen)
    assert some.class_labels is not None, "a data set for classification has class labels"
    return np.array([found.label for found in predicted_classes(run, some)]) == some.class_labels
