"""A model that looks at every image twice, as it is and mirrored."""

import math

import torch
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.model import Model


def average_mirrored(model: Model) -> Model:
    """Let a model in evaluation average its probabilities over each image and its mirror image; returns the model.

    What it gives are then the logarithms of the averaged probabilities, so that whoever takes their softmax has
    these. Of several outputs only the first is kept. In training nothing changes.

    Args:
        model: A classifier, or a segmenter; prediction takes twice as long.

    Raises:
        UsageError: If it is a detector.
    """
    if model.task == "detection":
        raise UsageError(
            "averaging over the mirror image is for classifiers and segmenters, and this model is a detector"
        )
    model.register_forward_hook(_average)
    return model


def _average(
    module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]
) -> Tensor | tuple[Tensor, ...]:
    if module.training:
        return output
    mirrored = _first(module.forward(arguments[0].flip(-1)))  # `forward` itself: a call would come here again
    if mirrored.ndim == 4:
        mirrored = mirrored.flip(-1)
    both = (_first(output).float().log_softmax(dim=1), mirrored.float().log_softmax(dim=1))
    return torch.logaddexp(*both) - math.log(2)


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]
