"""DeconvNet's way back from features to pixels (Noh et al. 2015, section 3): unpooling and deconvolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.blocks import Style
from trivet.models.necks.features import wanted_features
from trivet.structures import FeatureSpec

_KERNEL = 7  # of the first fully connected layer: VGG's last map of a 224-pixel image


class DeconvNet(nn.Module):
    """Pools the coarsest map through VGG's fully connected layers, then undoes every pooling with its switches.

    One map of the finest level comes out. Each convolution is followed by batch norm and ReLU, and keeps its bias,
    as in the authors' network file.

    Args:
        features: What the backbone publishes: consecutive levels, finest first, each halved by max pooling.
        block_layers: Deconvolutions of each level, finest first; the last one of a level makes the channels of the
            next finer one.
        hidden: Channels of the fully connected layers at width 1.
        width: Factor of `hidden`.
        norm: See `Style`.

    Attributes:
        features: Channels and stride of the one map it returns.
        weight_names: Its parameters -> where timm and torchvision keep them in their VGG classifiers.

    Raises:
        UsageError: If a level is missing, or the numbers of layers or channels are out of range.
    """

    features: tuple[FeatureSpec, ...]
    weight_names: dict[str, tuple[str, ...]]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        block_layers: tuple[int, ...] = (2, 2, 3, 3, 3),
        hidden: int = 4096,
        width: float = 1.0,
        norm: str = "bn",
    ) -> None:
        super().__init__()
        wanted_features(features, (features[0].level, features[-1].level))
        if len(block_layers) != len(features) or min(block_layers) < 1:
            raise UsageError(
                f"a DeconvNet needs block_layers of at least 1 for each of the backbone's {len(features)} levels, "
                f"got {tuple(block_layers)}",
                "give one number a level, or the levels it was made for: levels=(0, 4) on VGG-16",
            )
        middle = round(hidden * width)
        if middle < 1:
            raise UsageError(f"a DeconvNet needs hidden x width of at least 1, got {hidden} x {width}")
        style = Style(norm=norm, norm_eps=1e-5, norm_momentum=0.1, activation="relu")
        channels = [feature.channels for feature in features]
        self.fc6 = _layer(nn.Conv2d(channels[-1], middle, _KERNEL), style)
        self.fc7 = _layer(nn.Conv2d(middle, middle, 1), style)
        self.deconv6 = _layer(nn.ConvTranspose2d(middle, channels[-1], _KERNEL), style)
        finer = [channels[0], *channels[:-1]]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    _layer(nn.ConvTranspose2d(c, out if last else c, 3, padding=1), style)
                    for last in [False] * (count - 1) + [True]
                )
            )
            for c, out, count in zip(channels, finer, block_layers, strict=True)
        )
        self.features = (FeatureSpec(channels[0], features[0].stride),)
        fits = (channels[-1], middle) == (512, 4096)
        self.weight_names = _classifier_names() if fits else {}

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> tuple[Float[Tensor, "b c h w"]]:
        """Return one map of the finest map's size."""
        pooled = [_pool(x, next_) for x, next_ in zip(maps, [*maps[1:], None], strict=True)]
        x = self._through_the_middle(pooled[-1][0])
        for level in reversed(range(len(maps))):
            height, width = maps[level].shape[-2:]
            x = self.blocks[level](unpool(x, pooled[level][1], (height, width)))
        return (x,)

    def _through_the_middle(self, x: Tensor) -> Tensor:
        """Run the fully connected layers; a map smaller than their kernel is padded and cut back."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, max(0, _KERNEL - width), 0, max(0, _KERNEL - height)))
        return self.deconv6(self.fc7(self.fc6(x)))[..., :height, :width]


def unpool(
    x: Float[Tensor, "b c h w"], switches: Int64[Tensor, "b c h w"], size_hw: tuple[int, int]
) -> Float[Tensor, "b c h2 w2"]:
    """Put each number back where max pooling found it, zeros elsewhere: `F.max_unpool2d` for any float type.

    Args:
        x: The numbers.
        switches: Where each of them came from, `row * width + column`, all different within a channel.
        size_hw: The size of the map that was pooled.
    """
    flat = x.new_zeros(*x.shape[:2], size_hw[0] * size_hw[1])
    return flat.scatter(2, switches.flatten(2), x.flatten(2)).unflatten(2, size_hw)


def _pool(x: Tensor, next_: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the map pooled 2x2, and its switches; it rounds an odd side as the backbone's own pooling did."""
    height, width = x.shape[-2:]
    rounds_down = next_ is not None and tuple(next_.shape[-2:]) == (height // 2, width // 2)
    values, switches = F.max_pool2d(x, 2, ceil_mode=not rounds_down, return_indices=True)
    return values, switches


def _layer(conv: nn.Conv2d | nn.ConvTranspose2d, style: Style) -> nn.Sequential:
    """Return a convolution with norm and ReLU, started as the authors' are."""
    if isinstance(conv, nn.ConvTranspose2d):
        nn.init.normal_(conv.weight, std=0.01)
    else:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None, "DeconvNet's layers have biases"
    nn.init.zeros_(conv.bias)
    norm = style.make_norm(conv.out_channels)
    shift = getattr(norm, "bias", None)
    if isinstance(shift, nn.Parameter):
        nn.init.constant_(shift, 0.001)
    layer = nn.Sequential()
    layer.add_module("conv", conv)
    layer.add_module("norm", norm)
    layer.add_module("activation", style.make_activation())
    return layer


def _classifier_names() -> dict[str, tuple[str, ...]]:
    return {
        f"{ours}.conv.{kind}": (f"pre_logits.{timms}.{kind}", f"classifier.{torchvisions}.{kind}")
        for ours, timms, torchvisions in (("fc6", "fc1", 0), ("fc7", "fc2", 3))
        for kind in ("weight", "bias")
    }
