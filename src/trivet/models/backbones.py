"""Backbones of our own by name; every other name is timm's."""

from collections.abc import Callable

from torch import nn

from trivet.models import csp_darknet, vgg
from trivet.models.compact import CompactBackbone

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "compact": CompactBackbone,
    **csp_darknet.BACKBONES,
    **vgg.BACKBONES,
}
