"""Heads by name: each makes the model's output from the neck's maps."""

from collections.abc import Callable

from torch import nn

from trivet.models.heads.anchor import AnchorHead
from trivet.models.heads.flat import FlatHead
from trivet.models.heads.large_fov import LargeFOVHead
from trivet.models.heads.pooled import PooledHead
from trivet.models.heads.semantic import SemanticHead
from trivet.models.heads.yolo import YoloHead

HEADS: dict[str, Callable[..., nn.Module]] = {
    "anchor": AnchorHead,
    "flat": FlatHead,
    "large_fov": LargeFOVHead,
    "pooled": PooledHead,
    "semantic": SemanticHead,
    "yolo": YoloHead,
}
