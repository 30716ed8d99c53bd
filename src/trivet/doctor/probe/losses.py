"""Watches loss functions: shapes, ranges and targets of their calls."""

import inspect
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trivet.doctor.graph import place_of_node, without_reshapes
from trivet.doctor.probe.modules import ModuleWatch
from trivet.doctor.probe.session import Patches, Session, Sparse, compiling, is_compiling
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace import LossTrace

CLASS_LOSSES = ("cross_entropy", "nll_loss")
BINARY_LOSSES = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
REGRESSION_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
LOSSES = (*CLASS_LOSSES, *BINARY_LOSSES, *REGRESSION_LOSSES)
LAYERS = 16
SAMPLE = 4096
SIMPLEX_TOLERANCE = 1e-3


class LossWatch:
    """Records the calls of the losses of `torch.nn.functional`, by line of the user's code."""

    def __init__(self, session: Session, modules: ModuleWatch) -> None:
        self.session = session
        self.modules = modules
        self._layers: deque[tuple[Any, Place | None]] = deque(maxlen=LAYERS)
        self.losses: dict[tuple[str, Place | None], LossTrace] = {}
        self.last: LossTrace | None = None
        self.observers: list[
            Callable[[str, torch.Tensor, torch.Tensor, dict[str, Any], torch.Tensor], None]
        ] = []
        """Called with (function, output, target, arguments, loss) after calls, at more steps than recorded ones."""
        self.sparse = Sparse(growth=1.03)

    def install(self, patches: Patches) -> None:
        """Wrap the functions; the loss modules of torch call them too."""
        for name in LOSSES:
            patches.wrap(F, name, partial(self._wrap, name), dozes=True)
        self.modules.observers.append(self._note_layer)

    def _note_layer(self, module: nn.Module, _: object, output: Any) -> None:
        """Know, in the first step, which of torch's layers without weights made a node of the graph."""
        if self.session.steps:
            self._layers.clear()
        elif not isinstance(output, torch.Tensor) or output.grad_fn is None:
            return
        elif type(module).__module__.startswith("torch.nn") and next(module.parameters(), None) is None:
            self._layers.append((output.grad_fn, self.modules.place_of(module)))

    def _wrap(self, name: str, original: Any) -> Any:
        signature = inspect.signature(original)

        session, sparse = self.session, self.sparse

        def loss(*args: Any, **kwargs: Any) -> Any:
            if is_compiling() or (session.resting and session.steps < sparse.next):
                return original(*args, **kwargs)
            if not session.active or compiling() or getattr(session.local, "in_loss", False):
                return original(*args, **kwargs)
            self.session.local.in_loss = True
            try:
                if self.session.recording:
                    with self.session.measured():
                        self._note(name, signature, args, kwargs)
                value = original(*args, **kwargs)
                if self.sparse.due(self.session.steps):
                    with self.session.shielded():  # the observers count their own time
                        self._show(name, signature, args, kwargs, value)
                return value
            finally:
                self.session.local.in_loss = False

        return loss

    def _show(
        self,
        name: str,
        signature: inspect.Signature,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        value: torch.Tensor,
    ) -> None:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return
        output, target = given.get("input"), given.get("target")
        if isinstance(output, torch.Tensor) and isinstance(target, torch.Tensor):
            for observe in self.observers:
                observe(name, output, target, given, value)

    def _note(
        self, name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return
        output, target = given.get("input"), given.get("target")
        if not isinstance(output, torch.Tensor) or not isinstance(target, torch.Tensor):
            return
        place = user_place()
        record = self.losses.setdefault((name, place), LossTrace(name, place))
        record.calls += 1
        if output.requires_grad:
            record.trained += 1
        elif record.trained:  # a validation call at the same line adds nothing
            return
        self.last = record
        with torch.no_grad():
            _examine(record, output, target, given)
        if not record.produced_by and output.grad_fn is not None:
            node = without_reshapes(output.grad_fn)
            made = next((place for known, place in self._layers if known is node), None)
            record.produced_by = node.name()
            record.produced_at = made or place_of_node(node)


def _examine(record: LossTrace, output: torch.Tensor, target: torch.Tensor, given: dict[str, Any]) -> None:
    record.examined += 1
    record.input_shape, record.target_shape = list(output.shape), list(target.shape)
    record.input_dtype, record.target_dtype = str(output.dtype), str(target.dtype)
    if not output.numel() or not target.numel() or not output.is_floating_point():
        return
    values = output.detach().flatten()[: SAMPLE * 16].float()
    record.input_min = min(record.input_min, float(values.min()))
    record.input_max = max(record.input_max, float(values.max()))
    squashed = bool(((values >= 0) & (values <= 1)).all())
    record.squashed += squashed
    if record.function in CLASS_LOSSES:
        _examine_classes(record, output, target, int(given.get("ignore_index", -100)), squashed)
        return
    record.target_min = min(record.target_min, float(target.min()))
    record.target_max = max(record.target_max, float(target.max()))
    if record.function in BINARY_LOSSES:
        record.outside += not (float(target.min()) >= 0 and float(target.max()) <= 1)
    elif output.shape != target.shape:
        record.spread += _spreads(output.shape, target.shape)


def _examine_classes(
    record: LossTrace, output: torch.Tensor, target: torch.Tensor, ignore: int, squashed: bool
) -> None:
    axis = 1 if output.ndim > 1 else 0
    record.classes, record.ignore_index = output.shape[axis], ignore
    if squashed and output.shape[axis] > 1:
        rows = output.detach().movedim(axis, -1).flatten(0, -2)[:SAMPLE] if output.ndim > 1 else output[None]
        sums = rows.float().sum(-1)
        record.probabilities += bool((sums - 1).abs().max() < SIMPLEX_TOLERANCE)
    if target.is_floating_point():
        if target.shape == output.shape and float(target.min()) >= 0:
            most = float(target.float().sum(axis).max())
            record.overfull += most > 1 + SIMPLEX_TOLERANCE
            record.largest_sum = max(record.largest_sum, most)
        return
    kept = target[target != ignore]
    if not kept.numel():
        record.all_ignored += 1
        return
    low, high = float(kept.min()), float(kept.max())
    record.target_min, record.target_max = min(record.target_min, low), max(record.target_max, high)
    record.outside += low < 0 or high >= output.shape[axis]


def _spreads(one: torch.Size, other: torch.Size) -> bool:
    """Whether broadcasting makes a tensor larger than either side, as (n, 1) against (n,) does."""
    try:
        whole = torch.broadcast_shapes(one, other)
    except RuntimeError:
        return False
    return math.prod(whole) > max(math.prod(one), math.prod(other))
