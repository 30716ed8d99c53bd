"""CSPDarknet53 (YOLOv4, arXiv:2004.10934, section 3.4) with Mish, layer for layer as darknet's yolov4.cfg has it.

timm's network of that name is the same but for leaky ReLU in place of Mish, one convolution for both branches of a
stage, and the order in which their maps are joined.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.blocks import Conv, MakeNorm, Style, start_normal
from trivet.models.spec import Colour
from trivet.structures import FeatureSpec

_STEM = 32
_STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # channels, residual blocks


class ConvUnit(nn.Sequential):
    """Convolution, norm, activation: what darknet calls a convolutional layer.

    A side of n pixels becomes ceil(n / stride).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        kernel: Side of the kernel, odd.
        stride: Pixels from one place of the kernel to the next.
        style: How it is built; its `separable` is followed for kernels over 1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, *, stride: int = 1, style: Style
    ) -> None:
        super().__init__()
        separable = style.separable and kernel > 1 and stride == 1
        self.conv = Conv(
            in_channels,
            out_channels,
            kernel,
            separable=separable,
            bias=style.redundant_bias,
            norm=style.make_norm(out_channels),
        )
        self.conv.convolutions[0].stride = (stride, stride)
        self.activation = style.make_activation()
        for conv in self.conv.convolutions:
            # the activations let half of the variance through: twice that of the inputs goes in
            start_normal(conv, (2 / conv.weight[0].numel()) ** 0.5)


class Residual(nn.Module):
    """A 1x1 and a 3x3 unit whose result is added to their input.

    Args:
        channels: Channels of input and result.
        inner: Channels between the two.
        style: How the units are built.
    """

    def __init__(self, channels: int, inner: int, *, style: Style) -> None:
        super().__init__()
        self.reduce = ConvUnit(channels, inner, 1, style=style)
        self.expand = ConvUnit(inner, channels, 3, style=style)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add what the two units make of a map to it."""
        return x + self.expand(self.reduce(x))


class Stage(nn.Module):
    """A cross-stage-partial stage: halve, go two ways, one of them through residual blocks, and join (CSPNet, section 3).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        blocks: Residual blocks.
        first: Whether it is the network's first stage, whose branches have all the channels rather than half of them.
        style: How the units are built.
    """

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int, *, first: bool, style: Style
    ) -> None:
        super().__init__()
        width = out_channels if first else out_channels // 2
        inner = width // 2 if first else width
        # in the order of yolov4.cfg, which is that of a darknet file
        self.down = ConvUnit(in_channels, out_channels, 3, stride=2, style=style)
        self.short = ConvUnit(out_channels, width, 1, style=style)
        self.enter = ConvUnit(out_channels, width, 1, style=style)
        self.blocks = nn.Sequential(*(Residual(width, inner, style=style) for _ in range(blocks)))
        self.leave = ConvUnit(width, width, 1, style=style)
        self.join = ConvUnit(2 * width, out_channels, 1, style=style)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Halve both sides, rounding up."""
        x = self.down(x)
        long = self.leave(self.blocks(self.enter(x)))
        return self.join(torch.cat([long, self.short(x)], dim=1))


class CSPDarknet53(nn.Module):
    """The backbone of YOLOv4: a stem and five stages, each of which halves the map.

    Args:
        levels: Finest and coarsest level wanted, in 1-5; stages coarser than that are left out.
        width: Factor of every layer's channels, which are rounded to multiples of 4.
        depth: Factor of each stage's residual blocks, at least one of which stays.
        norm: As `Style.norm`: `bn`, `gn`, `frozen_bn` or a function of the channels.

    Attributes:
        features: Channels and stride of each map, finest first.
        mean: 0 and `std` 1: darknet's images are in 0-1 and no more.

    Raises:
        UsageError: If no map is within the levels, or width or depth is not above 0 and finite.
    """

    features: tuple[FeatureSpec, ...]
    mean: Colour = (0.0, 0.0, 0.0)
    std: Colour = (1.0, 1.0, 1.0)

    def __init__(
        self,
        *,
        levels: tuple[int, int] = (3, 5),
        width: float = 1.0,
        depth: float = 1.0,
        norm: str | MakeNorm = "bn",
    ) -> None:
        super().__init__()
        if not 0 < width < float("inf") or not 0 < depth < float("inf"):
            raise UsageError(
                f"a CSPDarknet53 needs width and depth above 0, got width={width}, depth={depth}"
            )
        wanted = [level for level in range(1, len(_STAGES) + 1) if levels[0] <= level <= levels[1]]
        if not wanted:
            raise UsageError(
                f"CSPDarknet53 has maps of levels 1 to {len(_STAGES)}, none of them within levels "
                f"{levels[0]} to {levels[1]}",
                "choose other levels",
            )
        style = Style(norm=norm, norm_eps=1e-5, activation="mish", separable=False)
        channels = [_scaled(count, width) for count in (_STEM, *(count for count, _ in _STAGES))]
        self.stem = ConvUnit(3, channels[0], 3, style=style)
        self.stages = nn.ModuleList(
            Stage(
                channels[number],
                channels[number + 1],
                max(1, round(blocks * depth)),
                first=number == 0,
                style=style,
            )
            for number, (_, blocks) in enumerate(_STAGES[: wanted[-1]])
        )
        self._levels = tuple(wanted)
        self.features = tuple(FeatureSpec(channels[level], 2**level) for level in wanted)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Return the feature maps of normalised images, finest first."""
        maps, x = [], self.stem(images)
        for level, stage in enumerate(self.stages, 1):
            x = stage(x)
            if level in self._levels:
                maps.append(x)
        return tuple(maps)


def _scaled(channels: int, width: float) -> int:
    return max(4, round(channels * width / 4) * 4)


# Backbones of ours; every other name is timm's.
BACKBONES: dict[str, Callable[..., nn.Module]] = {"cspdarknet53_mish": CSPDarknet53}
