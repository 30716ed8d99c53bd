"""The segmentation task: what a semantic head's output costs against masks, and what it says."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trivet.errors import DataError, TrainingError, UsageError
from trivet.geometry.dense_crf import CrfParameters, dense_crf
from trivet.structures import IGNORE_LABEL, Batch, MaskScores, Placement
from trivet.tasks.losses import build_pixel_losses
from trivet.tasks.losses.images import sum_over_images
from trivet.tasks.losses.pixels import PixelLoss
from trivet.tasks.resample import strips_at_original


class SegmentationTask:
    """Losses and predictions of a model whose output is logits `[b, classes, h, w]` at any stride.

    The output may also be a tuple of such tensors: the first is the model's say, the others are deep supervision
    and only train.

    Args:
        classes: Labels are 0 to `classes - 1`, at most 255 of them; 255 is ignored.
        loss: A name of `tasks.losses.PIXEL_LOSSES`, several with their weights, or what computes the loss.
        class_weights: A factor for each class in the losses that know one (cross_entropy, focal).
        label_smoothing: Smoothing, 0-1, of the cross-entropy.
        auxiliary_weight: Factor of the losses of all outputs but the first (0.4: Zhao et al. 2017, PSPNet), or one
            for each.

    Raises:
        UsageError: If a name is unknown, a number is out of range, or an option has no effect on these losses.
    """

    prior_count = 0.0

    def __init__(
        self,
        classes: int,
        *,
        loss: str | Mapping[str, float] | PixelLoss = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        auxiliary_weight: float | tuple[float, ...] = 0.4,
    ) -> None:
        if not 1 <= classes <= IGNORE_LABEL:
            raise UsageError(f"a segmentation task needs 1 to {IGNORE_LABEL} classes, got {classes}")
        if class_weights is not None and len(class_weights) != classes:
            raise UsageError(f"{classes} classes need {classes} class weights, got {len(class_weights)}")
        weights = None if class_weights is None else tuple(float(weight) for weight in class_weights)
        self.classes, self.auxiliary_weight = classes, auxiliary_weight
        self.parts = build_pixel_losses(loss, class_weights=weights, smoothing=label_smoothing)

    def losses(
        self,
        output: Tensor | Sequence[Tensor],
        batch: Batch,
        *,
        normaliser: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what a batch costs: "loss" (to be differentiated), each of its parts by name, "positives".

        Parts are sums over images and pixels divided by the pixels that count ("positives"): what is a mean over an
        image (Dice, Lovasz) counts as much as its pixels. "auxiliary" is what the outputs beside the first add to
        "loss".

        Args:
            output: What the model said of `batch.images`.
            batch: Images with their masks.
            normaliser: Turns the batch's count of pixels into what the losses are divided by. Several processes
                that average gradients give (pixels of all) / processes.

        Raises:
            DataError: If a mask has labels that are no class; the message names the image.
            UsageError: If the output does not fit the classes or the batch.
        """
        maps = self._maps(output, len(batch))
        masks = batch.mask_targets.masks.to(maps[0].device)
        _check_labels(masks, batch.names, self.classes)
        positives = (masks != IGNORE_LABEL).sum().to(torch.float32)
        divisor = positives if normaliser is None else normaliser(positives)
        share = torch.where(divisor > 0, 1 / divisor, torch.zeros_like(divisor))
        losses = tuple(self.parts.values())
        total, sums = sum_over_images(maps[0], masks, losses)
        result = {name: value * share for name, value in zip(self.parts, sums, strict=True)}
        if len(maps) > 1:
            weights = self._auxiliary_weights(len(maps) - 1)
            extra = torch.stack(
                [
                    weight * sum_over_images(logits, masks, losses)[0]
                    for weight, logits in zip(weights, maps[1:], strict=True)
                ]
            ).sum()
            total, result["auxiliary"] = total + extra, extra.detach() * share
        return {"loss": total * share, **result, "positives": positives}

    @torch.no_grad()
    def predict(
        self,
        output: Tensor | Sequence[Tensor],
        size_hw: tuple[int, int],
        *,
        placements: Sequence[Placement] | None = None,
    ) -> tuple[MaskScores, ...]:
        """Return each image's likeliest labels and their probabilities, in pixels of the original image.

        Args:
            output: What the model said.
            size_hw: Size of the images the model saw.
            placements: Where each original image lies in the input; without, the input is the original.

        Raises:
            TrainingError: If the output holds NaN or infinite values.
            UsageError: If the output does not fit the classes or the placements.
        """
        found = []
        for logits, placement in self._placed(output, size_hw, placements):
            labels = torch.empty(placement.original_hw, dtype=torch.uint8, device=logits.device)
            scores = torch.empty(placement.original_hw, device=logits.device)
            for rows, strip in strips_at_original(logits, size_hw, placement):
                best, label = strip.max(dim=0)
                labels[rows] = label.to(torch.uint8)
                scores[rows] = torch.exp(best - strip.logsumexp(dim=0))
            found.append(MaskScores(labels, scores))
        return tuple(found)

    @torch.no_grad()
    def probabilities(
        self,
        output: Tensor | Sequence[Tensor],
        size_hw: tuple[int, int],
        *,
        placements: Sequence[Placement] | None = None,
    ) -> Iterator[Float[Tensor, "classes h w"]]:
        """Yield each image's probabilities of all classes, in pixels of the original; else as `predict`.

        One image at a time: a picture of 12 megapixels with 12 classes takes 576 MB.
        """
        for logits, placement in self._placed(output, size_hw, placements):
            result = logits.new_empty((self.classes, *placement.original_hw))
            for rows, strip in strips_at_original(logits, size_hw, placement):
                torch.softmax(strip, dim=0, out=result[:, rows])
            yield result

    def _placed(
        self,
        output: Tensor | Sequence[Tensor],
        size_hw: tuple[int, int],
        placements: Sequence[Placement] | None,
    ) -> Iterator[tuple[Tensor, Placement]]:
        """Yield the float32 logits of each image with its placement."""
        logits = (output if isinstance(output, Tensor) else output[0]).detach()
        placed = [Placement(size_hw)] * len(logits) if placements is None else placements
        (logits,) = self._maps(logits, len(placed))
        if not bool(logits.sum(dtype=torch.float32).isfinite()) and not bool(logits.isfinite().all()):
            raise TrainingError(
                f"the model's output is not finite: {int((~logits.isfinite()).sum())} of {logits.numel()} logits are "
                "NaN or infinite",
                "its weights have diverged; go back to earlier weights and train with a lower learning rate",
            )
        for one, placement in zip(logits, placed, strict=True):
            yield one.float().contiguous(), placement

    def _maps(self, output: Tensor | Sequence[Tensor], images: int) -> tuple[Tensor, ...]:
        """Return the output as a tuple of logits, main one first, or say why it does not fit."""
        maps = (output,) if isinstance(output, Tensor) else tuple(output)
        wanted = f"[{images}, {self.classes}, h, w]"
        for logits in maps:
            if logits.ndim != 4 or logits.shape[:2] != (images, self.classes):
                raise UsageError(
                    f"{images} images and {self.classes} classes need logits {wanted}, got {list(logits.shape)}",
                    "give the model and the task the same classes",
                )
        if not maps:
            raise UsageError(f"a segmentation task needs logits {wanted}, got an empty tuple")
        return maps

    def _auxiliary_weights(self, outputs: int) -> tuple[float, ...]:
        if not isinstance(self.auxiliary_weight, tuple):
            return (self.auxiliary_weight,) * outputs
        if len(self.auxiliary_weight) != outputs:
            raise UsageError(
                f"the model has {outputs} outputs beside the first, but {len(self.auxiliary_weight)} auxiliary weights "
                f"are given: {self.auxiliary_weight}"
            )
        return self.auxiliary_weight


def refine(
    probabilities: Float[Tensor, "classes h w"],
    image: np.ndarray,
    crf: str | CrfParameters = "deeplab-v1",
) -> MaskScores:
    """Return the labels of an image after a dense CRF has moved their borders to those of the image.

    Args:
        probabilities: As `SegmentationTask.probabilities` yields them, at the image's size.
        image: The original image, uint8 `[h, w, 3]`, RGB.
        crf: A name of `geometry.dense_crf.CRF_PRESETS`, or the numbers.

    Raises:
        UsageError: As `dense_crf` does.
    """
    scores, labels = dense_crf(probabilities, torch.tensor(np.ascontiguousarray(image)), crf).max(dim=0)
    return MaskScores(labels.to(torch.uint8), scores)


def _check_labels(masks: Tensor, names: Sequence[str], classes: int) -> None:
    faulty = (masks >= classes) & (masks != IGNORE_LABEL)
    if not bool(faulty.any()):  # one wait for the device when all is well
        return
    image, y, x = faulty.nonzero()[0].tolist()
    label, count = int(masks[image, y, x]), int(faulty[image].sum())
    raise DataError(
        f"{names[image]}: the mask has the label {label} at row {y}, column {x} ({count} such pixels), but labels of "
        f"{classes} classes are 0 to {classes - 1}, and {IGNORE_LABEL} is ignored",
        "map the labels to 0, 1, 2... when the data set is read, or give the task more classes",
    )
