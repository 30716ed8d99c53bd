"""A tape of what a script does from its model's input to its loss, which can be played again with other weights."""

import copy
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from trivet.doctor.experiment import UnprovableError, score_samples
from trivet.doctor.probe.losses import LOSSES
from trivet.doctor.probe.session import Patches, compiling

MOST_ENTRIES = 5000
MOST_BYTES = 256 * 1024**2
"""Of the batches that are kept, over all tapes."""
DEPTH = 6


@dataclass(frozen=True)
class Slot:
    """The place of a tensor on a tape."""

    index: int


@dataclass
class Entry:
    """One call: a function of torch or a module, its arguments, and the slots of the tensors that it makes."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    gradient: bool
    made: list[int] = field(default_factory=list)


Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Played:
    """What playing a step gives: its loss, and for each tape (output, target) of the losses of `torch.nn.functional`."""

    loss: torch.Tensor
    pairs: list[list[Pair]]

    def scores(self) -> torch.Tensor:
        """Score each sample `[n]`, over all losses that say something about every sample.

        Raises:
            UnprovableError: If no loss does.
        """
        return torch.cat([_scores(pairs) for pairs in self.pairs])


class Tape:
    """The calls between the first call of a model and the backward of a loss, in order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.given: dict[int, torch.Tensor] = {}
        self.live: dict[int, torch.Tensor] = {}
        self.loss = -1
        self.value = 0.0
        self.random = torch.get_rng_state()
        self.fault = ""
        self._slots: dict[int, int] = {}
        self._held: list[torch.Tensor] = []
        self._left: set[int] = set()

    @property
    def bytes(self) -> int:
        """Memory of the copies of what came from outside."""
        return sum(tensor.nbytes for tensor in self.given.values())

    def begin(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry:
        """Note a call before it is made, while its arguments are what they are."""
        arguments = mapped(args, torch.Tensor, self._slot), mapped(kwargs, torch.Tensor, self._slot)
        return Entry(original_of(function), *arguments, torch.is_grad_enabled())

    def end(self, entry: Entry, output: Any) -> None:
        """Note what a call has made."""
        entry.made = [self._made(tensor) for tensor in tensors_in(output)]
        self.entries.append(entry)
        if len(self.entries) > MOST_ENTRIES:
            self.fault = f"a step has more than {MOST_ENTRIES} operations"

    def close(self, loss: torch.Tensor) -> None:
        """End the tape with the loss that the backward begins at."""
        self.loss = self._slots.get(id(loss), -1)
        if id(loss) in self._left:
            self.fault = self.fault or "the loss is computed from gradients"
        if self.loss < 0:
            self.fault = (
                self.fault or "the loss was not computed from the model's output by functions of torch"
            )
        self.value = loss.detach().item() if loss.numel() == 1 else float("nan")
        self._slots.clear()
        self._held.clear()
        self._left.clear()

    def leaves_out(self, function: Callable[..., Any], args: Any, kwargs: Any) -> bool:
        """Whether a call is about gradients of the step before, as `zero_grad` between loss and backward makes."""
        if getattr(function, "__self__", None) is torch.Tensor.grad:
            return True
        return bool(self._left) and any(id(tensor) in self._left for tensor in tensors_in((args, kwargs)))

    def leave_out(self, output: Any) -> None:
        """Know what such a call has made: calls on it are left out too."""
        for tensor in tensors_in(output):
            self._held.append(tensor)
            self._left.add(id(tensor))

    def play(self) -> torch.Tensor:
        """Make the same calls again, with the modules and parameters as they are now; returns the loss."""
        values = {slot: tensor.clone() for slot, tensor in self.given.items()} | self.live

        def value_of(slot: Slot) -> torch.Tensor:
            return values[slot.index]

        for entry in self.entries:
            args, kwargs = mapped(entry.args, Slot, value_of), mapped(entry.kwargs, Slot, value_of)
            with torch.set_grad_enabled(entry.gradient and torch.is_grad_enabled()):
                output = now_called(entry.function)(*args, **kwargs)
            values |= zip(entry.made, tensors_in(output), strict=True)
        return values[self.loss]

    def _slot(self, tensor: torch.Tensor) -> Slot:
        known = self._slots.get(id(tensor))
        if known is not None:
            return Slot(known)
        slot = self._enter(tensor)
        if tensor.requires_grad and tensor.is_leaf:
            self.live[slot] = tensor
        else:
            if tensor.requires_grad:
                self.fault = "the loss depends on what was computed before the model was called"
            self.given[slot] = tensor.detach().clone()
        return Slot(slot)

    def _made(self, tensor: torch.Tensor) -> int:
        known = self._slots.get(id(tensor))
        return self._enter(tensor) if known is None else known

    def _enter(self, tensor: torch.Tensor) -> int:
        self._held.append(tensor)  # so that its id stays its own
        slot = self._slots[id(tensor)] = len(self._held) - 1
        return slot


class Recorder(TorchFunctionMode):
    """Writes the functions of torch that are called onto a tape, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.tape: Tape | None = None
        self.inside = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, and note it."""
        kwargs, tape = kwargs or {}, self.tape
        if tape is None or compiling():
            return func(*args, **kwargs)
        if tape.leaves_out(func, args, kwargs):
            output = func(*args, **kwargs)
            tape.leave_out(output)
            return output
        reads = func.__name__ == "__get__"
        entry = None if reads else tape.begin(func, args, kwargs)
        self.inside = True
        try:
            output = func(*args, **kwargs)
        finally:
            self.inside = False
        if self.tape is not tape or (not _changes(func) and next(tensors_in(output), None) is None):
            return output
        tape.end(entry or tape.begin(func, args, kwargs), output)
        return output


class Replayed(nn.Module):
    """The modules that a script calls, as one model whose input is a step's tapes and whose output is `Played`.

    Args:
        roots: The modules, in the order of their first call.
    """

    def __init__(self, roots: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(roots)

    @property
    def entry(self) -> nn.Module:
        """The first module with weights, which is given the batch."""
        return next(part for part in self.parts if next(part.parameters(), None) is not None)

    def forward(self, step: "Step") -> Played:
        """Play a step."""
        pairs: list[list[Pair]] = []
        patches = Patches()

        def noted(original: Any) -> Any:
            def loss(input: torch.Tensor, target: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
                pairs[-1].append((input.detach(), target.detach()))
                return original(input, target, *args, **kwargs)

            return loss

        for name in LOSSES:
            patches.wrap(F, name, noted)
        try:
            losses = []
            for tape in step.tapes:
                pairs.append([])
                losses.append(tape.play())
        finally:
            patches.undo()
        return Played(torch.stack(losses).sum(), pairs)


@dataclass
class Step:
    """The tapes of the backward passes of one optimizer step."""

    tapes: list[Tape]


def _scores(pairs: list[Pair]) -> torch.Tensor:
    known = []
    for output, target in pairs:
        try:
            known.append(score_samples(output, target))
        except UnprovableError:
            continue
    if not known:
        raise UnprovableError("no loss of torch.nn.functional says how good the answer to each sample is")
    return torch.stack([scores for scores in known if len(scores) == len(known[0])]).mean(0)


def tensors_in(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists, tuples, dicts and objects, always in the same order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < DEPTH:
        items = value.values() if isinstance(value, Mapping) else value
        if isinstance(value, (Mapping, list, tuple)):
            for item in items:
                yield from tensors_in(item, depth + 1)
        elif _is_record(value):
            for item in vars(value).values():
                yield from tensors_in(item, depth + 1)


def mapped(value: Any, kind: type, change: Callable[[Any], Any], depth: int = 0) -> Any:
    """Copy nested lists, tuples, dicts and objects, with what is of a kind changed."""
    if isinstance(value, kind):
        return change(value)
    if depth >= DEPTH or isinstance(value, torch.Size):
        return value

    def inner(item: Any) -> Any:
        return mapped(item, kind, change, depth + 1)

    if isinstance(value, tuple):
        return type(value)(*map(inner, value)) if hasattr(value, "_fields") else tuple(map(inner, value))
    if type(value) is list:
        return list(map(inner, value))
    if type(value) is dict:
        return {key: inner(item) for key, item in value.items()}
    if isinstance(value, (dict, list)) or _is_record(value):
        return _mapped_object(value, inner)
    return value


def original_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function itself where a wrapper stands for it in `torch.nn.functional`."""
    if getattr(F, getattr(function, "__name__", ""), None) is function and hasattr(function, "__wrapped__"):
        return inspect.unwrap(function)
    return function


def now_called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands for a function in `torch.nn.functional` now: a fix, or a watch, may have replaced it."""
    twin = getattr(F, getattr(function, "__name__", ""), None)
    return twin if twin is not None and inspect.unwrap(twin) is function else function


def _mapped_object(value: Any, inner: Callable[[Any], Any]) -> Any:
    changed = copy.copy(value)
    if isinstance(value, list):
        changed[:] = map(inner, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            changed[key] = inner(item)
    else:
        for name, item in vars(value).items():
            object.__setattr__(changed, name, inner(item))
    return changed


def _is_record(value: Any) -> bool:
    """Whether a value is an object that carries tensors, and not a module, function, class or the like."""
    if isinstance(value, (nn.Module, type, types.ModuleType, types.FunctionType, types.MethodType, Slot)):
        return False
    held = getattr(value, "__dict__", None)
    if not isinstance(held, dict) or type(value).__module__.startswith(("torch.", "builtins")):
        return False
    return any(isinstance(item, (torch.Tensor, Slot, dict, list, tuple)) for item in held.values())


def _changes(function: Any) -> bool:
    """Whether a function changes its first argument: its name ends in one underscore, or it sets items."""
    name = function.__name__
    return name in ("__setitem__", "__set__") or (name.endswith("_") and not name.endswith("__"))
