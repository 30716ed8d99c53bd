"""The soft Dice loss."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class DiceLoss:
    """1 - the soft Dice coefficient, 2 sum(p g) / (sum(p) + sum(g)), the mean over the classes in the image.

    The form without squares (Drozdzal et al. 2016, "The Importance of Skip Connections in Biomedical Image
    Segmentation"), with p the softmax and g the truth, 0 or 1. Classes that the image does not hold are left out:
    their coefficient is 0 whatever the network says.
    """

    def __call__(self, logits: Float[Tensor, "classes n"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the image's loss, 0-1, times its pixels."""
        classes, pixels = logits.shape
        probabilities = logits.softmax(dim=0)
        truth = F.one_hot(labels, classes).T.to(probabilities.dtype)
        overlap = torch.einsum("cn,cn->c", probabilities, truth)
        truth_pixels = truth.sum(dim=1)
        dice = 2 * overlap / (probabilities.sum(dim=1) + truth_pixels)
        return pixels * (1 - dice[truth_pixels > 0].mean())
