"""Watches what a loss is added up from, in the first steps: terms without a graph, which no gradient comes from."""

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from trivet.doctor.graph import RESHAPES
from trivet.doctor.probe.cuts import switched_off
from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.source import Place, user_frames, user_place
from trivet.doctor.trace import ConstantTermTrace
from trivet.doctor.trace_data import OuterTrace

STEPS = 2
"""Optimizer steps in which is looked."""
MOST_CALLS = 4000
MOST_NODES = 200
MOST_HELD = 1 << 12
"""Numbers of a tensor that is kept alive until the backward, so that its id stays its own: what is large would cost memory."""
SUMS = (
    "add",
    "add_",
    "__add__",
    "__radd__",
    "__iadd__",
    "sub",
    "sub_",
    "__sub__",
    "__rsub__",
    "__isub__",
    "rsub",
)
PRODUCTS = ("mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply")
AVERAGES = ("mean", "sum", "nanmean")
JOINS = ("stack", "cat", "concat", "hstack")
LINEAR = (
    *("Add", "Sub", "Rsub", "Neg", "Mul", "Div", "Sum", "Mean", "Stack", "Cat", "ToCopy", "Expand", "Alias"),
    *RESHAPES,
)
"""Operations whose results a constant goes through as it is, or as a multiple of itself."""


@dataclass
class _Dead:
    """A tensor without a graph that was computed from one with: where it lost it, and the tensors it is a copy of."""

    ref: "weakref.ref[torch.Tensor]"
    place: Place | None
    copies: frozenset[int]


@dataclass
class _Term:
    """A sum with such a tensor: its node in the graph, and how much is added."""

    node: Any
    place: Place | None
    added_at: Place | None
    value: float
    origin: float | None = None
    """What the number was made of, where a number is added instead of a tensor."""


class TermWatch(TorchFunctionMode):
    """Sees the functions of torch that are called between a model's answer and the backward of its loss.

    It lies below every other mode of the script, so that each of those ends as it began; it never lies there when a
    script compiles something with `torch.compile`, which would take it into its graphs.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.found: dict[tuple[Place | None, Place | None], ConstantTermTrace] = {}
        self.outers: dict[Place | None, OuterTrace] = {}
        self._outer: dict[int, tuple[torch.Tensor, Place | None, list[list[int]]]] = {}
        self._here = self._looks = False
        self._compiles = False
        self._calls = 0
        self._dead: dict[int, _Dead] = {}
        self._held: list[torch.Tensor] = []
        self._terms: list[_Term] = []
        self._numbers: list[tuple[float, Place | None]] = []
        self._multiples: dict[tuple[Place | None, Place | None], tuple[float, float]] = {}

    def install(self, patches: Patches) -> None:
        """Wrap `torch.compile`."""
        patches.wrap(torch, "compile", self._wrap_compile)
        patches.on_undo(self.end)

    def _wrap_compile(self, original: Any) -> Any:
        watch = self

        def compile(*args: Any, **kwargs: Any) -> Any:
            watch._compiles = True
            watch.end()
            return original(*args, **kwargs)

        return compile

    def after_root(self, module: nn.Module, *_: object) -> None:
        """Begin to look, after a model has answered in training."""
        compiles = self._compiles or self.session.has_compiled
        if compiles or self.session.steps >= STEPS or self._calls > MOST_CALLS:
            self.end()
        elif torch.is_grad_enabled() and any(parameter.requires_grad for parameter in module.parameters()):
            self._looks = True
            if not self._here:
                self._here = True
                _lay_below(self)

    def on_losses(self, losses: tuple[torch.Tensor, ...]) -> None:
        """Before a backward: know which of the terms are in its losses."""
        if not self._looks:
            return
        self.end()
        with self.session.measured():
            nodes = list(_linear_nodes(losses))
            whole = abs(float(sum(loss.detach().sum() for loss in losses)))
            for term in self._terms:
                if term.value and any(term.node is node for node in nodes) and self._is_known(term):
                    seen = self.found.setdefault(
                        (term.place, term.added_at), ConstantTermTrace(term.place, term.added_at)
                    )
                    seen.steps += 1
                    seen.share = max(seen.share, abs(term.value) / max(whole, abs(term.value)))
            self._forget()

    def end(self, *_: object) -> None:
        """Look no longer; within a function of torch the mode is not in its place, and stays until the next call of this."""
        self._looks = False
        if self._here:
            self._here = not _taken_out(self)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, and note what it makes of tensors without a graph."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self._looks and self._calls <= MOST_CALLS and self.session.active and not compiling():
            with self.session.measured():
                self._calls += 1
                self._note(func, args, kwargs, output)
        return output

    def _is_known(self, term: _Term) -> bool:
        """Whether it is known what is added: a number has to be the same multiple of another one in two steps."""
        if term.origin is None:
            return True
        key = term.place, term.added_at
        before, self._multiples[key] = self._multiples.get(key), (term.origin, term.value)
        if before is None or before[0] == term.origin:
            return False
        return math.isclose(before[1] * term.origin, before[0] * term.value, rel_tol=1e-9)

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        name = getattr(func, "__name__", "")
        if isinstance(output, float) and args and isinstance(args[0], torch.Tensor):
            if args[0].requires_grad and output:
                self._numbers.append((output, user_place()))
            return
        if not isinstance(output, torch.Tensor) or not output.is_floating_point() or name == "__get__":
            return
        given = list(_tensors_in([args, kwargs]))
        dead = [known for tensor in given if (known := self._known(tensor)) is not None]
        if not output.requires_grad:
            alive = [tensor for tensor in given if tensor.requires_grad]
            if self._known(output) is None and (alive or dead):
                place = dead[0].place if dead else _cut_at()
                copies = frozenset().union(
                    *(known.copies for known in dead), (id(tensor) for tensor in alive)
                )
                self._held += [tensor for tensor in alive if tensor.numel() <= MOST_HELD]
                self._dead[id(output)] = _Dead(weakref.ref(output), place, copies)
        elif name in PRODUCTS and len(given) == 2 and _is_outer(given[0], given[1], output):
            self._outer[id(output)] = output, user_place(), [list(tensor.shape) for tensor in given]
        elif (
            name in AVERAGES
            and not output.ndim
            and given
            and self._outer.get(id(given[0]), (None,))[0] is given[0]
        ):
            _, place, shapes = self._outer[id(given[0])]
            self.outers.setdefault(place, OuterTrace(place, shapes)).calls += 1
        elif self._numbers and name in SUMS and any(isinstance(value, float) for value in args):
            self._note_number(next(value for value in args if isinstance(value, float)), output)
        elif dead and (name in SUMS or name in JOINS) and output.grad_fn is not None:
            self._note_sum(given, output, kwargs)

    def _note_sum(self, given: list[torch.Tensor], output: torch.Tensor, kwargs: dict[str, Any]) -> None:
        """Note a sum of what has a graph and what has lost it, unless that is a copy of the other."""
        graphs = {id(tensor) for tensor in given if tensor.requires_grad}
        factor = kwargs.get("alpha", 1)
        for tensor in given:
            known = self._known(tensor)
            if known is not None and not known.copies & graphs:
                value = float(tensor.detach().sum()) * factor
                self._terms.append(_Term(output.grad_fn, known.place, user_place(), value))

    def _note_number(self, value: float, output: torch.Tensor) -> None:
        """Note a number that is added to what has a graph, as a multiple, perhaps, of one that was taken out of it."""
        at = user_place()
        self._terms += [_Term(output.grad_fn, place, at, value, origin) for origin, place in self._numbers]

    def _known(self, tensor: torch.Tensor) -> _Dead | None:
        known = self._dead.get(id(tensor))
        return known if known is not None and known.ref() is tensor and not tensor.requires_grad else None

    def _forget(self) -> None:
        self._dead.clear()
        self._held.clear()
        self._terms.clear()
        self._numbers.clear()
        self._outer.clear()


def _is_outer(one: torch.Tensor, other: torch.Tensor, product: torch.Tensor) -> bool:
    """Whether (n,) was multiplied by (n, 1), of which one alone has a graph: each value of a sample by every weight."""
    flat, column = sorted((one, other), key=lambda tensor: tensor.ndim)
    n = product.shape[0] if product.ndim == 2 else 0
    shapes = flat.shape == (n,) and column.shape == (n, 1) and product.shape == (n, n) and n > 1
    return shapes and one.requires_grad != other.requires_grad


def _tensors_in(values: Any) -> Iterator[torch.Tensor]:
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            yield from _tensors_in(value)


def _cut_at() -> Place | None:
    """Where gradients were switched off around the calling line, or that line itself."""
    if not torch.is_grad_enabled():
        for frame in user_frames():
            place = switched_off(frame.f_code.co_filename, frame.f_lineno)
            if place is not None:
                return place
    return user_place()


def _linear_nodes(losses: tuple[torch.Tensor, ...]) -> Iterator[Any]:
    """Yield the operations from which a constant goes into the losses' value and nowhere else: sums and their multiples."""
    level = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen: set[Any] = set(level)
    while level and len(seen) <= MOST_NODES:
        node = level.pop(0)
        yield node
        name, children = node.name(), [child for child, _ in node.next_functions]
        both = name.startswith(("Mul", "Div")) and sum(child is not None for child in children) > 1
        if name.startswith(LINEAR) and not both:
            following = [child for child in children if child is not None and child not in seen]
            seen.update(following)
            level += following


def _lay_below(mode: TorchFunctionMode) -> None:
    modes = _get_current_function_mode_stack()
    for _ in modes:
        _pop_mode()
    for each in (mode, *modes):
        _push_mode(each)


def _taken_out(mode: TorchFunctionMode) -> bool:
    """Take a mode out from among the others; returns whether it was there."""
    modes = _get_current_function_mode_stack()
    if mode not in modes:
        return False
    for _ in modes:
        _pop_mode()
    for each in modes:
        if each is not mode:
            _push_mode(each)
    return True
