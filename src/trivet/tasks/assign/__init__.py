"""Assignment: which anchors train on which objects."""

from trivet.errors import look_up
from trivet.tasks.assign.argmax_iou import ArgmaxIou
from trivet.tasks.assign.assignment import Assigner
from trivet.tasks.assign.fair_iou import FairIou

ASSIGNERS: dict[str, type[Assigner]] = {"fair_iou": FairIou, "argmax_iou": ArgmaxIou}


def build_assigner(assigner: str | Assigner) -> Assigner:
    """Return the assigner of this name with its defaults, or the object itself.

    Raises:
        UsageError: If there is no assigner of this name.
    """
    if not isinstance(assigner, str):
        return assigner
    return look_up("assigner", assigner, ASSIGNERS)()
