"""Describes what is brought to a model: by `load_state_dict`, as its input, or in the call that failed."""

import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trivet.doctor.origins import computed_at
from trivet.doctor.probe.ledger import is_lazy
from trivet.doctor.source import Place, place_of_frame, user_frames, user_place
from trivet.doctor.trace import FailureTrace, InputTrace, LoadTrace


def _scaled_at() -> Place | None:
    """Where the input of a model is computed: in the forwards that lead to its layer, or beside the call of the model."""
    for frame in user_frames():
        place = computed_at(place_of_frame(frame))
        if place is not None or not isinstance(frame.f_locals.get("self"), nn.Module):
            return place
    return None


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


def describe_failure(
    fault: BaseException, place_of: Callable[[nn.Module], Place | None]
) -> FailureTrace | None:
    """Return the record of the innermost layer of torch whose forward raised, or `None` when none did."""
    found = None
    for frame, _ in traceback.walk_tb(fault.__traceback__):
        code = frame.f_code
        if code.co_name != "forward" or not code.co_argcount:
            continue
        layer, *args = (frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount])
        if isinstance(layer, nn.Module) and type(layer).__module__.startswith("torch.nn"):
            found = layer, args
    if found is None:
        return None
    tensors = [value for value in found[1] if isinstance(value, torch.Tensor)]
    given = ", ".join(f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" for value in tensors)
    return FailureTrace(repr(found[0]).splitlines()[0][:200], given, place_of(found[0]))


def describe_input(
    module: nn.Module, value: torch.Tensor, place: Place | None, norms: tuple[type, ...]
) -> InputTrace:
    """Return the range of what a first layer is given."""
    sample = value.detach().flatten()[: 1 << 18].float()
    inner = value.detach()[:32].transpose(0, 1).flatten(1).float() if value.ndim == 4 else sample[None]
    return InputTrace(
        model="",
        layer=type(module).__name__,
        kind="norm" if isinstance(module, norms) else "layer",
        place=place,
        shape=list(value.shape),
        batches=1,
        mean=float(sample.mean()),
        std=float(sample.std()),
        low=float(sample.min()),
        high=float(sample.max()),
        inner_std=float(inner.var(1).mean().sqrt()),
        inner_range=float((inner.amax(1) - inner.amin(1)).max()),
        scaled_at=_scaled_at(),
    )
