"""A dense network for pictures of about 32 x 32 pixels that a CPU trains quickly.

Grouped and depthwise convolutions leave a CPU idle (measured: a twentieth of its rate in dense ones), so all are
dense and there are few. The shape is that of the networks that train on CIFAR-10 within seconds of a GPU: Page 2019
(`cifar10-fast`), Jordan 2024 ("94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498, section 3):
a first layer that whitens patches, three stages of pool, norm and GELU, a maximum over what is left, and a linear
layer with small logits.
"""

import math
from itertools import product

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.model import Model
from trivet.models.spec import Colour
from trivet.structures import FeatureSpec

_PATCH = 2
_PATCH_VALUES = 3 * _PATCH * _PATCH


class PatchWhitening(nn.Module):
    """2 x 2 patches as 12 directions and their opposites; the directions are given, not learnt.

    Until `fit` they are the patch's colours and differences (an orthonormal basis); `fit` takes the principal
    directions of real patches, each scaled to variance 1.

    Attributes:
        weight: float32 `[24, 3, 2, 2]`, the directions; no optimizer changes them.
        bias: float32 `[24]`, learnt.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2 * _PATCH_VALUES))
        self.register_buffer("weight", torch.empty(2 * _PATCH_VALUES, 3, _PATCH, _PATCH))
        self._set(_patch_basis())

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 24 h1 w1"]:
        """Return each patch's share of every direction; both sides become 1 smaller.

        Always in float32: the directions of least variance are scaled up so much that bfloat16 would add noise.
        """
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.conv2d(x.float(), self.weight.float(), self.bias.float())

    def fit(self, images: Float[Tensor, "b 3 h w"], *, eps: float = 5e-4) -> None:
        """Take the principal directions of these images' patches.

        Args:
            images: Normalised, as the network gets them; some thousand are plenty.
            eps: Added to each direction's variance before it is scaled to 1.
        """
        patches = nn.functional.unfold(images.float(), _PATCH).transpose(1, 2).reshape(-1, _PATCH_VALUES)
        covariance = patches.T @ patches / len(patches)
        values, vectors = torch.linalg.eigh(covariance.double())
        self._set((vectors / (values.clamp(min=0) + eps).sqrt()).T.flip(0).float())

    def _set(self, directions: Float[Tensor, "12 12"]) -> None:
        kernels = directions.reshape(_PATCH_VALUES, 3, _PATCH, _PATCH)
        with torch.no_grad():
            self.weight.copy_(torch.cat([kernels, -kernels]))


def _patch_basis() -> Float[Tensor, "12 12"]:
    """Return an orthonormal basis: mean and three differences of the four pixels, for grey and two hues."""
    hues = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    patterns = torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    rows = [torch.outer(hue, pattern).flatten() for hue, pattern in product(hues, patterns)]
    return torch.stack([row / row.norm() for row in rows])


class CompactBackbone(nn.Module):
    """Whitened patches, then a halving stage for each width.

    Args:
        widths: Channels of each stage.
        convs: Convolutions a stage.
        norm_momentum: Weight of a new batch's statistics.

    Attributes:
        features: Channels and stride of each stage, finest first.
        mean: CIFAR-10's mean by channel, in 0-1.
        std: Its standard deviation, in 0-1.

    Raises:
        UsageError: If there is no stage or a number is below 1.
    """

    features: tuple[FeatureSpec, ...]
    mean: Colour = (0.4914, 0.4822, 0.4465)
    std: Colour = (0.2470, 0.2435, 0.2616)

    def __init__(
        self, *, widths: tuple[int, ...] = (32, 128, 128), convs: int = 2, norm_momentum: float = 0.1
    ) -> None:
        super().__init__()
        if not widths or min(*widths, convs) < 1:
            raise UsageError(
                f"the compact network needs stages of at least 1 channel and convolution, got {widths} and {convs}"
            )
        self.whitening = PatchWhitening()
        self.activation = nn.GELU()
        before = (2 * _PATCH_VALUES, *widths)
        self.stages = nn.ModuleList(
            _stage(before[number], width, convs, norm_momentum) for number, width in enumerate(widths)
        )
        self.features = tuple(FeatureSpec(width, 2 ** (number + 1)) for number, width in enumerate(widths))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Return every stage's map of normalised images, finest first."""
        x = self.activation(self.whitening(images))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


def _stage(in_channels: int, width: int, convs: int, norm_momentum: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(convs):
        conv = nn.Conv2d(width if number else in_channels, width, 3, padding=1, bias=False)
        _start_near_identity(conv)
        layers += [conv] if number else [conv, nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(width, momentum=norm_momentum), nn.GELU()]
    return nn.Sequential(*layers)


def _start_near_identity(conv: nn.Conv2d) -> None:
    """Start as many filters as there are inputs as copies of their input, the others at random."""
    nn.init.kaiming_uniform_(conv.weight, a=math.sqrt(5))
    same = min(conv.in_channels, conv.out_channels)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:same])


def needs_whitening(model: Model) -> bool:
    """Say whether a model has a first layer that `fit_whitening` fits."""
    return isinstance(getattr(model.backbone, "whitening", None), PatchWhitening)


def fit_whitening(model: Model, images: UInt8[Tensor, "b 3 h w"]) -> bool:
    """Fit a model's first layer to training images where it has one that is fitted; says whether it has.

    Args:
        model: Any model, before training.
        images: Training images, RGB, 0-255; some thousand small ones are plenty.
    """
    whitening = getattr(model.backbone, "whitening", None)
    if not isinstance(whitening, PatchWhitening):
        return False
    whitening.fit(model.normalise(images))
    return True
