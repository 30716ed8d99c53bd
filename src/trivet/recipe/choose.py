"""The automatic choices: what was not given, from the data set's fingerprint and the machine."""

from trivet.data.dataset import Splits
from trivet.recipe.choose_classification import choose_classification
from trivet.recipe.choose_detection import choose_detection
from trivet.recipe.choose_segmentation import choose_segmentation
from trivet.recipe.draft import Draft
from trivet.recipe.machine import Machine

CHOOSERS = {
    "detection": choose_detection,
    "segmentation": choose_segmentation,
    "classification": choose_classification,
}


def choose(draft: Draft, splits: Splits, machine: Machine) -> None:
    """Choose everything that was not given.

    Args:
        draft: What was given.
        splits: The data set.
        machine: Where it will run.
    """
    draft.offer("task.kind", splits.task, f"what the data set ({splits.format}) holds")
    CHOOSERS[splits.task](draft, splits.train, machine)
