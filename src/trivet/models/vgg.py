"""VGG-16 (Simonyan & Zisserman 2015, configuration D): timm's network, in any width and as DeepLab changed it."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.spec import Colour
from trivet.structures import FeatureSpec

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


class VGG16(nn.Module):
    """Five blocks of 3x3 convolutions, each followed by max pooling; layers are named as timm names them.

    Pooling rounds up, as the authors' Caffe did (timm rounds down): no pixel is lost, whatever the image's size.

    Args:
        batch_norm: A batch norm after each convolution.
        levels: Finest and coarsest level wanted, in 0-5.
        width: Factor of every layer's channels.
        atrous: DeepLab v1's changes (Chen et al. 2015, section 3.1): poolings overlap (3x3), the last two keep the
            size, and the last block's convolutions skip every other cell instead. The coarsest stride is then 8.

    Attributes:
        features: Channels and stride of each map, finest first; one map a stride, the deepest. A block's map is
            taken before its pooling, the last one after it.
        mean: Mean of the images it was trained on by channel, in 0-1.
        std: Their standard deviation, in 0-1.

    Raises:
        UsageError: If no map is within the levels, or the width leaves a layer without channels.
    """

    features: tuple[FeatureSpec, ...]
    mean: Colour = (0.485, 0.456, 0.406)
    std: Colour = (0.229, 0.224, 0.225)
    runs_layers_itself = True

    def __init__(
        self,
        *,
        batch_norm: bool = False,
        levels: tuple[int, int] = (3, 5),
        width: float = 1.0,
        atrous: bool = False,
    ) -> None:
        super().__init__()
        blocks = [(round(channels * width), count) for channels, count in _BLOCKS]
        if blocks[0][0] < 1:
            raise UsageError(f"a VGG-16 of width {width} has no channels", "give a width of 1/64 or more")
        layers: list[nn.Module] = []
        deepest: dict[int, tuple[int, int]] = {}  # stride -> number of the layer, channels
        before, stride = 3, 1
        for number, (channels, count) in enumerate(blocks):
            dilation = 2 if atrous and number == 4 else 1
            for _ in range(count):
                layers += _convolution(before, channels, dilation=dilation, batch_norm=batch_norm)
                before = channels
            deepest[stride] = (len(layers) - 1, channels)
            keeps_size = atrous and number >= 3
            layers.append(_pool(overlapping=atrous, stride=1 if keeps_size else 2))
            stride *= 1 if keeps_size else 2
        deepest[stride] = (len(layers) - 1, before)
        wanted = {s: tap for s, tap in deepest.items() if 2 ** levels[0] <= s <= 2 ** levels[1]}
        if not wanted:
            raise UsageError(
                f"this VGG-16 has maps of strides {sorted(deepest)}, none of them within levels {levels[0]} to "
                f"{levels[1]} (strides {2 ** levels[0]} to {2 ** levels[1]})",
                "choose other levels",
            )
        self.features = tuple(FeatureSpec(channels, s) for s, (_, channels) in wanted.items())
        self._taps = [layer for layer, _ in wanted.values()]
        self.body = nn.ModuleDict({"features": nn.Sequential(*layers[: self._taps[-1] + 1])})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None, "VGG's convolutions have biases"
                nn.init.zeros_(module.bias)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Return the feature maps of normalised images, finest first."""
        maps, x = [], images
        for number, layer in enumerate(self.body["features"].children()):
            x = layer(x)
            if number in self._taps:
                maps.append(x)
        return tuple(maps)


def _convolution(before: int, channels: int, *, dilation: int, batch_norm: bool) -> list[nn.Module]:
    conv = nn.Conv2d(before, channels, 3, padding=dilation, dilation=dilation)
    norm = [nn.BatchNorm2d(channels)] if batch_norm else []
    return [conv, *norm, nn.ReLU(inplace=True)]


def _pool(*, overlapping: bool, stride: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride, padding=1) if overlapping else nn.MaxPool2d(2, stride, ceil_mode=True)


# Backbones of ours; every other name is timm's.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "vgg16": partial(VGG16, batch_norm=False),
    "vgg16_bn": partial(VGG16, batch_norm=True),
}
