"""The classification task: what a classifier's logits cost against labels, and what they say."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import DataError, TrainingError, UsageError
from trivet.structures import Batch, ClassScores, ClassTargets, Placement
from trivet.tasks.losses import build_image_loss
from trivet.tasks.losses.soft_labels import ImageLoss


class ClassificationTask:
    """Losses and predictions of a model whose output is logits `[b, classes]`.

    Args:
        classes: Labels are 0 to `classes - 1`.
        loss: A name of `tasks.losses.IMAGE_LOSSES`, or what computes the loss.
        label_smoothing: Smoothing, 0-1, of a loss given by name.

    Raises:
        UsageError: If the name is unknown or a number is out of range.
    """

    prior_count = 0.0

    def __init__(
        self, classes: int, *, loss: str | ImageLoss = "cross_entropy", label_smoothing: float = 0.0
    ) -> None:
        if classes < 1:
            raise UsageError(f"a classification task needs at least one class, got {classes}")
        self.classes = classes
        self.loss = build_image_loss(loss, smoothing=label_smoothing)

    def losses(
        self,
        output: Float[Tensor, "b classes"],
        batch: Batch,
        *,
        normaliser: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what a batch costs: "loss" (to be differentiated) and "positives", its images.

        Args:
            output: What the model said of `batch.images`.
            batch: Images with their labels; an image may be a mixture of two.
            normaliser: Turns the number of images into what the sum of losses is divided by. Several processes
                that average gradients give (images of all) / processes.

        Raises:
            DataError: If a label is no class; the message names the image.
            UsageError: If the output does not fit the classes or the batch.
        """
        self._check_output(output, len(batch))
        targets = batch.class_targets.to(output.device)
        _check_targets(targets, batch.names, self.classes)
        images = torch.tensor(float(len(batch)), device=output.device)
        divisor = images if normaliser is None else normaliser(images)
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        return {"loss": self.loss(logits, targets).sum() / divisor, "positives": images}

    @torch.no_grad()
    def predict(
        self,
        output: Float[Tensor, "b classes"],
        size_hw: tuple[int, int],  # noqa: ARG002 - all tasks are called alike
        *,
        placements: Sequence[Placement] | None = None,
    ) -> tuple[ClassScores, ...]:
        """Return the probabilities of each image.

        Args:
            output: What the model said.
            size_hw: Size of the images the model saw; it does not matter here.
            placements: Where each original image lies in the input; only their number is looked at.

        Raises:
            TrainingError: If the output holds NaN or infinite values.
            UsageError: If the output does not fit the classes.
        """
        self._check_output(output, len(output) if placements is None else len(placements))
        if not bool(output.isfinite().all()):
            raise TrainingError(
                f"the model's output is not finite: {int((~output.isfinite()).sum())} of {output.numel()} logits are "
                "NaN or infinite",
                "its weights have diverged; go back to earlier weights and train with a lower learning rate",
            )
        return tuple(ClassScores(scores) for scores in output.float().softmax(dim=1))

    def _check_output(self, output: Tensor, images: int) -> None:
        if output.shape != (images, self.classes):
            raise UsageError(
                f"{images} images and {self.classes} classes need logits [{images}, {self.classes}], got "
                f"{list(output.shape)}",
                "give the model and the task the same classes",
            )


def _check_targets(targets: ClassTargets, names: Sequence[str], classes: int) -> None:
    both = torch.stack([targets.labels, targets.other_labels])
    share = targets.other_share
    wrong_label = ((both < 0) | (both >= classes)).any(dim=0)
    wrong_share = ~((share >= 0) & (share <= 1))
    if not bool((wrong_label | wrong_share).any()):  # one wait for the device when all is well
        return
    image = int((wrong_label | wrong_share).nonzero()[0, 0])
    if bool(wrong_label[image]):
        raise DataError(
            f"{names[image]}: the image has the label {_first_wrong(both[:, image].tolist(), classes)}, but labels of "
            f"{classes} classes are 0 to {classes - 1}",
            "labels count from 0; give the model and the task the data set's number of classes",
        )
    raise DataError(f"{names[image]}: the share of a mixed image is 0-1, got {float(share[image])}")


def _first_wrong(labels: list[int], classes: int) -> int:
    return next(label for label in labels if not 0 <= label < classes)
