"""Borrows live models and optimizers: whatever is done to them inside the block is undone to the bit afterwards."""

import functools
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.ledger import is_lazy

MOST_ITEMS = 100_000
"""Containers of more items than this are taken for data, which training does not change."""


@contextmanager
def borrowed(*things: Any) -> Iterator[None]:
    """Lend models, optimizers and loss functions: inside the block they work on copies of their tensors.

    The objects stay the same; their tensors point at copied memory, without gradients, and point back afterwards.
    What is put back: weights, buffers and other tensors that the things hold (also through lists, attributes and
    the closures of functions), gradients, `requires_grad`, optimizer state and groups, every attribute of every
    module (so training modes, hooks and submodules), and the random state of python, numpy (if imported) and torch
    on all devices. Memory: one copy of all tensors.

    Raises:
        ValueError: If a lazy parameter has not got its shape yet.
    """
    restore_random = keep_random_state()
    keeper = _Keeper()
    try:
        for thing in things:
            keeper.keep(thing)
        keeper.lend()
        yield
    finally:
        keeper.put_back()
        restore_random()


def keep_random_state() -> Callable[[], None]:
    """Return a function that puts the random state of python, numpy (if imported) and torch back as it is now."""
    python, cpu = random.getstate(), torch.get_rng_state()
    cuda = (
        torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    )
    numpy = sys.modules.get("numpy")
    drawn = numpy.random.get_state() if numpy is not None else None

    def restore() -> None:
        random.setstate(python)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if numpy is not None:
            numpy.random.set_state(drawn)

    return restore


class _Keeper:
    """Finds all that can change below some things, and how to put each back."""

    def __init__(self) -> None:
        self._met: dict[int, Any] = {}
        self._undo: list[Callable[[], None]] = []
        self._tensors: list[torch.Tensor] = []
        self._memory: dict[tuple[str, int], torch.UntypedStorage] = {}

    def keep(self, first: Any) -> None:
        """Remember a thing and all that it holds, without recursion: models may be deep."""
        waiting = deque([first])
        while waiting:
            thing = waiting.popleft()
            if id(thing) in self._met or len(self._met) > MOST_ITEMS:
                continue
            held = self._remember(thing)
            if held is not None:
                self._met[id(thing)] = thing
                waiting.extend(held)

    def lend(self) -> None:
        """Point every tensor at a copy of its memory; tensors that share memory go on sharing it."""
        for tensor in self._tensors:
            tensor.data = self._copied(tensor.data)
            if tensor.is_leaf:
                tensor.grad = None

    def put_back(self) -> None:
        """Put everything back, last first."""
        while self._undo:
            self._undo.pop()()

    def _remember(self, thing: Any) -> list[Any] | None:
        """Keep how to restore one thing; returns what it holds, or `None` for what cannot change."""
        if isinstance(thing, torch.Tensor):
            return self._remember_tensor(thing)
        if isinstance(thing, torch.Generator):
            state = thing.get_state()

            def put_back() -> None:
                thing.set_state(state)

            self._undo.append(put_back)
            return []
        if isinstance(thing, (list, deque, dict, set)) and len(thing) <= MOST_ITEMS:
            return self._remember_container(thing)
        if isinstance(thing, tuple):
            return list(thing)
        if isinstance(thing, types.MethodType):
            return [thing.__self__, thing.__func__]
        if isinstance(thing, functools.partial):
            return [thing.func, *thing.args, *thing.keywords.values()]
        if isinstance(thing, types.FunctionType):
            return _held_by_function(thing)
        if isinstance(thing, (nn.Module, torch.optim.Optimizer)) or _is_plain_object(thing):
            return self._remember_container(vars(thing))
        return None

    def _remember_tensor(self, tensor: torch.Tensor) -> list[Any]:
        if is_lazy(tensor):
            raise ValueError("a lazy parameter has no shape yet: run the model once on a batch before")
        if tensor.layout != torch.strided or tensor.device.type == "meta":
            return []
        data, requires_grad, leaf = tensor.data, tensor.requires_grad, tensor.is_leaf
        gradient = tensor.grad if leaf else None

        def put_back() -> None:
            tensor.data = data
            if leaf:
                tensor.requires_grad_(requires_grad)
                tensor.grad = gradient

        self._tensors.append(tensor)
        self._undo.append(put_back)
        hooks = getattr(tensor, "_post_accumulate_grad_hooks", None)
        return [hooks] if hooks else []

    def _remember_container(self, container: Any) -> list[Any]:
        contents = dict(container) if isinstance(container, dict) else list(container)

        def put_back() -> None:
            container.clear()
            (container.update if isinstance(container, (dict, set)) else container.extend)(contents)

        self._undo.append(put_back)
        return [*contents, *contents.values()] if isinstance(contents, dict) else contents

    def _copied(self, data: torch.Tensor) -> torch.Tensor:
        if type(data) is not torch.Tensor:
            return data.clone()
        storage = data.untyped_storage()
        key = (str(data.device), storage.data_ptr())
        if not storage.data_ptr():
            return data.clone()
        if key not in self._memory:
            self._memory[key] = storage.clone()
        lent = torch.empty(0, dtype=data.dtype, device=data.device)
        return lent.set_(self._memory[key], data.storage_offset(), data.size(), data.stride())


def _held_by_function(function: types.FunctionType) -> list[Any]:
    """What a function reaches: its closure, its defaults, and the globals that it names."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    wanted = (nn.Module, torch.Tensor, torch.optim.Optimizer, torch.Generator)
    return [*cells, *(function.__defaults__ or ()), *(thing for thing in named if isinstance(thing, wanted))]


def _filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _is_plain_object(thing: Any) -> bool:
    """Whether a thing is an object of a class in python with attributes of its own, no class, module or function."""
    if isinstance(thing, (type, types.ModuleType)) or not isinstance(getattr(thing, "__dict__", None), dict):
        return False
    home = type(thing).__module__.partition(".")[0]
    return home not in {"builtins", "logging", "threading", "weakref", "_thread", "multiprocessing"}
