"""Example inputs of a module: checked, and brought to a batch size."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from trivet.memory.layout import layout_of
from trivet.memory.step import fake_like

MOST_KEPT = 1 << 16
"""Tensors of up to so many numbers an example keep their values among fake ones: boxes, labels, tokens; not images."""
_FUNCTION = "For others give a function of the batch size that returns the inputs"
_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, type(None))


@dataclass(frozen=True)
class Example:
    """What a function is called with: tensors and plain values, alone or in lists, tuples and mappings.

    A list inside has one item an example; in tensors outside of lists the first side is the examples.

    Args:
        args: By place.
        kwargs: By name.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def at(self, batch: int | None, *, real: bool) -> "Example":
        """Return copies of the example on the CPU; call while fake tensors are made, unless `real`.

        Args:
            batch: How many examples it shall have, by repeating those it has; `None` keeps them.
            real: Whether all tensors keep their values; otherwise the small ones.
        """

        def copied(value: Any, batch: int | None) -> Any:
            if isinstance(value, Tensor):
                return _tensor_at(value, batch, real=real)
            if isinstance(value, list):
                count = len(value) if batch is None else batch
                return [copied(value[number % len(value)], None) for number in range(count)]
            if isinstance(value, tuple):
                items = [copied(item, batch) for item in value]
                return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
            if isinstance(value, Mapping):
                made: Any = copy.copy(value)
                for key, item in value.items():
                    made[key] = copied(item, batch)
                return made
            return value

        args = tuple(copied(value, batch) for value in self.args)
        return Example(args, {name: copied(value, batch) for name, value in self.kwargs.items()})

    def tensors(self) -> list[Tensor]:
        """Return all tensors: first those outside of lists, then those in lists, example by example."""
        lists: list[list[Any]] = []
        found = [*_outside((self.args, self.kwargs), lists)]
        for number in range(max(map(len, lists), default=0)):
            for items in lists:
                found += _tensors(items[number : number + 1])
        return found


def example_at(given: object, batch: int, *, real: bool) -> Example:
    """Return an example at a batch size, on the CPU; call while fake tensors are made, unless `real`.

    Args:
        given: What `plan_memory` takes: arguments, or a function of the batch size that returns them.
        batch: How many examples it shall have, by repeating those it has.
        real: Whether all tensors keep their values; otherwise the small ones.
    """
    if not callable(given):
        return _example_of(given).at(batch, real=real)
    with unset_fake_temporarily():
        made = given(batch)
    return _example_of(made).at(None, real=real)


def count_examples(examples: Mapping[str, object]) -> int:
    """Return how many examples were given, and check that all tensors and lists agree on it; 0 for functions.

    Args:
        examples: What `plan_memory` was given, by the name it has there.

    Raises:
        ValueError: If there is something else than tensors, plain values and collections of them, or counts differ.
    """
    given = {name: _example_of(value) for name, value in examples.items() if not callable(value)}
    counts: dict[str, int] = {}
    for name, example in given.items():
        for key, value in (*enumerate(example.args), *example.kwargs.items()):
            counts |= _counts(f"{name}[{key!r}]", value)
    if not counts:
        if len(given) == len(examples):
            raise ValueError(
                f"{' and '.join(given)} hold no tensor, so that there is no batch; give at least one"
            )
        return 0
    (first, count), *others = counts.items()
    if count == 0:
        raise ValueError(f"{first} has no examples, at least one is wanted; give one like those in training")
    for place, other in others:
        if other != count:
            raise ValueError(
                f"{first} has {count} examples and {place} has {other}; wanted is the same number as the first side "
                f"of every tensor and as the length of every list. {_FUNCTION}"
            )
    return count


def _example_of(given: object) -> Example:
    """Return what was given as arguments: a mapping by name, a tuple or list by place, anything else alone."""
    if isinstance(given, Mapping):
        return Example((), given)
    return Example(tuple(given) if isinstance(given, list | tuple) else (given,), {})


def _counts(place: str, value: object) -> dict[str, int]:
    """Return the number of examples of a tensor or list, or of those in a collection, by place."""
    if isinstance(value, Tensor):
        return {place: len(value)} if value.dim() else {}
    if isinstance(value, list | tuple | Mapping):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        inside = [_counts(f"{place}[{key!r}]", item) for key, item in items]
        if isinstance(value, list):
            return {place: len(value)}
        return {name: count for found in inside for name, count in found.items()}
    if not isinstance(value, _PLAIN):
        raise ValueError(
            f"{place} is of type {type(value).__name__}; wanted are tensors and plain values, alone or in lists, "
            f"tuples and mappings. {_FUNCTION}"
        )
    return {}


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)


def _outside(value: object, lists: list[list[Any]]) -> Iterator[Tensor]:
    """Yield the tensors outside of lists, and collect the lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list):
        lists.append(value)
    elif isinstance(value, tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _outside(item, lists)


def _tensor_at(tensor: Tensor, batch: int | None, *, real: bool) -> Tensor:
    """Return a copy of a tensor, on the CPU, with its values if all are real or it is small."""
    batch = batch if tensor.dim() else None
    each = tensor.numel() // (1 if batch is None else len(tensor))
    valueless = isinstance(tensor, FakeTensor) or tensor.is_meta
    if not real and (valueless or each > MOST_KEPT):
        return fake_like(tensor, batch=batch)
    if valueless:
        raise ValueError(
            f"a tensor of shape {tuple(tensor.shape)} has no values; with real=True give a real one"
        )
    with unset_fake_temporarily():
        plain = tensor.detach().cpu()
        plain = plain.clone() if batch is None else plain[torch.arange(batch) % len(plain)]
        return plain.contiguous(memory_format=layout_of(tensor)).requires_grad_(tensor.requires_grad)
