"""Classes of a whole image from pooled maps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError, unknown_name
from trivet.models.blocks import Conv, Style, start_normal
from trivet.structures import FeatureSpec, TaskName

POOLINGS: dict[str, type[nn.AdaptiveAvgPool2d] | type[nn.AdaptiveMaxPool2d]] = {
    "average": nn.AdaptiveAvgPool2d,
    "maximum": nn.AdaptiveMaxPool2d,
}
_CHOICES = ("auto", "last", "all")


class PooledHead(nn.Module):
    """Convolutions if wanted, global pooling, dropout, a linear layer.

    Args:
        features: What the neck or backbone publishes, finest first.
        classes: How many classes.
        pool: Which maps are pooled: `all`, side by side; the `last`, coarsest; `auto` is all where they have equal
            channels, as a neck's have, else the last.
        pooling: `average` or `maximum`.
        layers: 3x3 convolutions on each pooled map, each with norm and activation.
        expand: Channels of a 1x1 convolution with norm and activation after them (EfficientNet's last one);
            `None` for none.
        dropout: Share (0-1) of the pooled values that training leaves out.
        linear_bias: Whether the linear layer has a bias.
        logit_scale: What the logits are multiplied by.
        style: How the convolutions are built.

    Attributes:
        class_rows: Parameters with a row a class.
        weight_names: Parameters that classification networks have too -> what timm calls them there.

    Raises:
        UsageError: If a name is unknown or a number out of range.
    """

    task: TaskName = "classification"
    class_rows: dict[str, int]
    weight_names: dict[str, tuple[str, ...]]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        classes: int,
        pool: str = "auto",
        pooling: str = "average",
        layers: int = 0,
        expand: int | None = None,
        dropout: float = 0.0,
        linear_bias: bool = True,
        logit_scale: float = 1.0,
        style: Style | None = None,
    ) -> None:
        super().__init__()
        if pool not in _CHOICES:
            raise unknown_name("choice of pooled maps", pool, _CHOICES)
        if pooling not in POOLINGS:
            raise unknown_name("pooling", pooling, POOLINGS)
        if classes < 1 or layers < 0 or not 0 <= dropout < 1 or (expand is not None and expand < 1):
            raise UsageError(
                "a pooled head needs classes >= 1, layers >= 0, expand >= 1 or None and dropout in [0, 1), "
                f"got {classes}, {layers}, {expand} and {dropout}"
            )
        style = style or Style()
        equal = len({feature.channels for feature in features}) == 1
        used = features if pool == "all" or (pool == "auto" and equal) else features[-1:]
        self.count = len(used)
        self.convs = nn.ModuleList(_convs(feature.channels, layers, expand, style) for feature in used)

        self.pool = POOLINGS[pooling](1)
        self.dropout = nn.Dropout(dropout)
        width = sum(expand or feature.channels for feature in used)
        self.linear = nn.Linear(width, classes, bias=linear_bias)
        self.logit_scale = logit_scale
        linear = [name for name, _ in self.linear.named_parameters()]
        self.class_rows = {f"linear.{name}": 1 for name in linear}
        self.weight_names = {f"linear.{n}": (f"classifier.{n}", f"fc.{n}", f"head.fc.{n}") for n in linear}
        if expand is not None and layers == 0 and len(used) == 1:
            statistics = (name for name in self.convs.state_dict() if name.startswith("0.0.norm."))
            self.weight_names["convs.0.0.full.weight"] = ("conv_head.weight",)
            self.weight_names |= {f"convs.{n}": (n.replace("0.0.norm", "bn2"),) for n in statistics}

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b classes"]:
        """Return logits."""
        chosen = zip(maps[-self.count :], self.convs, strict=True)
        pooled = [self.pool(convs(x)).flatten(1) for x, convs in chosen]
        return self.linear(self.dropout(torch.cat(pooled, dim=1))) * self.logit_scale


def _convs(channels: int, layers: int, expand: int | None, style: Style) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for out, kernel in [(channels, 3)] * layers + ([] if expand is None else [(expand, 1)]):
        conv = Conv(
            channels,
            out,
            kernel,
            separable=style.separable and kernel > 1,
            bias=style.redundant_bias,
            norm=style.make_norm(out),
        )
        for layer in conv.convolutions:
            start_normal(layer)
        blocks += [conv, style.make_activation()]
        channels = out
    return nn.Sequential(*blocks)
