"""Watches the clipping of gradients and the scalers of mixed precision."""

import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import user_place
from trivet.doctor.trace import OptimizerTrace, ScalerTrace

GradientState = tuple[int, int]


@dataclass
class OptimizerRecord:
    """An optimizer, and what happened to its gradients since its last step."""

    ref: "weakref.ref[torch.optim.Optimizer]"
    trace: OptimizerTrace
    index: int
    witness: "weakref.ref[torch.Tensor] | None" = None
    glance: torch.Tensor | None = None
    """A weight of the witness, which is no number any more once a loss was none."""
    state: GradientState | None = None
    value: float | None = None
    fresh: bool = True
    seen_backward: bool = False
    pending: bool = False
    unknown: bool = False
    """Whether nobody looked since its last step: what was cleared meanwhile is not known."""
    tainted: bool = False
    weights_version: int = -1
    members: set[int] = field(default_factory=set)


class ScalingWatch:
    """Records clipping and scaling between backward passes and steps.

    Attributes:
        optimizers: The optimizers known.
        scaler: What was seen of scalers.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.optimizers: list[OptimizerRecord] = []
        self.scaler = ScalerTrace()
        self._window = 0
        self._cancelled = 0
        self._clipped = False
        self._scaled: tuple[torch.Tensor, torch.Tensor] | None = None
        self._unscaled: set[int] = set()

    def install(self, patches: Patches) -> None:
        """Wrap gradient clipping and the gradient scaler."""
        for module in (nn.utils, nn.utils.clip_grad):
            for name in ("clip_grad_norm_", "clip_grad_value_"):
                patches.wrap(module, name, self._wrap_clip, rests=True)
        scaler = torch.amp.GradScaler
        patches.wrap(scaler, "scale", self._wrap_scale)
        patches.wrap(scaler, "unscale_", self._wrap_unscale)
        patches.wrap(scaler, "update", self._wrap_update)

    def _wrap_clip(self, original: Any) -> Any:
        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.session.active or self.session.resting:
                return original(parameters, *args, **kwargs)
            tensors = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            self._clipped = True
            with self.session.shielded():
                self._note_clip(tensors)
            norm = original(parameters if isinstance(parameters, torch.Tensor) else tensors, *args, **kwargs)
            with self.session.shielded():
                self._know_clipped()
            return norm

        return clip

    def _know_clipped(self) -> None:
        """Gradients that were clipped between two backward passes were not cleared."""
        for record in self.optimizers:
            witness = record.witness() if record.witness else None
            if witness is not None and record.state is not None:
                record.state = state_of(witness)
                if self.session.recording and witness.grad is not None:
                    record.value = value_of(witness.grad)

    def _note_clip(self, tensors: list[torch.Tensor]) -> None:
        if self._scaled is None:
            return
        self.scaler.clips += 1
        clipped = {id(tensor) for tensor in tensors}
        for record in self.optimizers:
            optimizer = record.ref()
            if optimizer is None or id(optimizer) in self._unscaled:
                continue
            if any(id(p) in clipped for group in optimizer.param_groups for p in group["params"]):
                self.scaler.clips_scaled += 1
                self.scaler.place = self.scaler.place or user_place()
                return

    def _wrap_scale(self, original: Any) -> Any:
        watch = self

        def scale(self: Any, outputs: Any) -> Any:
            scaled = original(self, outputs)
            if (
                watch.session.active
                and self.is_enabled()
                and isinstance(outputs, torch.Tensor)
                and outputs.numel() == 1
            ):
                watch._scaled = (scaled, outputs.detach())
                if not watch.session.resting:  # reading waits for the device
                    watch.scaler.scale = float(self.get_scale())
            return scaled

        return scale

    def _wrap_unscale(self, original: Any) -> Any:
        watch = self

        def unscale_(self: Any, optimizer: Any) -> None:
            original(self, optimizer)
            watch._unscaled.add(id(optimizer))
            watch._clipped = True  # gradients were changed on purpose

        return unscale_

    def _wrap_update(self, original: Any) -> Any:
        watch = self

        def update(self: Any, *args: Any, **kwargs: Any) -> None:
            looked = watch.session.active and not watch.session.resting and self.is_enabled()
            before = self.get_scale() if looked else 0.0
            original(self, *args, **kwargs)
            if looked and self.get_scale() < before:
                for record in watch.optimizers:
                    record.trace.skipped += 1
                watch._window, watch._cancelled = 0, 0
            watch._unscaled.clear()
            watch._scaled = None

        return update


def state_of(tensor: torch.Tensor) -> GradientState | None:
    """Return what changes when the gradient of a tensor is written to or replaced."""
    return None if tensor.grad is None else (id(tensor.grad), tensor.grad._version)


def value_of(gradient: torch.Tensor) -> float:
    """Return a number that changes with the first values of a gradient."""
    return float(gradient.detach().flatten()[:256].float().abs().sum())
