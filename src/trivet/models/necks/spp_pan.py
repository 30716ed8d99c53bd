"""YOLOv4's neck: spatial pyramid pooling at the coarsest level, then path aggregation that joins maps (section 3.4).

Maps are put side by side where PANet adds them. Layers and their order are those of darknet's yolov4.cfg.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.blocks import Style
from trivet.models.csp_darknet import ConvUnit
from trivet.models.necks.features import wanted_features
from trivet.structures import FeatureSpec

POOLED = (13, 9, 5)
"""Sides of the windows of pooling, in the order in which their maps are joined, before the map itself."""


class PyramidPooling(nn.Module):
    """The largest value of windows of three sizes around each cell, beside the cell's own (He et al. 2014, as in YOLOv3-SPP)."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c4 h w"]:
        """Return a map of the same size with four times the channels."""
        return torch.cat([*(F.max_pool2d(x, side, stride=1, padding=side // 2) for side in POOLED), x], dim=1)


class Squeeze(nn.Sequential):
    """1x1, 3x3, 1x1 and so on: an odd number of units, the 1x1 ones with `channels`, the 3x3 ones with twice as many.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the result.
        units: How many.
        style: How they are built.
    """

    def __init__(self, in_channels: int, channels: int, units: int, *, style: Style) -> None:
        first = [ConvUnit(in_channels, channels, 1, style=style)]
        for _ in range(units // 2):
            first.append(ConvUnit(channels, 2 * channels, 3, style=style))
            first.append(ConvUnit(2 * channels, channels, 1, style=style))
        super().__init__(*first)


class SppPan(nn.Module):
    """Pools at the coarsest level, goes down to the finest and up again; at every level five convolutions join the maps.

    Args:
        features: What the backbone publishes, finest first.
        channels: Channels of every map it returns; `None` = half of the backbone's at the same level, as published.
        levels: Finest and coarsest level returned; strided convolutions make those the backbone lacks.
        style: How the convolutions are built.

    Raises:
        UsageError: If the backbone lacks a level the neck starts from, or an argument is out of range.
    """

    features: tuple[FeatureSpec, ...]
    extra: nn.ModuleList
    up: nn.ModuleList

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        channels: int | None = None,
        levels: tuple[int, int] = (3, 5),
        style: Style | None = None,
    ) -> None:
        super().__init__()
        if levels[1] <= levels[0]:
            raise UsageError(f"this neck joins neighbours and needs at least two levels, got {tuple(levels)}")
        if channels is not None and channels < 1:
            raise UsageError(f"a neck needs channels of at least 1, got {channels}")
        style = style or Style(separable=False)
        used = wanted_features(features, levels)
        self.count = len(used)
        entering = [feature.channels for feature in used]
        entering += entering[-1:] * (levels[1] - levels[0] + 1 - self.count)
        own = [max(1, count // 2) if channels is None else channels for count in entering]
        self.extra = nn.ModuleList(
            ConvUnit(count, count, 3, stride=2, style=style) for count in entering[self.count :]
        )
        coarsest = own[-1]
        self.before = Squeeze(entering[-1], coarsest, 3, style=style)
        self.pool = PyramidPooling()
        self.after = Squeeze(4 * coarsest, coarsest, 3, style=style)
        # finest first, but named and made in the order in which they run, which is that of a darknet file
        finer = range(len(own) - 2, -1, -1)
        self.down = nn.ModuleList(
            Down(own[level + 1], entering[level], own[level], style=style) for level in finer
        )
        self.up = nn.ModuleList(Up(own[level], own[level + 1], style=style) for level in range(len(own) - 1))
        self.features = tuple(
            FeatureSpec(count, 2**level) for level, count in enumerate(own, start=levels[0])
        )

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> tuple[Tensor, ...]:
        """Return one map a level from the backbone's, finest first."""
        maps = list(maps[-self.count :])
        for extra in self.extra:
            maps.append(extra(maps[-1]))
        merged = [self.after(self.pool(self.before(maps[-1])))]  # coarsest first
        for down, x in zip(self.down, reversed(maps[:-1]), strict=True):
            merged.append(down(merged[-1], x))
        results = [merged.pop()]
        for up in self.up:
            results.append(up(results[-1], merged.pop()))
        return tuple(results)


class Down(nn.Module):
    """Joins the backbone's map of a level with the coarser level's, enlarged.

    Args:
        coarser: Channels of the coarser level's map.
        entering: Channels of the backbone's map.
        channels: Channels of the result.
        style: How the convolutions are built.
    """

    def __init__(self, coarser: int, entering: int, channels: int, *, style: Style) -> None:
        super().__init__()
        self.reduce = ConvUnit(coarser, channels, 1, style=style)
        self.lateral = ConvUnit(entering, channels, 1, style=style)
        self.mix = Squeeze(2 * channels, channels, 5, style=style)

    def forward(
        self, coarser: Float[Tensor, "b _ _ _"], x: Float[Tensor, "b _ h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the level's map on the way down."""
        enlarged = F.interpolate(self.reduce(coarser), x.shape[-2:], mode="nearest")
        return self.mix(torch.cat([self.lateral(x), enlarged], dim=1))


class Up(nn.Module):
    """Joins a level's map from the way down with the finer level's result, halved.

    Args:
        finer: Channels of the finer level's result.
        channels: Channels of the level's map, and of the result.
        style: How the convolutions are built.
    """

    def __init__(self, finer: int, channels: int, *, style: Style) -> None:
        super().__init__()
        self.halve = ConvUnit(finer, channels, 3, stride=2, style=style)
        self.mix = Squeeze(2 * channels, channels, 5, style=style)

    def forward(
        self, finer: Float[Tensor, "b _ _ _"], x: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the level's result."""
        halved = self.halve(finer)
        if halved.shape[-2:] != x.shape[-2:]:  # a backbone that rounds down where convolutions round up
            halved = F.interpolate(halved, x.shape[-2:], mode="nearest")
        return self.mix(torch.cat([halved, x], dim=1))
