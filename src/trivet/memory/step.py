"""A training step of any module on fake or real tensors, at two batch sizes."""

import copy
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from trivet.memory.layout import layout_of
from trivet.memory.ledger import GRADIENTS, OPTIMIZER, Curve, Ledger, draw_lines
from trivet.memory.tracker import Scratch, Tracker

BATCHES = (2, 4)
"""The lines over the batch are drawn through these: a batch norm cannot train on one image, so 1 is none of them."""

STEPS_BEFORE = 2
"""Real steps that are taken before the one that is counted: where sizes depend on values, the first ones differ most."""
_REAL = (
    "sizes that depend on values are those of the example in the third step; where they grow as the module learns, "
    "plan with trained weights"
)


class FakeTensors(FakeTensorMode):
    """Makes fake tensors, and asks once whether there is a GPU: PyTorch asks, by loading its driver, for each operator."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    @cached_property
    def avoid_device_init(self) -> bool:
        """Whether no device may be touched."""
        return not torch.cuda.is_available()


@runtime_checkable
class Step(Protocol):
    """A training step that was set up on fake or real tensors."""

    module: nn.Module
    keeps_gradients: bool
    """Whether gradients stay from step to step instead of being set to `None`."""

    def parts(self) -> Mapping[str, Iterable[Tensor]]:
        """Return what is there before the step, by kind."""

    def optimizer(self) -> Optimizer | None:
        """Return the optimizer, whose state is asked for after the step."""

    def run(self) -> None:
        """Take one step."""


def account(
    prepare: Callable[[int], Step],
    *,
    batches: Sequence[int] | None = None,
    scratch: Scratch | None = None,
    real: bool = False,
) -> Curve:
    """Run a step at two batch sizes, and return what is alive when.

    On fake tensors nothing large is allocated. The global random state is left as it was.

    Args:
        prepare: Sets the step up for a batch size; called, as the step is, while fake tensors are made.
        batches: The batch sizes; `BATCHES` if not given.
        scratch: Bytes that operators need while they run.
        real: Whether steps are taken on real tensors of the CPU instead of fake ones; the third is counted.

    Raises:
        ValueError: If the step uses something whose size depends on values.
    """
    with torch.random.fork_rng(devices=[]), _uncollected():
        return draw_lines([_run(prepare, batch, scratch, real) for batch in batches or BATCHES])


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leave the collector of cycles out: it would look through the million small records of a step again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _run(prepare: Callable[[int], Step], batch: int, scratch: Scratch | None, real: bool) -> Ledger:
    ledger = Ledger(batch)
    with nullcontext() if real else FakeTensors():
        step = prepare(batch)
        if real:
            ledger.notes.append(_REAL)
            for _ in range(STEPS_BEFORE):
                step.run()
        else:
            with Tracker(Ledger(batch), step.module):  # for its speed: what it writes is dropped
                _make_state(step)
        tracker = Tracker(ledger, step.module, scratch)
        tracker.note_all(step.parts(), always=True)
        tracker.note_all({OPTIMIZER: _state(step.optimizer())}, always=True)
        gradients = [parameter.grad for parameter in step.module.parameters() if parameter.grad is not None]
        tracker.note_all({GRADIENTS: gradients}, always=True)
        with tracker, tracker.watching():
            watch = _GradientWatch(tracker, step.module)
            with nullcontext() if real else _assumed(ledger):
                step.run()
            watch.remove()
        tracker.note_all({OPTIMIZER: _state(step.optimizer())}, always=False)
        tracker.closed = True
    ledger.add_in_place()
    return ledger


@contextmanager
def _assumed(ledger: Ledger) -> Iterator[None]:
    """Say, where a step fails, what was assumed of values that are not there."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as fault:
        if not ledger.notes:
            raise
        raise ValueError(
            f"the planned step failed ({fault}), in which values were assumed ({'; '.join(ledger.notes)}); "
            "give plan_memory real=True, which takes the step on real tensors"
        ) from fault


def _make_state(step: Step) -> None:
    """Let the optimizer make its state, as the first step of training does: from the second on all are alike."""
    optimizer = step.optimizer()
    if optimizer is None:
        return
    for parameter in step.module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    with suppress(
        TypeError, RuntimeError
    ):  # it wants a closure: its state is made in the step that is watched
        optimizer.step()
    if not step.keeps_gradients:
        step.module.zero_grad(set_to_none=True)


class _GradientWatch:
    """Tells the tracker which storages are gradients, as soon as they are."""

    def __init__(self, tracker: Tracker, module: nn.Module) -> None:
        def grown(parameter: Tensor) -> None:
            if parameter.grad is not None:
                tracker.note(parameter.grad, GRADIENTS)

        self.handles = [
            parameter.register_post_accumulate_grad_hook(grown)
            for parameter in module.parameters()
            if parameter.requires_grad
        ]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def _state(optimizer: Optimizer | None) -> list[Tensor]:
    if optimizer is None:
        return []
    return [leaf for leaf in tree_leaves(list(optimizer.state.values())) if isinstance(leaf, Tensor)]


def copy_of(module: nn.Module, *, real: bool) -> nn.Module:
    """Return a copy of a module on the CPU, real or fake; call while fake tensors are made, unless it is real.

    Args:
        module: Any module; it is left as it is, wherever its tensors are.
        real: Whether the copy has the values; otherwise it is fake.

    Raises:
        ValueError: If it shall be real and the module is on the meta device.
    """
    if not real:
        return fake_copy(module)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device and has no values, which real=True takes; load them first"
            )
    return copy.deepcopy(module).cpu()


def fake_copy(module: nn.Module) -> nn.Module:
    """Return a module of the same structure whose parameters and buffers are fake; call while fake tensors are made.

    Args:
        module: Any module; it is left as it is, wherever its tensors are.
    """
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        memo[id(tensor)] = fake_like(tensor)
    with unset_fake_temporarily():  # plain tensors that it holds besides, such as anchors, keep their values
        return copy.deepcopy(module, memo)


def fake_like(tensor: Tensor, *, batch: int | None = None) -> Tensor:
    """Return a fake tensor of the same shape, layout and type on the CPU, with another first side if a batch is given."""
    shape = list(tensor.shape)
    if batch is not None and shape:
        shape[0] = batch
    made = torch.empty(shape, dtype=tensor.dtype, device="cpu", memory_format=layout_of(tensor))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made.requires_grad_(tensor.requires_grad)
