"""Losses of detection: names -> what computes them."""

from trivet.errors import unknown_name
from trivet.tasks.losses.box import BoxLoss, CiouLoss, GiouLoss, HuberLoss
from trivet.tasks.losses.focal import ClassLoss, FocalLoss

CLASS_LOSSES: dict[str, type[ClassLoss]] = {"focal": FocalLoss}
BOX_LOSSES: dict[str, type[BoxLoss]] = {"huber": HuberLoss, "giou": GiouLoss, "ciou": CiouLoss}


def build_class_loss(loss: str | ClassLoss) -> ClassLoss:
    """Return the class loss of this name with its defaults, or the object itself.

    Raises:
        UsageError: If there is no class loss of this name.
    """
    if not isinstance(loss, str):
        return loss
    if loss not in CLASS_LOSSES:
        raise unknown_name("class loss", loss, CLASS_LOSSES)
    return CLASS_LOSSES[loss]()


def build_box_loss(loss: str | BoxLoss) -> BoxLoss:
    """Return the box loss of this name with its defaults, or the object itself.

    Raises:
        UsageError: If there is no box loss of this name.
    """
    if not isinstance(loss, str):
        return loss
    if loss not in BOX_LOSSES:
        raise unknown_name("box loss", loss, BOX_LOSSES)
    return BOX_LOSSES[loss]()
