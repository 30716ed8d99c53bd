"""Weights on disk and from elsewhere, into a model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trivet.models.layouts import from_effdet, from_lite_package
from trivet.models.model import Model


def load_weights(model: Model, source: Any) -> None:
    """Load."""
    state = (
        torch.load(source, map_location="cpu", weights_only=True)
        if isinstance(source, (str, Path))
        else source
    )
    if "_conv_stem.weight" in state:
        body = model.backbone.body
        blocks = [f"blocks.{s}.{b}" for s, stage in enumerate(body.blocks) for b in range(len(stage))]
        names = from_lite_package(state, blocks=blocks)
        state = {"backbone.body." + names[k]: v for k, v in state.items()}
        own = model.state_dict()
        state = {k: v for k, v in state.items() if k in own}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not [k for k in missing if k.startswith("backbone")], missing
        return
    if any(k.startswith("class_net") for k in state):
        names = from_effdet(state, min_level=3)
        state = {names[k]: v for k, v in state.items()}
    model.load_state_dict(state)
