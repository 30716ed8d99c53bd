"""The running statistics of a norm."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Running:
    """A layer's running statistics, where it keeps them, and the share of the new batch in them."""

    mean: Tensor | None
    var: Tensor | None
    momentum: float


def running_statistics(norm: nn.BatchNorm2d) -> Running:
    """Count one more batch and return what it must move."""
    momentum = 0.0 if norm.momentum is None else norm.momentum
    if not norm.track_running_stats:
        return Running(None, None, momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    return Running(norm.running_mean, norm.running_var, momentum)
