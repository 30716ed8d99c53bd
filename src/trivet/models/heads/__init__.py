"""Heads by name: each makes the model's output from the neck's maps."""

from collections.abc import Callable

from torch import nn

from trivet.models.heads.anchor import AnchorHead

HEADS: dict[str, Callable[..., nn.Module]] = {
    "anchor": AnchorHead,
}
