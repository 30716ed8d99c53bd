"""The anchor head of RetinaNet and EfficientDet: one tower for classes, one for boxes."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.geometry.anchors import AnchorSpec
from trivet.models.blocks import Conv, Style, start_normal
from trivet.structures import AnchorOutput, FeatureSpec, TaskName


class Tower(nn.Module):
    """Convolutions that all levels share, with a norm of its own for each level and repeat, and the prediction.

    Args:
        channels: Channels of every level.
        out_channels: Channels of the prediction.
        layers: Convolutions before the prediction.
        levels: How many levels.
        style: How the convolutions are built.
    """

    def __init__(self, channels: int, out_channels: int, *, layers: int, levels: int, style: Style) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            Conv(channels, channels, separable=style.separable, bias=style.redundant_bias)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(style.make_norm(channels) for _ in range(levels)) for _ in range(layers)
        )
        self.activation = style.make_activation()
        self.predict = Conv(channels, out_channels, separable=style.separable, bias=True)
        for block in (*self.convs, self.predict):
            for conv in block.convolutions:
                start_normal(conv, None if style.separable else 0.01)

    def forward(self, maps: Sequence[Float[Tensor, "b c _ _"]]) -> tuple[Float[Tensor, "b o _ _"], ...]:
        """Return the prediction of each level."""
        predictions = []
        for level, x in enumerate(maps):
            for conv, norm in zip(self.convs, self._norms_of(level), strict=True):
                x = self.activation(norm(conv(x)))
            predictions.append(self.predict(x))
        return tuple(predictions)

    def _norms_of(self, level: int) -> list[nn.Module]:
        return [list(norms.children())[level] for norms in self.norms]


class AnchorHead(nn.Module):
    """Class logits and box deltas for every anchor of every cell.

    Args:
        features: What the neck publishes: consecutive levels of equal channels, finest first.
        classes: How many classes; there is no background class.
        tower_layers: Convolutions of each tower before its prediction.
        anchor_octaves: Anchor sizes a level.
        anchor_ratios: (width, height) factor of each anchor shape.
        anchor_scale: Side of the smallest square anchor, in strides.
        prior: Every class's probability at the start, in 0-1 (RetinaNet, section 4.1).
        style: How the convolutions are built.

    Attributes:
        task: What its output is for.
        anchor_spec: The anchors that the output is relative to.
        class_rows: Parameters with a block of rows a class -> how often the block repeats (once an anchor).

    Raises:
        UsageError: If `classes`, `tower_layers` or `prior` is out of range, or the levels differ in channels.
    """

    task: TaskName = "detection"
    anchor_spec: AnchorSpec
    class_rows: dict[str, int]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        classes: int,
        tower_layers: int = 3,
        anchor_octaves: int = 3,
        anchor_ratios: tuple[tuple[float, float], ...] = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)),
        anchor_scale: float = 4.0,
        prior: float = 0.01,
        style: Style | None = None,
    ) -> None:
        super().__init__()
        if classes < 1 or tower_layers < 0 or not 0 < prior < 1:
            raise UsageError(
                "an anchor head needs classes >= 1, tower_layers >= 0 and prior in (0, 1), "
                f"got {classes}, {tower_layers} and {prior}"
            )
        if len({feature.channels for feature in features}) != 1:
            raise UsageError(f"an anchor head needs levels of equal channels, got {features}")
        style = style or Style()
        self.classes = classes
        self.prior = prior
        self.anchor_spec = AnchorSpec(
            features[0].level, features[-1].level, anchor_octaves, anchor_ratios, anchor_scale
        )
        per_cell = anchor_octaves * len(anchor_ratios)
        channels, levels = features[0].channels, len(features)
        self.class_tower = Tower(
            channels, per_cell * classes, layers=tower_layers, levels=levels, style=style
        )
        self.box_tower = Tower(channels, per_cell * 4, layers=tower_layers, levels=levels, style=style)
        bias = self.class_tower.predict.convolutions[-1].bias
        assert bias is not None, "a tower's prediction has a bias"
        nn.init.constant_(bias, -math.log((1 - prior) / prior))
        last = "pointwise" if style.separable else "full"
        self.class_rows = {f"class_tower.predict.{last}.{kind}": per_cell for kind in ("weight", "bias")}

    def forward(self, maps: Sequence[Float[Tensor, "b c _ _"]]) -> AnchorOutput:
        """Return the raw output of every level, finest first."""
        return AnchorOutput(self.class_tower(maps), self.box_tower(maps))
