"""Backbones of our own by name; every other name is timm's."""

from collections.abc import Callable

from torch import nn

from trivet.models import vgg
from trivet.models.compact import CompactBackbone

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "compact": CompactBackbone,
    **vgg.BACKBONES,
}
