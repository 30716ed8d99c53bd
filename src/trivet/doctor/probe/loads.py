"""Describes what a call of `load_state_dict` brings into a model."""

from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.ledger import is_lazy
from trivet.doctor.source import user_place
from trivet.doctor.trace import LoadTrace


def describe_load(module: nn.Module, state: Any, *, strict: bool) -> list[LoadTrace]:
    """Return the record of a call, or none for a state that is no mapping."""
    if not hasattr(state, "items"):
        return []
    own = module.state_dict()
    given = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    matched = [key for key in given if isinstance(own.get(key), torch.Tensor) and not is_lazy(own[key])]
    same = [key for key in matched if given[key].data_ptr() == own[key].data_ptr() and given[key].numel()]
    return [
        LoadTrace(
            model=type(module).__name__,
            place=user_place(),
            strict=strict,
            given=len(given),
            matched=len(matched),
            own=len(same),
            wanted=len(own),
            example_given=next((key for key in given if key not in own), ""),
            example_wanted=next((key for key in own if key not in given), ""),
        )
    ]
