"""The Lovasz-softmax loss: a convex stand-in for 1 - IoU."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class LovaszLoss:
    """Lovasz-softmax (Berman et al. 2018, equations 8 and 9): the Lovasz extension of each class's 1 - IoU.

    The extension is taken at the pixels' errors, 1 - p where the class is and p elsewhere, with p the softmax; the
    loss is the mean over the classes in the image.
    """

    def __call__(self, logits: Float[Tensor, "classes n"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the image's loss, 0-1, times its pixels."""
        classes, pixels = logits.shape
        present = torch.bincount(labels, minlength=classes).nonzero()[:, 0]
        truth = labels == present[:, None]  # (present, n)
        errors = (truth.to(logits.dtype) - logits.softmax(dim=0)[present]).abs()
        errors, order = errors.sort(dim=1, descending=True)
        steps = _jaccard_steps(truth.gather(1, order))
        return pixels * torch.einsum("cn,cn->c", errors, steps.to(errors.dtype)).mean()


def _jaccard_steps(truth: Tensor) -> Tensor:
    """Return by how much 1 - IoU grows with each further wrong pixel, float64, `truth` in order of falling errors."""
    hits, extras = truth.cumsum(dim=1), (~truth).cumsum(dim=1)
    total = hits[:, -1:]
    loss = 1 - (total - hits).double() / (total + extras).double()
    return loss.diff(dim=1, prepend=torch.zeros_like(loss[:, :1]))
