"""Whether a model has learnt its training images by heart, and what to do about it."""

import numpy as np

from trivet.data.dataset import Dataset
from trivet.doctor.finding import Finding
from trivet.evaluate.generalisation import GeneralisationGap, gap_interval, generalisation_gap
from trivet.recipe.assess import ASSESSORS
from trivet.recipe.assess_classification import predicted_classes
from trivet.recipe.assessment import Scores
from trivet.recipe.recipe import Recipe
from trivet.recipe.run_folder import Run
from trivet.report.overfitting import REMEDIES, overfitting_finding
from trivet.structures import TaskName

MOST_IMAGES: dict[TaskName, int] = {"classification": 2000, "segmentation": 50, "detection": 50}
"""So many images of a split are compared: of classes enough for an interval of two points, of masks and boxes, each of
which says more, as many as take seconds."""
_MEASURES: dict[TaskName, tuple[str, str]] = {
    "segmentation": ("miou", "mIoU"),
    "detection": ("map50", "mAP50"),
}
_CLASSIFIERS_ALONE = ("cutout", "mix")


def overfitting_findings(run: Run, train: Dataset, val: Dataset, scores: Scores) -> list[Finding]:
    """Compare a model's score on training and validation images, both as they are.

    Args:
        run: The model.
        train: Training split.
        val: Validation split.
        scores: On all of the validation split.
    """
    gap = _gap(run, train, val, scores)
    found = None if gap is None else overfitting_finding(gap, remedies_on(run.recipe))
    return [] if found is None else [found]


def remedies_on(recipe: Recipe) -> list[str]:
    """Return which remedies of `report.overfitting.REMEDIES` a recipe uses already, or are not for its task."""
    train, augment = recipe.train, recipe.augment
    on = {
        "crop_flip": augment.strength not in ("none", 0, 0.0),
        "cutout": augment.strength == "strong",
        "regularised_optimizer": train.weight_decay > 0 and train.schedule in ("onecycle", "cosine"),
        "label_smoothing": bool(recipe.task.options.get("label_smoothing")),
        "mix": augment.mixup > 0 or augment.cutmix > 0,
        "ema": train.ema > 0,
    }
    classifier = recipe.task.kind == "classification"
    return [name for name in REMEDIES if on[name] or (name in _CLASSIFIERS_ALONE and not classifier)]


def _gap(run: Run, train: Dataset, val: Dataset, scores: Scores) -> GeneralisationGap | None:
    """Return the gap; none where there are too few images to say how sure it is."""
    kind = run.recipe.task.kind
    some = _some(train, MOST_IMAGES[kind])
    if kind == "classification":
        return generalisation_gap(_correct(run, some), _correct(run, _some(val, MOST_IMAGES[kind])))
    learnt = ASSESSORS[kind].assess(run, some).scores
    key, measure = _MEASURES[kind]
    if key not in learnt.interval95 or key not in scores.interval95:
        return None
    ours, theirs = (float(getattr(found, key)) for found in (learnt, scores))
    within = gap_interval(ours, learnt.interval95[key], theirs, scores.interval95[key])
    return GeneralisationGap(ours, theirs, ours - theirs, within, len(some), len(val), measure)


def _some(dataset: Dataset, most: int) -> Dataset:
    """Return some images from all over a split."""
    return dataset.take(np.unique(np.linspace(0, len(dataset) - 1, most).astype(np.int64)))


def _correct(run: Run, dataset: Dataset) -> np.ndarray:
    """Return for each image whether it is classified rightly."""
    assert dataset.class_labels is not None, "a data set for classification has class labels"
    return np.array([found.label for found in predicted_classes(run, dataset)]) == dataset.class_labels
