"""Watches where the user's code takes tensors out of the graph: `detach`, `item`, `torch.tensor(...)`, `no_grad`."""

import ast
import linecache
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from trivet.doctor.graph import walk_graph
from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.source import Place, calling_frame, is_user_file, parsed, place_of_frame, user_frames

CUTTERS = ("detach", "argmax", "round", "sign", "tensor", "no_grad", "tolist", "item", "sample")
"""What cuts, the surest first: `item` often serves the log only, and `sample` may go with a `log_prob`."""
METHODS = ("detach", "argmax", "round", "sign", "tolist", "item")
TAKEN = ("data", "detach", "item", "tolist", "numpy")
COPIES = ("tensor", "as_tensor", "array", "asarray", "float", "int", "Tensor", "FloatTensor")
OFF = ("no_grad", "inference_mode", "set_grad_enabled(False)")
NOTED_STEPS = 2
MOST_NODES = 3000


@dataclass
class Cut:
    """A line that cuts, and the leaves that lie behind it."""

    operation: str
    place: Place
    leaves: "list[weakref.ref[torch.Tensor]]"


class CutWatch:
    """Records, in the first steps, which parameters lie behind a cut made by the user's own code."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.cuts: dict[tuple[str, Place], Cut] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the methods of `torch.Tensor`, `torch.tensor`, and the drawing of samples that have no gradient."""
        for name in METHODS:
            patches.wrap(torch.Tensor, name, partial(self._wrap, name), rests=True)
        patches.wrap(torch, "tensor", self._wrap_tensor, rests=True)
        for kind in _distributions():
            patches.wrap(kind, "sample", self._wrap_sample, rests=True)

    def ordered(self) -> list[Cut]:
        """Return the cuts, the surest first."""
        return sorted(self.cuts.values(), key=lambda cut: CUTTERS.index(cut.operation))

    def places(self) -> dict[int, Place]:
        """Where the code cuts leaves that live off, by their ids."""
        found: dict[int, Place] = {}
        for cut in self.ordered():
            for ref in cut.leaves:
                if (leaf := ref()) is not None:
                    found.setdefault(id(leaf), cut.place)
        return found

    def observe(self, module: nn.Module, *_: object) -> None:
        """Note a module with parameters that is called in train mode with gradients switched off."""
        own = [p for p in vars(module).get("_parameters", {}).values() if p is not None and p.requires_grad]
        if self.session.steps >= NOTED_STEPS or not own or not module.training or torch.is_grad_enabled():
            return
        for frame in user_frames():
            place = switched_off(frame.f_code.co_filename, frame.f_lineno)
            if place is not None:
                cut = self.cuts.setdefault(("no_grad", place), Cut("no_grad", place, []))
                cut.leaves += [weakref.ref(p) for p in own]
                return

    def _wrap(self, name: str, original: Any) -> Any:
        session, watch = self.session, self

        def cut(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if compiling():
                return original(self, *args, **kwargs)
            if session.steps < NOTED_STEPS and session.active and self.requires_grad:
                watch._see(name, [self])
            return original(self, *args, **kwargs)

        return cut

    def _wrap_tensor(self, original: Any) -> Any:
        session = self.session

        def tensor(*args: Any, **kwargs: Any) -> Any:
            if compiling():
                return original(*args, **kwargs)
            if session.steps < NOTED_STEPS and session.active:
                data = args[0] if args else kwargs.get("data")
                items = data[:64] if isinstance(data, (list, tuple)) else [data]
                copied = [item for item in items if isinstance(item, torch.Tensor) and item.requires_grad]
                if copied:
                    self._see("tensor", copied)
            return original(*args, **kwargs)

        return tensor

    def _wrap_sample(self, original: Any) -> Any:
        session, watch = self.session, self

        def sample(self: Any, *args: Any, **kwargs: Any) -> Any:
            drawn = original(self, *args, **kwargs)
            if session.steps < NOTED_STEPS and session.active and not compiling():
                given = [v for v in vars(self).values() if isinstance(v, torch.Tensor) and v.requires_grad]
                if given:
                    watch._see("sample", given)
            return drawn

        return sample

    def _see(self, name: str, tensors: list[torch.Tensor]) -> None:
        frame = calling_frame()
        if frame is None or not is_user_file(frame.f_code.co_filename) or not torch.is_grad_enabled():
            return
        with self.session.measured():
            place = place_of_frame(frame)
            if (name, place) not in self.cuts and len(self.cuts) < 64:
                leaves = walk_graph(tensors, most=MOST_NODES).leaves.values()
                self.cuts[name, place] = Cut(name, place, [weakref.ref(leaf) for leaf in leaves])


def _distributions() -> list[type]:
    """All of torch's distributions that draw samples by code of their own."""
    found, kinds = [], [torch.distributions.Distribution]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found += [kind] if "sample" in vars(kind) else []
    return list(dict.fromkeys(found))


def cut_in_source(files: Iterable[str], name: str) -> Place | None:
    """Return the first line outside `__init__` that reads `x.name` for its values only: `.data`, `.item()`, `float`."""
    for file in dict.fromkeys(files):
        tree = parsed(file)
        for function in ast.walk(tree) if tree is not None else ():
            if (
                not isinstance(function, ast.FunctionDef)
                or "init" in function.name
                or "reset" in function.name
            ):
                continue
            derived = _derived_from(function, name)
            for node in ast.walk(function):
                if isinstance(node, ast.expr) and not _is_target(node) and _takes_values(node, name, derived):
                    line = linecache.getline(file, node.lineno).strip()
                    return Place(file, node.lineno, line, function.name)
    return None


def _is_target(node: ast.expr) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


def _derived_from(function: ast.FunctionDef, name: str) -> set[str]:
    """Variables of a function that are made of `x.name`, or of one that is."""
    derived: set[str] = set()
    for _ in range(3):
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and _names(node.value, name, derived):
                parts = [part for target in node.targets for part in ast.walk(target)]
                derived |= {part.id for part in parts if isinstance(part, ast.Name) and _is_target(part)}
    return derived


def _takes_values(node: ast.expr, name: str, derived: set[str]) -> bool:
    if isinstance(node, ast.Attribute) and node.attr in TAKEN:
        return _names(node.value, name, derived)
    if isinstance(node, ast.Call):
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return called in COPIES and any(_names(argument, name, derived) for argument in node.args)
    return False


def _names(node: ast.expr, name: str, derived: set[str]) -> bool:
    return any(
        (isinstance(part, ast.Attribute) and part.attr == name)
        or (isinstance(part, ast.Name) and part.id in derived)
        for part in ast.walk(node)
    )


def switched_off(file: str, line: int) -> Place | None:
    """Return the `with torch.no_grad()` around a line, or the decorator of its function."""
    tree = parsed(file)
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, (ast.With, ast.AsyncWith, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if not node.lineno <= line <= (node.end_lineno or line):
            continue
        off: list[ast.expr] = []
        if isinstance(node, (ast.With, ast.AsyncWith)):
            off = [item.context_expr for item in node.items]
        else:
            off = node.decorator_list
        for expression in off:
            if any(word in ast.unparse(expression) for word in OFF):
                at = expression.lineno
                return Place(file, at, linecache.getline(file, at).strip())
    return None
