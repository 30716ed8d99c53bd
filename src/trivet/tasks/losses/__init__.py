"""Losses of detection: names -> what computes them."""

from collections.abc import Callable

from trivet.errors import UsageError, look_up
from trivet.tasks.losses.box import BoxLoss, CiouLoss, GiouLoss, HuberLoss
from trivet.tasks.losses.focal import ClassLoss, FocalLoss

CLASS_LOSSES: dict[str, Callable[..., ClassLoss]] = {"focal": FocalLoss}
BOX_LOSSES: dict[str, type[BoxLoss]] = {"huber": HuberLoss, "giou": GiouLoss, "ciou": CiouLoss}


def build_class_loss(loss: str | ClassLoss, *, smoothing: float = 0.0) -> ClassLoss:
    """Return the class loss of this name, or the object itself.

    Args:
        loss: A name of `CLASS_LOSSES`, or what computes the loss.
        smoothing: Label smoothing in 0-1 of a loss given by name.

    Raises:
        UsageError: If there is no class loss of this name, or smoothing is given beside an object.
    """
    if not isinstance(loss, str):
        if smoothing:
            raise UsageError(
                f"label_smoothing={smoothing} is given beside a class loss that is an object",
                "set it on the object: FocalLoss(smoothing=...)",
            )
        return loss
    return look_up("class loss", loss, CLASS_LOSSES)(smoothing=smoothing)


def build_box_loss(loss: str | BoxLoss) -> BoxLoss:
    """Return the box loss of this name with its defaults, or the object itself.

    Raises:
        UsageError: If there is no box loss of this name.
    """
    if not isinstance(loss, str):
        return loss
    return look_up("box loss", loss, BOX_LOSSES)()
