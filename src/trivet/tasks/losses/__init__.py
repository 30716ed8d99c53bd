"""Losses by name, a table a kind, and what builds them."""

from collections.abc import Callable, Mapping
from typing import Any

from trivet.errors import UsageError, look_up
from trivet.tasks.losses.box import BoxLoss, CiouLoss, GiouLoss, HuberLoss
from trivet.tasks.losses.dice import DiceLoss
from trivet.tasks.losses.focal import ClassLoss, FocalLoss
from trivet.tasks.losses.lovasz import LovaszLoss
from trivet.tasks.losses.pixels import PixelCrossEntropy, PixelFocal, PixelLoss
from trivet.tasks.losses.soft_labels import ImageLoss, SoftCrossEntropy

CLASS_LOSSES: dict[str, Callable[..., ClassLoss]] = {"focal": FocalLoss}
BOX_LOSSES: dict[str, type[BoxLoss]] = {"huber": HuberLoss, "giou": GiouLoss, "ciou": CiouLoss}
PIXEL_LOSSES: dict[str, Callable[..., PixelLoss]] = {
    "cross_entropy": PixelCrossEntropy,
    "dice": DiceLoss,
    "focal": PixelFocal,
    "lovasz": LovaszLoss,
}
IMAGE_LOSSES: dict[str, Callable[..., ImageLoss]] = {"cross_entropy": SoftCrossEntropy}


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


def build_pixel_losses(
    loss: str | Mapping[str, float] | PixelLoss,
    *,
    class_weights: tuple[float, ...] | None = None,
    smoothing: float = 0.0,
) -> dict[str, tuple[PixelLoss, float]]:
    """Return the losses of a segmenter with their weights, by name.

    Args:
        loss: A name of `PIXEL_LOSSES`, several with their weights, or what computes the loss.
        class_weights: A factor for each class, for the losses among them that have `class_weights`.
        smoothing: Label smoothing in 0-1, for those that have `smoothing`.

    Raises:
        UsageError: If a name is unknown, a weight is not positive, or an option has no effect on any of the losses.
    """
    wanted: dict[str, Any] = {"class_weights": class_weights, "smoothing": smoothing or None}
    options = {name: value for name, value in wanted.items() if value is not None}
    if not isinstance(loss, str | Mapping):
        if options:
            given = " and ".join(options)
            raise UsageError(
                f"{given} is given beside a loss that is an object", "set it on the object, where it has it"
            )
        return {_name_of(loss): (loss, 1.0)}
    weights = {loss: 1.0} if isinstance(loss, str) else dict(loss)
    if not weights or any(not 0 < weight < float("inf") for weight in weights.values()):
        raise UsageError(
            f"a sum of losses needs at least one, each with a positive weight, got {weights}",
            'for example {"cross_entropy": 1.0, "dice": 0.5}',
        )
    makers = {name: look_up("pixel loss", name, PIXEL_LOSSES) for name in weights}
    for option in options:
        if not any(_takes(maker, option) for maker in makers.values()):
            fitting = ", ".join(name for name, maker in PIXEL_LOSSES.items() if _takes(maker, option))
            raise UsageError(
                f"{option} has no effect on {', '.join(makers)}", f"losses that it changes: {fitting}"
            )
    return {
        name: (maker(**{k: v for k, v in options.items() if _takes(maker, k)}), weights[name])
        for name, maker in makers.items()
    }


def build_image_loss(loss: str | ImageLoss, *, smoothing: float = 0.0) -> ImageLoss:
    """Return the loss of a classifier of this name, or the object itself.

    Args:
        loss: A name of `IMAGE_LOSSES`, or what computes the loss.
        smoothing: Label smoothing in 0-1 of a loss given by name.

    Raises:
        UsageError: If there is no such loss, or smoothing is given beside an object.
    """
    if not isinstance(loss, str):
        if smoothing:
            raise UsageError(
                f"label_smoothing={smoothing} is given beside a loss that is an object",
                "set it on the object: SoftCrossEntropy(smoothing=...)",
            )
        return loss
    return look_up("image loss", loss, IMAGE_LOSSES)(smoothing=smoothing)


def _takes(maker: Callable[..., PixelLoss], option: str) -> bool:
    return option in getattr(maker, "__dataclass_fields__", {})


def _name_of(loss: PixelLoss) -> str:
    return type(loss).__name__ if not hasattr(loss, "__name__") else str(loss.__name__)
