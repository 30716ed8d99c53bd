"""Watches optimizers and backward passes: what steps what, from gradients of when."""

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from trivet.doctor.graph import Graph, carried_place, walk_graph
from trivet.doctor.probe.scaling import OptimizerRecord, ScalingWatch, state_of, value_of
from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import Place, places_of_stack, user_place
from trivet.doctor.trace import BackwardTrace, OptimizerTrace

WALKED = 12
"""Backward passes whose graph is walked."""
MOST_PASSES = 24
"""Backward passes that are looked into where there is no optimizer."""
MOST_SIZES = 64
STARVED = 0.0099
"""Share of the highest learning rate below which it is all but used up."""


_item = torch._C.TensorBase.item
"""The method itself, past whoever has wrapped it."""


class TrainingWatch(ScalingWatch):
    """Records optimizers' steps and the backward passes between them."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.backward = BackwardTrace()
        self._last_step: tuple[OptimizerRecord | None, int] = (None, 0)
        """Who stepped last, and the number that the next node of a graph had then."""
        self.curve: list[tuple[int, float]] = []
        self.before_step: list[Callable[[OptimizerRecord, torch.optim.Optimizer], None]] = []
        self.after_step: list[Callable[[OptimizerRecord, torch.optim.Optimizer], None]] = []
        self.on_graph: list[Callable[[Graph], None]] = []
        self.on_losses: list[Callable[[tuple[torch.Tensor, ...]], None]] = []
        self.failed_forward: list[Place] = []
        self.failed_graph: Graph | None = None
        self._keep_every = 1
        self._whole = True

    def install(self, patches: Patches) -> None:
        """Wrap optimizers, `torch.autograd.backward`, gradient clipping and the gradient scaler."""
        patches.wrap(torch.optim.Optimizer, "__init__", self._wrap_optimizer_init)
        patches.wrap(torch.optim.Optimizer, "zero_grad", self._wrap_zero_grad, rests=True)
        patches.wrap(torch.nn.Module, "zero_grad", self._wrap_clearing, rests=True)
        patches.wrap(torch.optim.Optimizer, "add_param_group", self._wrap_add)
        patches.wrap(torch.autograd, "backward", self._wrap_backward, dozes=True)
        super().install(patches)
        self._hook = register_optimizer_step_pre_hook(self._before)
        patches.on_undo(lambda: self._hook.remove())
        patches.on_undo(register_optimizer_step_post_hook(self._after).remove)

    def record_of(self, optimizer: torch.optim.Optimizer) -> OptimizerRecord:
        """Return the record of an optimizer, which is made for one that was built before watching began."""
        for record in self.optimizers:
            if record.ref() is optimizer:
                return record
        behind = _behind(optimizer)
        if behind is not optimizer:
            return self.record_of(behind)
        trace = OptimizerTrace(kind=type(optimizer).__name__)
        record = OptimizerRecord(weakref.ref(optimizer), trace, len(self.optimizers))
        weakref.finalize(optimizer, setattr, record, "glance", None).atexit = False
        self.optimizers.append(record)
        return record

    def _wrap_optimizer_init(self, original: Any) -> Any:
        watch = self

        def construct(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            if watch.session.active:
                watch.session.optimizers += 1
                watch.session.renew()
                watch.record_of(self).trace.place = user_place(constructs=self)

        return construct

    def _wrap_add(self, original: Any) -> Any:
        watch = self

        def add_param_group(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            if watch.session.active:
                watch.session.renew()

        return add_param_group

    def _wrap_zero_grad(self, original: Any) -> Any:
        watch = self

        def zero_grad(self: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            if watch.session.active:
                record = watch.record_of(self)
                if record.trace.clear_place is None:
                    record.trace.clear_place = user_place()

        return zero_grad

    def _wrap_clearing(self, original: Any) -> Any:
        watch = self

        def zero_grad(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            if not watch.session.active or all(r.trace.clear_place is not None for r in watch.optimizers):
                return
            with watch.session.shielded():
                own = {id(parameter) for parameter in self.parameters()}
                for record in watch.optimizers:
                    optimizer = record.ref()
                    held = optimizer.param_groups[0]["params"] if optimizer is not None else []
                    if record.trace.clear_place is None and held and id(held[0]) in own:
                        record.trace.clear_place = user_place()

        return zero_grad

    def _wrap_backward(self, original: Any) -> Any:
        watch = self

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            session = watch.session
            if session.quiet or not session.active or torch._C._current_graph_task_id() != -1:
                return original(tensors, *args, **kwargs)
            given = (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)
            with session.shielded():
                watch._before_backward(given)
            _call_backward(watch, original, (tensors, *args), kwargs)
            with session.shielded():
                watch._after_backward()
            return None

        return backward

    def _before_backward(self, losses: tuple[torch.Tensor, ...]) -> None:
        trace = self.backward
        trace.calls += 1
        for see in self.on_losses:
            see(losses)
        broken_before = trace.not_finite
        self._note_loss(losses)
        breaks = bool(trace.not_finite and not broken_before)
        if breaks:
            self.session.look_closer()
        if self.session.resting:
            return
        look = trace.walked < WALKED or self.session.recording or breaks
        for record in self.optimizers:
            self._look_for_clearing(record)
        if trace.walked < WALKED or self.session.recording:
            trace.place = user_place() or trace.place
        if look:
            with self.session.measured():
                graph = walk_graph(losses, step=self.session.steps)
                trace.walked += 1
                trace.stale, trace.stale_step = graph.stale_count, self.session.steps
                if graph.stale is not None and trace.stale_place is None:
                    trace.stale_place = carried_place(graph.stale)
                trace.overtaken = self._overtaken(losses, graph)
                if len(trace.sizes) < MOST_SIZES:
                    trace.sizes.append((self.session.steps, graph.size))
                    trace.leaves.append(len(graph.leaves))
                trace.nodes = max(trace.nodes, graph.size)
                trace.squashing = max(trace.squashing, graph.squashing)
                if not trace.loss_operations:
                    trace.loss_operations = [name for name, _ in graph.operations[:8]]
                for act in self.on_graph:
                    act(graph)

    def _overtaken(self, losses: tuple[torch.Tensor, ...], graph: Graph) -> Place | None:
        """Where the last step was taken, if it moved weights that a loss made before it rests on."""
        record, number = self._last_step
        if record is None or all(loss.grad_fn is None for loss in losses):
            return None
        made = max(loss.grad_fn._sequence_nr() for loss in losses if loss.grad_fn is not None)
        moved = made < number and any(id(parameter) in graph.leaves for parameter in _held_by(record))
        return record.trace.step_place if moved else None

    def _note_loss(self, losses: tuple[torch.Tensor, ...]) -> None:
        loss = losses[0] if losses else None
        if loss is None or loss.numel() != 1:
            return
        if loss.device.type != "cpu" and not self.session.recording:
            return
        if self._scaled is not None and self._scaled[0] is loss:
            loss = self._scaled[1]
        value = float(_item(loss))
        steps = self.session.steps
        if value - value != 0:
            if self._note_break():
                self.backward.weights_finite_then = self._weights_finite()
        elif steps % self._keep_every == 0:
            self.curve.append((steps, value))
            if len(self.curve) > 2000:
                self._keep_every *= 2
                self.curve = [point for point in self.curve if point[0] % self._keep_every == 0]

    def _note_break(self) -> bool:
        """Note that a loss is not finite; returns whether it is the first."""
        trace = self.backward
        trace.not_finite += 1
        first = trace.first_not_finite is None
        if first:
            trace.first_not_finite = self.session.steps
        return first

    def _weights_finite(self) -> bool:
        held = [
            p
            for record in self.optimizers
            if (o := record.ref())
            for g in o.param_groups
            for p in g["params"]
        ]
        return all(bool(torch.isfinite(p.detach()).all()) for p in held)

    def _look_for_clearing(self, record: OptimizerRecord) -> None:
        """Before a backward: were the gradients of the last one cleared since?"""
        witness = record.witness() if record.witness else None
        if witness is None or record.state is None:
            return
        cleared = state_of(witness) != record.state
        if not cleared and record.value is not None and self.session.recording and witness.grad is not None:
            cleared = value_of(witness.grad) != record.value or record.value == 0.0
        if cleared:
            record.fresh = True
            record.state = None
            if record.seen_backward and witness._version == record.weights_version:
                self._cancelled += 1

    def _after_backward(self) -> None:
        if self.session.resting:
            return
        self._window += 1
        if not self.optimizers and self.backward.calls >= MOST_PASSES:  # weights are updated without one
            self.session.recording = False
            self.session.rest()
        for record in self.optimizers:
            optimizer = record.ref()
            if optimizer is None:
                continue
            witness = record.witness() if record.witness else None
            if witness is None or witness.grad is None:
                witness = _first_with_gradient(optimizer)
                record.witness = weakref.ref(witness) if witness is not None else None
            if witness is None:
                continue
            state = state_of(witness)
            record.seen_backward = record.seen_backward or state != record.state
            record.pending = record.pending or record.seen_backward
            record.state, record.weights_version = state, witness._version
            looked = self.session.recording and witness.grad is not None
            record.value = value_of(witness.grad) if looked and witness.grad is not None else None

    def rest(self) -> None:
        """Look at steps only afterwards, to count them."""
        self._hook.remove()

    def resume(self) -> None:
        """Know the gradients as they are now, after a time in which nobody looked at them."""
        self._hook = register_optimizer_step_pre_hook(self._before)
        self._window, self._cancelled, self._clipped, self._whole = 0, 0, False, False
        for record in self.optimizers:
            self._know_gradient(record)
            record.fresh, record.pending, record.seen_backward = True, False, False
            record.unknown = True

    def _know_gradient(self, record: OptimizerRecord) -> None:
        witness = record.witness() if record.witness else None
        if witness is not None:
            record.state = state_of(witness)
            looked = self.session.recording and witness.grad is not None
            record.value = value_of(witness.grad) if looked and witness.grad is not None else None

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self.session.active:
            with self.session.shielded():
                self._enter_step(optimizer)

    def _enter_step(self, optimizer: torch.optim.Optimizer) -> None:
        record = self.record_of(optimizer)
        if record.trace.step_place is None:
            record.trace.step_place = user_place()
        for act in self.before_step:
            act(record, optimizer)
        self._judge(record)

    def _judge(self, record: OptimizerRecord) -> None:
        trace = record.trace
        witness = record.witness() if record.witness else None
        if record.pending and trace.steps and self.session.recording and not record.unknown:
            trace.judged += 1
            trace.stale += not record.fresh
        if record.seen_backward and witness is not None and self.session.recording and record.value:
            trace.emptied += _is_empty(witness) and all(_is_empty(p) for p in _held_by(record))
        trace.whole_windows += self._whole
        if self._window > 1 and self._whole and record.seen_backward and witness is not None:
            rewritten = state_of(witness) != record.state and not self._clipped
            if not rewritten:
                trace.windows += 1
                trace.cancelled += self._cancelled > 0

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        session = self.session
        if session.active:
            try:  # which costs nothing, as a block of `with` would
                record = self.record_of(optimizer)
                _note_rate(record.trace, float(optimizer.param_groups[0].get("lr", 0.0)))
                record.trace.steps += 1
                if session.quiet:
                    self._leave_quiet_step(record)
                else:
                    self._leave_step(record, optimizer)
            except Exception as fault:
                session.note_fault(fault)

    def _leave_quiet_step(self, record: OptimizerRecord) -> None:
        self.backward.calls += 1
        if record.glance is not None and (value := _item(record.glance)) - value != 0:
            self._note_break()
            self.session.look_closer()
            record.glance = None
        self.session.advance()

    def _leave_step(self, record: OptimizerRecord, optimizer: torch.optim.Optimizer) -> None:
        if not self.session.resting:
            self._last_step = record, torch._C._autograd._get_sequence_nr()
            self._know_gradient(record)
            record.pending = False
            for other in self.optimizers:
                other.seen_backward = False
            self._window, self._cancelled, self._clipped = 0, 0, False
        for act in self.after_step:
            act(record, optimizer)
        if self.session.quiet and record.glance is None:
            record.glance = _first_value(record.witness() if record.witness else None)
        self._whole = not self.session.resting  # which may have begun or ended just now
        if self._whole:
            record.fresh = record.unknown = False


def _call_backward(
    watch: TrainingWatch, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Run a backward; when it fails in a traced step, keep where the failing operation was written."""
    if not torch.is_anomaly_enabled():
        original(*args, **kwargs)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            original(*args, **kwargs)
        except RuntimeError:
            for warning in caught:
                watch.failed_forward = watch.failed_forward or places_of_stack([str(warning.message)])
            losses = args[0] if not isinstance(args[0], torch.Tensor) else (args[0],)
            watch.failed_graph = walk_graph(losses)
            caught.clear()
            raise
    for warning in caught:
        if "nomaly" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _behind(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer that a wrapper around it passes everything on to, as accelerate's."""
    inner = vars(optimizer).get("optimizer")
    plain = "_optimizer_step_pre_hooks" not in vars(optimizer)  # never made as an optimizer of its own
    return inner if plain and isinstance(inner, torch.optim.Optimizer) else optimizer


def _held_by(record: OptimizerRecord) -> list[torch.Tensor]:
    optimizer = record.ref()
    return [p for group in optimizer.param_groups for p in group["params"]] if optimizer is not None else []


def _is_empty(parameter: torch.Tensor) -> bool:
    """Whether a parameter has no gradient, or one of zeros."""
    return parameter.grad is None or not bool(parameter.grad.any())


def _first_with_gradient(optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
    held = (p for group in optimizer.param_groups for p in group["params"])
    return next((p for p in held if p.grad is not None and not p.grad.is_sparse), None)


def _first_value(weight: torch.Tensor | None) -> torch.Tensor | None:
    """A view of the first value of a weight that can be read without waiting, if it is finite."""
    if weight is None or not weight.is_cpu or not weight.numel() or weight.layout != torch.strided:
        return None
    value = weight.detach()[(0,) * weight.ndim]
    return value if (number := _item(value)) - number == 0 else None


def _note_rate(trace: OptimizerTrace, rate: float) -> None:
    if trace.steps and rate == trace.rate_last == trace.rate_max:
        return
    if not trace.steps:
        trace.rate_first = rate
    trace.rate_last = rate
    if rate >= trace.rate_max:
        trace.rate_max, trace.steps_starved = rate, 0
    elif rate < STARVED * trace.rate_max:
        trace.steps_starved += 1
