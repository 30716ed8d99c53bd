"""A neck as a graph of fusing nodes: what BiFPN, PAN and Quad-FPN share (EfficientDet, section 3).

A layout says which maps each node fuses; the same layout is repeated `layers` times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError, unknown_name
from trivet.models.blocks import Conv, MaxPool, Style, start_glorot
from trivet.models.necks.features import wanted_features
from trivet.structures import FeatureSpec

Shares = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]


def _fast_shares(weights: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    weights = weights.relu()
    return weights / (weights.sum() + 1e-4)


# How a node's weights, one an input, become shares of its sum (EfficientDet, section 3.3); "sum" has no weights.
FUSIONS: dict[str, Shares | None] = {
    "fast": _fast_shares,
    "softmax": partial(torch.softmax, dim=0),
    "sum": None,
}
_INTERPOLATIONS = ("nearest", "bilinear")
_DOWNSAMPLES = ("pool", *_INTERPOLATIONS)


@dataclass(frozen=True)
class Node:
    """One fusion: the level it makes and the maps it takes, by number.

    The maps that enter a layer are numbers 0, 1, 2... from the finest; its nodes count on from there.
    """

    level: int
    inputs: tuple[int, ...]


Layout = Callable[[int, int], tuple[Node, ...]]


class Plan:
    """Collects a layout's nodes and numbers their maps.

    Args:
        first: Finest level.
        last: Coarsest level.
    """

    def __init__(self, first: int, last: int) -> None:
        self.levels = range(first, last + 1)
        self.nodes: list[Node] = []

    def source(self, level: int) -> int:
        """Return the number of the map of this level that enters the layer."""
        return level - self.levels[0]

    def add(self, level: int, *inputs: int) -> int:
        """Add a node that makes this level from these maps, and return its map's number."""
        self.nodes.append(Node(level, inputs))
        return len(self.levels) + len(self.nodes) - 1


class Resample(nn.Module):
    """Brings a map to another size: up by interpolation, down by pooling or interpolation.

    Args:
        downsample: `pool` (3x3 max of stride 2) or an interpolation mode.
        upsample: An interpolation mode.
        padding: See `Style`.
    """

    def __init__(self, *, downsample: str, upsample: str, padding: str) -> None:
        super().__init__()
        if downsample not in _DOWNSAMPLES:
            raise unknown_name("downsample", downsample, _DOWNSAMPLES)
        if upsample not in _INTERPOLATIONS:
            raise unknown_name("upsample", upsample, _INTERPOLATIONS)
        self.upsample = upsample
        self.downsample = downsample
        self.pool = MaxPool(padding=padding)

    def forward(self, x: Float[Tensor, "b c h w"], size_hw: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
        """Return `x` at `size_hw`, at most one level away."""
        here = tuple(x.shape[-2:])
        smaller = here[0] > size_hw[0] or here[1] > size_hw[1]
        if smaller and self.downsample == "pool":
            x = self.pool(x)
            here = tuple(x.shape[-2:])
        if here == tuple(size_hw):
            return x
        mode = self.upsample if self.downsample == "pool" or not smaller else self.downsample
        return F.interpolate(x, size_hw, mode=mode, align_corners=False if mode == "bilinear" else None)


class Fuse(nn.Module):
    """Weighted sum of maps of one size.

    Args:
        count: How many maps.
        fusion: A name of `FUSIONS` (`fast` divides weights clipped at 0 by their sum + 1e-4), or a function from
            weights to shares.
    """

    def __init__(self, count: int, fusion: str | Shares) -> None:
        super().__init__()
        if isinstance(fusion, str) and fusion not in FUSIONS:
            raise unknown_name("fusion", fusion, FUSIONS)
        self.shares = FUSIONS[fusion] if isinstance(fusion, str) else fusion
        self.weights = nn.Parameter(torch.ones(count)) if self.shares else None

    def forward(self, maps: Sequence[Float[Tensor, "b c h w"]]) -> Float[Tensor, "b c h w"]:
        """Return one map."""
        if self.shares is None or self.weights is None:
            return _sum(maps)
        shares = self.shares(self.weights).to(maps[0].dtype).unbind()
        return _sum([x * share for x, share in zip(maps, shares, strict=True)])


def _sum(maps: Sequence[Tensor]) -> Tensor:
    total = maps[0]
    for other in maps[1:]:
        total = total + other
    return total


def project(in_channels: int, channels: int, style: Style) -> Conv:
    """Return the 1x1 convolution with norm that brings a backbone's map to the neck's channels."""
    conv = Conv(in_channels, channels, 1, bias=style.redundant_bias, norm=style.make_norm(channels))
    start_glorot(conv.full)
    return conv


class FusionNode(nn.Module):
    """Resample, fuse, activate, convolve: one node of the graph.

    Args:
        inputs: Map number -> its channels; a map whose channels differ from `channels` gets its own projection.
        channels: Channels of the result.
        fusion: See `Fuse`.
        resample: How inputs are brought to this node's size.
        style: How the convolution is built.
    """

    def __init__(
        self,
        inputs: Mapping[int, int],
        channels: int,
        *,
        fusion: str | Shares,
        resample: Resample,
        style: Style,
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.project = nn.ModuleDict(
            {str(number): project(c, channels, style) for number, c in inputs.items() if c != channels}
        )
        self.resample = resample
        self.fuse = Fuse(len(inputs), fusion)
        self.activation = style.make_activation()
        self.conv = Conv(
            channels,
            channels,
            separable=style.separable,
            bias=style.redundant_bias,
            norm=style.make_norm(channels),
        )
        for conv in self.conv.convolutions:
            start_glorot(conv)

    def forward(self, maps: Sequence[Tensor], size_hw: tuple[int, int]) -> Float[Tensor, "b c h w"]:
        """Return this node's map, given all maps made so far."""
        ready = []
        for number in self.inputs:
            x, name = maps[number], str(number)
            ready.append(self.resample(self.project[name](x) if name in self.project else x, size_hw))
        return self.conv(self.activation(self.fuse(ready)))


class GraphLayer(nn.Module):
    """One pass over a layout's nodes.

    Args:
        in_channels: Channels of each map that enters, finest first.
        layout: The nodes, in the order in which they are computed; the last ones are the result.
        channels: Channels of every node.
        fusion: See `Fuse`.
        resample: How inputs are brought to a node's size.
        style: How the convolutions are built.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        layout: Sequence[Node],
        *,
        channels: int,
        fusion: str | Shares,
        resample: Resample,
        style: Style,
    ) -> None:
        super().__init__()
        self.layout = tuple(layout)
        self.min_level = min(node.level for node in layout)
        known = [*in_channels, *([channels] * len(layout))]
        self.nodes = nn.ModuleList(
            FusionNode(
                {i: known[i] for i in node.inputs}, channels, fusion=fusion, resample=resample, style=style
            )
            for node in layout
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return as many maps as entered, of the same sizes."""
        known = list(maps)
        for node, module in zip(self.layout, self.nodes, strict=True):
            size_hw = tuple(maps[node.level - self.min_level].shape[-2:])
            known.append(module(known, size_hw))
        return tuple(known[-len(maps) :])


class GraphNeck(nn.Module):
    """A layout repeated, on the backbone's maps and coarser ones pooled from the last of them.

    Args:
        features: What the backbone publishes, finest first.
        layout: Function of the finest and coarsest level that returns the nodes.
        channels: Channels of every map it returns.
        layers: How often the layout is repeated.
        levels: Finest and coarsest level returned.
        fusion: See `Fuse`.
        downsample: See `Resample`.
        upsample: See `Resample`.
        style: How the convolutions are built.

    Raises:
        UsageError: If the backbone lacks a level the neck starts from, or an argument is out of range.
    """

    features: tuple[FeatureSpec, ...]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        layout: Layout,
        channels: int = 64,
        layers: int = 3,
        levels: tuple[int, int] = (3, 7),
        fusion: str | Shares = "fast",
        downsample: str = "pool",
        upsample: str = "nearest",
        style: Style | None = None,
    ) -> None:
        super().__init__()
        if levels[1] <= levels[0]:
            raise UsageError(f"this neck fuses neighbours and needs at least two levels, got {tuple(levels)}")
        if layers < 1 or channels < 1:
            raise UsageError(f"a neck needs layers and channels of at least 1, got {layers} and {channels}")
        style = style or Style()
        used = wanted_features(features, levels)
        self.count = len(used)
        self.levels = range(levels[0], levels[1] + 1)
        self.features = tuple(FeatureSpec(channels, 2**level) for level in self.levels)
        self.resample = Resample(downsample=downsample, upsample=upsample, padding=style.padding)
        own = [channels] * len(self.levels)
        entering = [*(feature.channels for feature in used), *own[self.count :]]
        self.extra = nn.ModuleDict()
        if len(used) < len(own) and used[-1].channels != channels:
            self.extra[f"p{used[-1].level + 1}"] = project(used[-1].channels, channels, style)
        self.layers = nn.ModuleList(
            GraphLayer(
                entering if number == 0 else own,
                layout(*levels),
                channels=channels,
                fusion=fusion,
                resample=self.resample,
                style=style,
            )
            for number in range(layers)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one map a level from the backbone's, finest first."""
        maps = list(maps[-self.count :])
        for level in self.levels[len(maps) :]:
            last, name = maps[-1], f"p{level}"
            projected = self.extra[name](last) if name in self.extra else last
            half = tuple((side + 1) // 2 for side in last.shape[-2:])
            maps.append(self.resample(projected, half))
        for layer in self.layers:
            maps = layer(maps)
        return tuple(maps)
