"""Watches random transforms of torchvision that move a picture and its map one after the other, each by draws of its own."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.data.repeats import sample_frame
from trivet.doctor.probe.session import Session
from trivet.doctor.source import Place, place_of_frame
from trivet.doctor.trace_data import ApartTrace

HOME = "torchvision.transforms"
MOVING = frozenset(
    f"Random{name}"
    for name in (
        *("HorizontalFlip", "VerticalFlip", "Crop", "ResizedCrop", "Affine", "Rotation", "Perspective"),
        *("ZoomOut", "IoUCrop", "ShortestSize", "Resize"),
    )
)
MAP_MODES = frozenset(("1", "L", "P", "I", "I;16"))


@dataclass(frozen=True)
class _Call:
    frame: int
    is_map: bool
    state: int
    step: int


class ApartWatch:
    """Notes transforms that `__getitem__` gives a picture alone, and then, with other random numbers, a map alone."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._last: dict[int, _Call] = {}
        self._found: dict[Place, ApartTrace] = {}

    def traces(self) -> list[ApartTrace]:
        """Return what was noted, by line."""
        return list(self._found.values())

    def observe(self, module: nn.Module, args: tuple[Any, ...], _: Any) -> None:
        """Look at a call of a recorded step; they must be of one kind of transform, within one sample."""
        kind = type(module)
        if kind.__name__ not in MOVING or not kind.__module__.startswith(HOME) or len(args) != 1:
            return
        is_map, frame = _is_map(args[0]), sample_frame()
        if is_map is None or frame is None:
            return
        with self.session.measured():
            # what draws the same, as after the same seed, leaves the generator in the same state
            state = hash(torch.get_rng_state().numpy().tobytes())
            call = _Call(id(frame), is_map, state, self.session.steps)
            last = self._last.pop(id(module), None)
            if last is None or (last.frame, last.step) != (call.frame, call.step) or last.is_map == is_map:
                self._last[id(module)] = call
                return
            place = place_of_frame(frame)
            trace = self._found.setdefault(place, ApartTrace(place, kind.__name__))
            trace.pairs += 1
            trace.apart += last.state != state


def _is_map(value: Any) -> bool | None:
    """Whether a value is a map of labels, and not a picture; `None` for what is neither."""
    mode = getattr(value, "mode", None)
    if isinstance(mode, str):
        return mode in MAP_MODES
    if not isinstance(value, torch.Tensor) or value.ndim < 2:
        return None
    if type(value).__name__ in ("Mask", "BoundingBoxes"):
        return True
    return not value.is_floating_point() and value.dtype != torch.uint8
