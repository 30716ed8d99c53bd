"""The layers every neck and head is made of: convolution, norm, activation, pooling, and how they start."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError, unknown_name

MakeNorm = Callable[[int], nn.Module]
MakeActivation = Callable[[], nn.Module]

PADDINGS = ("same", "symmetric")

# In place only where the gradient needs the result alone; for the others autograd would keep a copy anyway.
ACTIVATIONS: dict[str, MakeActivation] = {
    "silu": nn.SiLU,
    "relu": partial(nn.ReLU, inplace=True),
    "relu6": partial(nn.ReLU6, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),
    "leaky_relu_0.1": partial(nn.LeakyReLU, 0.1, inplace=True),  # darknet's
    "hard_swish": nn.Hardswish,
    "mish": nn.Mish,
    "gelu": nn.GELU,
}


class FrozenBatchNorm(nn.Module):
    """Batch norm whose statistics, scale and shift never change; it loads any batch norm's weights.

    Args:
        channels: Channels of the input.
        eps: Added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scale and shift each channel by its fixed amount."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def _group_norm(channels: int, *, eps: float) -> nn.GroupNorm:
    groups = next(count for count in range(min(32, channels), 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels, eps=eps)


def _batch_norm(channels: int, *, eps: float, momentum: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=eps, momentum=momentum)


NORMS: dict[str, Callable[["Style"], MakeNorm]] = {
    "bn": lambda style: partial(_batch_norm, eps=style.norm_eps, momentum=style.norm_momentum),
    "gn": lambda style: partial(_group_norm, eps=style.norm_eps),
    "frozen_bn": lambda style: partial(FrozenBatchNorm, eps=style.norm_eps),
}


@dataclass(frozen=True)
class Style:
    """How the convolutions of a neck or a head are built: one choice for the whole part.

    Args:
        norm: `bn`, `gn` (the largest group count up to 32 that divides the channels), `frozen_bn`, or a
            function of the channels that makes the layer.
        norm_eps: Added to the variance.
        norm_momentum: Weight of a new batch's statistics; the published detectors use 0.01, timm's backbones 0.1.
        activation: A name from `ACTIVATIONS`, or a function without arguments that makes the layer.
        separable: Depthwise 3x3 then pointwise 1x1 instead of a full 3x3 convolution.
        redundant_bias: Biases also where a norm follows, as the published TensorFlow weights have them.
        padding: `same` pads a strided layer as TensorFlow does (the odd pixel at the right and bottom),
            `symmetric` as PyTorch does. They differ for even sizes only, and weights of one do not suit the other.
    """

    norm: str | MakeNorm = "bn"
    norm_eps: float = 1e-3
    norm_momentum: float = 0.01
    activation: str | MakeActivation = "silu"
    separable: bool = True
    redundant_bias: bool = False
    padding: str = "symmetric"

    def __post_init__(self) -> None:
        if isinstance(self.norm, str) and self.norm not in NORMS:
            raise unknown_name("norm", self.norm, NORMS)
        if isinstance(self.activation, str) and self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, ACTIVATIONS)
        if self.padding not in PADDINGS:
            raise unknown_name("padding", self.padding, PADDINGS)
        if not self.norm_eps > 0 or not 0 < self.norm_momentum <= 1:
            raise UsageError(
                f"a norm needs norm_eps above 0 and norm_momentum in (0, 1], got {self.norm_eps} and {self.norm_momentum}"
            )

    def make_norm(self, channels: int) -> nn.Module:
        """Return a new norm layer for this many channels."""
        return NORMS[self.norm](self)(channels) if isinstance(self.norm, str) else self.norm(channels)

    def make_activation(self) -> nn.Module:
        """Return a new activation layer."""
        return ACTIVATIONS[self.activation]() if isinstance(self.activation, str) else self.activation()


class Conv(nn.Sequential):
    """One convolution, separable or full, and the norm after it if there is one.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        kernel: Side of the kernel.
        separable: Depthwise then pointwise; the bias is the pointwise one's.
        bias: Whether the convolution has a bias.
        norm: The norm layer, or `None`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        separable: bool = False,
        bias: bool = False,
        norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        pad = kernel // 2
        if separable:
            self.depthwise = nn.Conv2d(
                in_channels, in_channels, kernel, padding=pad, groups=in_channels, bias=False
            )
            self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        else:
            self.full = nn.Conv2d(in_channels, out_channels, kernel, padding=pad, bias=bias)
        if norm is not None:
            self.norm = norm

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The one or two convolutions, in order; the last has the bias."""
        return [layer for layer in self if isinstance(layer, nn.Conv2d)]


class StridedConv(nn.Conv2d):
    """3x3 convolution of stride 2: a side of n pixels becomes ceil(n / 2), whatever n is.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        padding: See `Style`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, padding: str) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, padding=1 if padding == "symmetric" else 0)
        self.same = padding == "same"

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Halve both sides, rounding up."""
        if self.same:
            bottom_odd, right_odd = x.shape[-2] % 2, x.shape[-1] % 2
            x = F.pad(x, (right_odd, 1, bottom_odd, 1))
        return super().forward(x)


class MaxPool(nn.Module):
    """3x3 max pooling of stride 2: a side of n pixels becomes ceil(n / 2), whatever n is.

    Args:
        padding: See `Style`. The border never wins a maximum.
    """

    def __init__(self, *, padding: str) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Halve both sides, rounding up."""
        if self.padding == "symmetric":
            return F.max_pool2d(x, 3, stride=2, padding=1)
        # TensorFlow pads an odd side by (1, 1) and an even one by (0, 1); ceil mode gives the last 1 for nothing.
        pad = (x.shape[-2] % 2, x.shape[-1] % 2)
        return F.max_pool2d(x, 3, stride=2, padding=pad, ceil_mode=True)

    def extra_repr(self) -> str:
        """Show the padding in the model's printout."""
        return f"padding={self.padding!r}"


def start_glorot(conv: nn.Conv2d) -> None:
    """Start a convolution with Glorot's uniform distribution (groups counted as one fan), its bias at 0."""
    fan_in = conv.weight[0].numel()
    fan_out = conv.weight[:, 0].numel() // conv.groups
    limit = math.sqrt(3.0 / max(1.0, (fan_in + fan_out) / 2))
    nn.init.uniform_(conv.weight, -limit, limit)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def start_normal(conv: nn.Conv2d, std: float | None = None) -> None:
    """Start a convolution with a normal distribution, its bias at 0.

    Args:
        conv: The convolution.
        std: Standard deviation; `None` = 1 / sqrt(fan in).
    """
    nn.init.normal_(conv.weight, std=1 / math.sqrt(conv.weight[0].numel()) if std is None else std)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
