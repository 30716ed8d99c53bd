"""FPN (Lin et al. 2017, section 3), with RetinaNet's strided convolutions for the coarser levels."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.blocks import Conv, StridedConv, Style, start_glorot
from trivet.models.necks.features import wanted_features
from trivet.structures import FeatureSpec


class FPN(nn.Module):
    """Adds each level, brought to equal channels, to the coarser one enlarged; a 3x3 convolution ends each.

    Args:
        features: What the backbone publishes, finest first.
        channels: Channels of every map it returns.
        levels: Finest and coarsest level returned.
        style: How the convolutions are built.

    Raises:
        UsageError: If the backbone lacks a level the neck starts from, or `channels` is out of range.
    """

    features: tuple[FeatureSpec, ...]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        channels: int = 64,
        levels: tuple[int, int] = (3, 7),
        style: Style | None = None,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise UsageError(f"a neck needs channels of at least 1, got {channels}")
        style = style or Style()
        used = wanted_features(features, levels)
        self.count = len(used)
        bias = style.redundant_bias
        self.lateral = nn.ModuleList(
            Conv(feature.channels, channels, 1, bias=bias, norm=style.make_norm(channels)) for feature in used
        )
        self.output = nn.ModuleList(
            Conv(channels, channels, separable=style.separable, bias=bias, norm=style.make_norm(channels))
            for _ in used
        )
        self.extra = nn.ModuleList(
            StridedConv(channels, channels, padding=style.padding) for _ in range(used[-1].level, levels[1])
        )
        self.features = tuple(FeatureSpec(channels, 2**level) for level in range(levels[0], levels[1] + 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                start_glorot(module)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> tuple[Tensor, ...]:
        """Return one map a level from the backbone's, finest first."""
        merged = [lateral(x) for lateral, x in zip(self.lateral, maps[-self.count :], strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            coarser = F.interpolate(merged[level + 1], merged[level].shape[-2:], mode="nearest")
            merged[level] = merged[level] + coarser
        results = [output(x) for output, x in zip(self.output, merged, strict=True)]
        for number, extra in enumerate(self.extra):
            results.append(extra(F.relu(results[-1]) if number else results[-1]))
        return tuple(results)
