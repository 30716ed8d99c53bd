"""Watches one training step on fake or real tensors, and writes down every storage that is born and dies."""

import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    unset_fake_temporarily,
)
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trivet.memory import ledger as kinds
from trivet.memory.ledger import ALWAYS, Ledger, Storage
from trivet.memory.remembered import REMEMBERED
from trivet.memory.worst_case import WORST_CASES

MOST_REAL = 1 << 20
"""Tensors made from nothing are real up to so many numbers: targets and anchors are computed, maps are not."""
_BORN_AS = {
    "forward": kinds.FORWARD,
    "loss": kinds.LOSS,
    "backward": kinds.BACKWARD,
    "optimizer": kinds.UPDATE,
}
_SUM = torch.ops.aten.add.Tensor
_OFTEN_PLAIN = (torch.ops.aten.index.Tensor, torch.ops.aten._local_scalar_dense.default)
_CAST = torch.ops.aten._to_copy.default
_DEVICE = torch.ops.prim.device.default

Scratch = Callable[[Any, tuple, Any], int]
"""Operator, arguments and result -> bytes that the operator allocates and releases while it runs."""


class Tracker(TorchDispatchMode):
    """Runs what has a fake tensor among its arguments as fake, everything else for real; writes the ledger.

    Enter it inside a `FakeTensorMode(allow_non_fake_inputs=True)`; outside of one all is real.

    Args:
        ledger: Filled as the step runs.
        module: The model whose step it is; its parts give storages their names.
        scratch: Bytes that operators need while they run.
    """

    def __init__(self, ledger: Ledger, module: nn.Module, scratch: Scratch | None = None) -> None:
        super().__init__()
        self.ledger, self.scratch = ledger, scratch
        self.names = {id(part): name for name, part in module.named_modules()}
        self.root = module
        self.running: list[str] = []
        self.phase = "forward"
        self.in_optimizer = False
        self.done_forward = self.closed = False
        self._alive: dict[int, tuple[weakref.ref, int]] = {}

    def note(
        self, tensor: Tensor, kind: str | None = None, *, always: bool = False, operator: str = ""
    ) -> int:
        """Write down a tensor's storage, unless it is known; returns its place in the ledger.

        Args:
            tensor: Any tensor.
            kind: What it is for, even if it is known; what its phase suggests if not given.
            always: It was there before the step.
            operator: What made it.
        """
        storage = tensor.untyped_storage()
        known = self._alive.get(id(storage))
        if known is None:
            place = len(self.ledger.storages)
            birth = ALWAYS if always else self.ledger.tick()
            module = self.running[-1] if self.running else ""
            self.ledger.storages.append(
                Storage(storage.nbytes(), birth, _BORN_AS[self.phase], self.phase, module, operator)
            )
            self._alive[id(storage)] = (weakref.ref(storage, partial(self._died, id(storage))), place)
        else:
            place = known[1]
        if kind is not None:
            self.ledger.storages[place].kind = kind
        return place

    def _died(self, key: int, _: weakref.ref) -> None:
        _, place = self._alive.pop(key)
        if self.closed:
            return
        self.ledger.storages[place].death = self.ledger.tick()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operator and note what it makes."""
        if func is _DEVICE:
            return args[0].fake_device if isinstance(args[0], FakeTensor) else func(*args)
        kwargs = kwargs or {}
        self._enter_phase()
        with torch._C.DisableTorchFunction():
            return self._noted(func, args, kwargs)

    def _noted(self, func: Any, args: tuple, kwargs: dict) -> Any:
        out = self._run(func, args, kwargs)
        made = (
            [out]
            if isinstance(out, Tensor)
            else [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        )
        for tensor in made:
            place = self.note(tensor, operator=str(func))
            if func is _SUM and self.phase == "backward" and isinstance(args[0], Tensor):
                self._note_sum(place, args[0])
            elif func is _CAST and self.phase == "forward":
                self._note_cast(place, args[0])
        if self.scratch is not None and made:
            self._note_scratch(self.scratch(func, args, out), str(func))
        return out

    def _run(self, func: Any, args: tuple, kwargs: dict) -> Any:
        tensors = _tensors(args, kwargs)
        mode = next((tensor.fake_mode for tensor in tensors if isinstance(tensor, FakeTensor)), None)
        if mode is not None:
            if func in WORST_CASES:
                self._assume(func, tensors)
                return WORST_CASES[func](func, *args, **kwargs)
            try:
                return REMEMBERED.call(func, args, kwargs, mode)
            except (DynamicOutputShapeException, DataDependentOutputException):
                raise ValueError(
                    f"the result of {func}, called {_place()}, depends on values, which are not there while a step is "
                    "planned; give plan_memory real=True, which takes the step on real tensors, or do without it"
                ) from None
        if not tensors:
            made = func(*args, **kwargs)
            leaves = [leaf for leaf in tree_leaves(made) if isinstance(leaf, FakeTensor)]
            if not leaves or any(leaf.numel() > MOST_REAL for leaf in leaves):
                return made
        with unset_fake_temporarily():
            return func(*args, **kwargs)

    def _assume(self, func: Any, tensors: list[Tensor]) -> None:
        note = f"{func}: everything is taken to be selected"
        masks = [tensor for tensor in tensors[1:] if tensor.dtype == torch.bool]
        depends = func not in _OFTEN_PLAIN or any(isinstance(mask, FakeTensor) for mask in masks)
        if depends and note not in self.ledger.notes:
            self.ledger.notes.append(note)

    def _enter_phase(self) -> None:
        if torch._C._current_graph_task_id() != -1:
            phase = "backward"
        elif self.in_optimizer:
            phase = "optimizer"
        elif self.phase in ("backward", "optimizer") and not self.running:
            phase = self.phase
        else:
            phase = "loss" if self.done_forward and not self.running else "forward"
        if not self.ledger.phases or phase != self.phase:
            self.phase = phase
            self.ledger.phases.append((self.ledger.clock, phase))

    def _note_scratch(self, size: int, operator: str) -> None:
        if size > 0:
            begin, end = self.ledger.tick(), self.ledger.tick()
            module = self.running[-1] if self.running else ""
            self.ledger.storages.append(
                Storage(
                    size, begin, _BORN_AS[self.phase], self.phase, module, f"{operator} inside", death=end
                )
            )

    def _note_sum(self, place: int, first: Tensor) -> None:
        known = self._alive.get(id(first.untyped_storage()))
        storages = self.ledger.storages
        if known is not None and storages[known[1]].size == storages[place].size and known[1] != place:
            storages[place].replaces = known[1]

    def _note_cast(self, place: int, source: Any) -> None:
        known = self._alive.get(id(source.untyped_storage())) if isinstance(source, Tensor) else None
        if known is not None and known[1] != place and self.ledger.storages[known[1]].kind == kinds.WEIGHTS:
            self.ledger.storages[place].kind = kinds.COPIES

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = self.ledger.storages[self.note(tensor)]
        if storage.kind in (kinds.FORWARD, kinds.LOSS, kinds.BACKWARD):
            storage.kind = kinds.SAVED if self.running else kinds.LOSS
            storage.module = self.running[-1] if self.running else storage.module
        return tensor

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Know which module runs, what is kept for the backward pass and when the optimizer steps."""
        call = nn.Module.__call__

        def named(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            name = self.names.get(id(module))
            if name is None:
                return call(module, *args, **kwargs)
            self.running.append(name)
            try:
                return call(module, *args, **kwargs)
            finally:
                self.running.pop()
                self.done_forward = self.done_forward or module is self.root

        def step(inside: bool, *_: Any) -> None:
            self.in_optimizer = inside

        handles = [
            register_optimizer_step_pre_hook(partial(step, True)),
            register_optimizer_step_post_hook(partial(step, False)),
        ]
        nn.Module.__call__ = named  # type: ignore[method-assign]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
                yield
        finally:
            nn.Module.__call__ = call  # type: ignore[method-assign]
            for handle in handles:
                handle.remove()

    def note_all(self, parts: Mapping[str, Iterable[Tensor]], *, always: bool) -> None:
        """Write down tensors by their kind."""
        for kind, tensors in parts.items():
            for tensor in tensors:
                self.note(tensor, kind, always=always)


def _tensors(args: tuple, kwargs: dict) -> list[Tensor]:
    """Return the tensors among arguments; operators have them bare or in lists."""
    found: list[Tensor] = []
    for item in (*args, *kwargs.values()):
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, list | tuple):
            found += [one for one in item if isinstance(one, Tensor)]
    return found


def _place() -> str:
    """Return which line of the step is running, the innermost outside of PyTorch and this package."""
    libraries = (Path(torch.__file__).parent, Path(__file__).parent)
    for frame in reversed(traceback.extract_stack()):
        if not any(Path(frame.filename).is_relative_to(library) for library in libraries):
            return f"in {frame.filename}:{frame.lineno} ({frame.line})"
    return "by PyTorch itself"
