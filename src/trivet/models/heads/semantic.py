"""A light head for masks on any neck, after the semantic branch of panoptic FPN (Kirillov et al. 2019, section 3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError, unknown_name
from trivet.models.blocks import Conv, Style, start_glorot, start_normal
from trivet.structures import FeatureSpec, TaskName

MERGES = ("sum", "concat")

_COARSEST_STRIDE = 32  # of nearly every backbone; coarser levels are made by the neck, for any size


class SemanticHead(nn.Module):
    """Class logits for every cell of the finest level, from all levels brought to its size.

    Args:
        features: What the neck publishes, finest first.
        classes: How many classes, background among them if the masks have one.
        channels: Channels of its convolutions.
        mask_layers: Convolutions (each with norm and activation) between the merged levels and the classifier.
        merge: `sum` adds the levels (those of other channels than the rest through a 1x1 convolution), `concat`
            stacks their channels.
        dropout: Share of channels dropped before the classifier in training, in [0, 1).
        style: How the convolutions are built.

    Attributes:
        task: What its output is for.
        stride: Input pixels to one cell of the output.
        multiple: What the sides of images have to be a multiple of for all levels to lie on one grid.
        class_rows: Parameters with a row a class.

    Raises:
        UsageError: If a number is out of range or `merge` is unknown.
    """

    task: TaskName = "segmentation"
    stride: int
    multiple: int
    class_rows: dict[str, int]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        classes: int,
        channels: int = 64,
        mask_layers: int = 1,
        merge: str = "sum",
        dropout: float = 0.0,
        style: Style | None = None,
    ) -> None:
        super().__init__()
        if merge not in MERGES:
            raise unknown_name("merge", merge, MERGES)
        if classes < 1 or channels < 1 or mask_layers < 0 or not 0 <= dropout < 1:
            raise UsageError(
                "a semantic head needs classes and channels >= 1, mask_layers >= 0 and dropout in [0, 1), "
                f"got {classes}, {channels}, {mask_layers} and {dropout}"
            )
        style = style or Style()
        given = [feature.channels for feature in features]
        self.stride = features[0].stride
        self.multiple = min(features[-1].stride, _COARSEST_STRIDE)
        self.merge = merge
        self.project = nn.ModuleList(
            Conv(count, channels, 1, bias=True) for count in given if merge == "sum" and len(set(given)) > 1
        )
        merged = sum(given) if merge == "concat" else channels if self.project else given[0]
        self.convs = nn.Sequential()
        for _ in range(mask_layers):
            norm = style.make_norm(channels)
            self.convs.append(
                Conv(merged, channels, separable=style.separable, bias=style.redundant_bias, norm=norm)
            )
            self.convs.append(style.make_activation())
            merged = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                start_glorot(module)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(merged, classes, 1)
        start_normal(self.classifier, 0.01)
        self.class_rows = {"classifier.weight": 1, "classifier.bias": 1}

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b classes h w"]:
        """Return logits of the finest map's size."""
        if self.project:
            maps = [project(x) for project, x in zip(self.project, maps, strict=True)]
        size_hw = maps[0].shape[-2:]
        levels = [maps[0], *(F.interpolate(x, size_hw, mode="bilinear") for x in maps[1:])]
        merged = torch.cat(levels, dim=1) if self.merge == "concat" else _sum(levels)
        return self.classifier(self.dropout(self.convs(merged)))


def _sum(levels: Sequence[Tensor]) -> Tensor:
    total = levels[0]
    for level in levels[1:]:
        total = total + level
    return total
