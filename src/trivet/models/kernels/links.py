"""What a chain is made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from trivet.models.backbone import SQUEEZE
from trivet.models.kernels.activations import Activation
from trivet.models.kernels.shape import Shape

_PLAIN = Activation()


@dataclass(frozen=True)
class Link:
    """A convolution and what its input goes through first.

    Args:
        weight: Depthwise or pointwise, float32.
        bias: A pointwise convolution's, if it has one.
        shape: The sides of a depthwise convolution; `None` for a pointwise one.
        norm: In training mode, see `can_normalise`; `None` where the input is read as it is.
        activation: What follows the norm.
        squeeze: timm's squeeze and excitation after the activation, before a pointwise convolution.
    """

    weight: Tensor
    bias: Tensor | None = None
    shape: Shape | None = None
    norm: nn.BatchNorm2d | None = None
    activation: Activation = _PLAIN
    squeeze: SQUEEZE | None = None


@dataclass(frozen=True)
class End:
    """What the last convolution's result goes through.

    Args:
        norm: In training mode; `None` where the result stays as it is.
        activation: What follows the norm.
        keep: A factor for each image and channel, `[b, c]`: drop path.
        shortcut: Whether the chain's input is added.
    """

    norm: nn.BatchNorm2d | None = None
    activation: Activation = _PLAIN
    keep: Tensor | None = None
    shortcut: bool = False


@dataclass(frozen=True)
class Chain:
    """Links in a row and their end."""

    links: tuple[Link, ...]
    end: End = End()

    @cached_property
    def parameters(self) -> tuple[Tensor, ...]:
        """What the chain's gradients are taken of, besides its input."""
        return tuple(self._parameters())

    def _parameters(self) -> Iterator[Tensor]:
        for link in self.links:
            if link.norm is not None:
                yield from (link.norm.weight, link.norm.bias)
            if link.squeeze is not None:
                yield from link.squeeze.parameters()
            yield from (tensor for tensor in (link.weight, link.bias) if tensor is not None)
        if self.end.norm is not None:
            yield from (self.end.norm.weight, self.end.norm.bias)
