"""Results of operators on fake tensors, remembered: shapes, layouts and types, which is all that fake tensors have.

PyTorch finds them anew for each call, in half a millisecond. A step of a network calls the same operators on the same
shapes over and over, and remedies are planned on networks that differ in little.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

MOST = 1 << 17
"""Results that are kept; then all are forgotten."""
_CPU = torch.device("cpu")
_CHANGES_SHAPES = torch.Tag.inplace_view
_DEPENDS_ON_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class _Kind(Enum):
    """What an operator returns."""

    FRESH = "tensors of their own"
    WRITTEN = "the argument it wrote to"
    VIEW = "the memory of its first argument"
    OTHER = "something else, or what depends on values"


@dataclass(frozen=True, slots=True)
class _Made:
    """What a call returned, without the tensors: where one was, its shape, strides and type."""

    leaves: tuple[Any, ...]
    tree: TreeSpec | None


@dataclass(frozen=True, slots=True)
class _Meta:
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype

    def new(self, mode: FakeTensorMode) -> FakeTensor:
        """Return a fake tensor like it; call where dispatch is off."""
        plain = torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device="meta")
        return FakeTensor(mode, plain, _CPU)


class Remembered:
    """Calls operators on fake CPU tensors, and answers from memory where it can."""

    def __init__(self) -> None:
        self._made: dict[tuple, _Made | None] = {}
        self._kinds: dict[Any, tuple[_Kind, int | str]] = {}

    def call(self, func: Any, args: tuple, kwargs: dict, mode: FakeTensorMode) -> Any:
        """Return what an operator returns; at least one of its tensors is fake."""
        kind, place = self._kind_of(func)
        if kind is _Kind.VIEW and isinstance(args[0], FakeTensor) and args[0].constant is None:
            return _view(func, args, kwargs, mode)
        if kind in (_Kind.OTHER, _Kind.VIEW):
            return func(*args, **kwargs)
        key = _key(func, args, kwargs)
        if key is None:
            return func(*args, **kwargs)
        if key in self._made:
            known = self._made[key]
            if kind is _Kind.WRITTEN and known is not None:
                if known.leaves:
                    return kwargs[place] if isinstance(place, str) else args[place]
                return None
            if known is not None:
                with torch._C._DisableTorchDispatch():
                    leaves = [leaf.new(mode) if isinstance(leaf, _Meta) else leaf for leaf in known.leaves]
                return leaves[0] if known.tree is None else tree_unflatten(leaves, known.tree)
            return func(*args, **kwargs)
        made = func(*args, **kwargs)
        if len(self._made) >= MOST:
            self._made.clear()
        if kind is _Kind.FRESH:
            self._made[key] = _without_tensors(made, args, kwargs)
        elif _key(func, args, kwargs) == key:  # the argument kept its size
            self._made[key] = _Made(() if made is None else (made is not None,), None)
        return made

    def _kind_of(self, func: Any) -> tuple[_Kind, int | str]:
        if func not in self._kinds:
            self._kinds[func] = _kind_of(func)
        return self._kinds[func]


def _kind_of(func: Any) -> tuple[_Kind, int | str]:
    """Tell what an operator returns and, for one that writes, to which argument."""
    if (
        not isinstance(func, OpOverload)
        or func.namespace != "aten"
        or _CHANGES_SHAPES in func.tags
        or any(tag in func.tags for tag in _DEPENDS_ON_VALUES)
    ):
        return _Kind.OTHER, 0
    schema = func._schema
    shared = [number for number, item in enumerate(schema.arguments) if item.alias_info is not None]
    returned = [item.alias_info for item in schema.returns]
    if not shared and all(alias is None for alias in returned):
        return _Kind.FRESH, 0
    if len(shared) != 1:
        return _Kind.OTHER, 0
    argument = schema.arguments[shared[0]]
    writes = argument.alias_info is not None and argument.alias_info.is_write
    if shared == [0] and func.is_view and not writes:
        return _Kind.VIEW, 0
    if not writes or len(returned) > 1 or any(alias is None or not alias.is_write for alias in returned):
        return _Kind.OTHER, 0
    return _Kind.WRITTEN, argument.name if argument.kwarg_only else shared[0]


def _view(func: Any, args: tuple, kwargs: dict, mode: FakeTensorMode) -> Any:
    """Return a view, or several, from PyTorch's own code for tensors without values."""
    with in_kernel_invocation_manager(mode):
        made = func(*args, **kwargs)
    if isinstance(made, Tensor):
        return FakeTensor(mode, made, _CPU)
    return [FakeTensor(mode, item, _CPU) for item in made]


def _key(func: Any, args: tuple, kwargs: dict) -> tuple | None:
    """Return what the result depends on; `None` where that is more than shapes and plain values."""
    parts: list[Any] = [func]
    try:
        for item in args:
            _add(parts, item)
        for name, item in kwargs.items():
            parts.append(name)
            _add(parts, item)
    except TypeError:
        return None
    return tuple(parts)


def _add(parts: list[Any], item: Any) -> None:
    if isinstance(item, Tensor):
        if item.layout is not torch.strided or getattr(item, "constant", None) is not None:
            raise TypeError
        parts += (item.shape, item.stride(), item.dtype)
    elif isinstance(item, list | tuple):
        parts.append(len(item))
        for one in item:
            _add(parts, one)
    else:
        hash(item)
        parts += (type(item), item)  # 1, 1.0 and True are equal


def _without_tensors(made: Any, args: tuple, kwargs: dict) -> _Made | None:
    """Return a result as it is remembered; `None` where tensors share memory or are more than their shapes."""
    leaves, tree = tree_flatten(made)
    given = {id(item.untyped_storage()) for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)}
    kept: list[Any] = []
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            kept.append(leaf)
            continue
        if not _is_plain(leaf) or id(leaf.untyped_storage()) in given:
            return None
        given.add(id(leaf.untyped_storage()))
        kept.append(_Meta(leaf.shape, leaf.stride(), leaf.dtype))
    return _Made(tuple(kept), None if isinstance(made, Tensor) else tree)


def _is_plain(leaf: Tensor) -> bool:
    if not isinstance(leaf, FakeTensor) or leaf.layout is not torch.strided or leaf.fake_device != _CPU:
        return False
    ends = [(side - 1) * stride for side, stride in zip(leaf.shape, leaf.stride(), strict=True)]
    needed = leaf.element_size() * (sum(ends) + 1) if leaf.numel() else 0
    return bool(
        leaf.constant is None
        and not leaf.requires_grad
        and leaf.storage_offset() == 0
        and leaf.untyped_storage().nbytes() == needed
    )


REMEMBERED = Remembered()
"""Of this process: results do not depend on what is planned."""
