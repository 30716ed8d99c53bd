"""Class weights from how often each class is seen."""

from jaxtyping import Int64
from torch import Tensor

from trivet.errors import UsageError


def median_frequency_weights(counts: Int64[Tensor, "images classes"]) -> tuple[float, ...]:
    """Return a weight for each class: the median frequency over the class's own (Eigen and Fergus 2015).

    A class's frequency is its pixels over all counted pixels of the images it is in; the median is taken over the
    classes that occur, with the mean of the two in the middle for an even number. A class that never occurs gets 1.

    Args:
        counts: Pixels of each class in each image, ignored ones left out.

    Raises:
        UsageError: If there is no pixel at all or a count is negative.

    Example:
        >>> import torch
        >>> median_frequency_weights(torch.tensor([[90, 10, 0], [80, 0, 20]]))
        (0.23529411764705882, 2.0, 1.0)
    """
    if counts.ndim != 2 or bool((counts < 0).any()) or not bool(counts.any()):
        raise UsageError(
            "class weights need the pixels of each class in each image, [images, classes], not negative and not all 0, "
            f"got {list(counts.shape)} with the sum {int(counts.sum())}"
        )
    pixels = counts.sum(dim=0).double()
    image_pixels = counts.sum(dim=1).double()
    pixels_around = ((counts > 0).double() * image_pixels[:, None]).sum(dim=0)
    occurs = pixels > 0
    frequency = (pixels / pixels_around)[occurs]
    weights = pixels.new_ones(len(pixels))
    weights[occurs] = frequency.quantile(0.5) / frequency
    return tuple(weights.tolist())
