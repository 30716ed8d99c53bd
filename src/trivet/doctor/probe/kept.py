"""Watches whether the graphs of the losses of earlier steps are kept alive, and by what."""

import ast
import sys
import weakref
from collections import deque
from types import FrameType
from typing import Any

import torch

from trivet.doctor.probe.session import Session
from trivet.doctor.probe.written import written_at
from trivet.doctor.signals import KeptGraphTrace
from trivet.doctor.source import Place, is_user_file, parsed, place_of_frame, user_frames

PLANTED = 64
OLD = 2
"""Steps after which the graph of a loss should be gone."""
MANY = 15
MOST_NODES = 50_000
KEY = "trivet.doctor"


class _Mark:
    """Lives as long as the node of the graph that holds it."""

    __slots__ = ("__weakref__",)


class GraphWatch:
    """Plants a mark in the graph of every loss, and counts the old ones that still live."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.trace = KeptGraphTrace()
        self._marks: deque[tuple[int, weakref.ref[_Mark]]] = deque(maxlen=PLANTED)

    def plant(self, losses: tuple[torch.Tensor, ...]) -> None:
        """Mark the graph of a loss before its backward."""
        node: Any = losses[0].grad_fn if losses else None
        if node is not None:
            mark = _Mark()
            node.metadata[KEY] = mark
            self._marks.append((self.session.steps, weakref.ref(mark)))
            self.trace.planted += 1

    def look(self) -> None:
        """Count the marks of earlier steps that still live; called from under the user's frames."""
        steps = self.session.steps
        alive = sum(1 for step, ref in self._marks if step < steps - OLD and ref() is not None)
        self.trace.alive, self.trace.most = alive, max(self.trace.most, alive)
        if alive >= MANY and not self.trace.name:
            self.trace.name, self.trace.place = self._keeper()

    def _keeper(self) -> tuple[str, Place | None]:
        """The variable that holds them, and the line that adds to it."""
        old = {id(mark) for _, ref in list(self._marks)[: MANY // 2] if (mark := ref()) is not None}
        for frame in user_frames():
            for name, value in _variables(frame):
                if _leads_to(value, old):
                    return name, _line_that_adds(frame, name)
        return "", None


def _variables(frame: FrameType) -> list[tuple[str, Any]]:
    found = list(frame.f_locals.items())
    holder = frame.f_locals.get("self")
    found += [(f"self.{name}", value) for name, value in getattr(holder, "__dict__", {}).items()]
    for name, held in frame.f_locals.items():
        if held is not holder and not isinstance(held, type) and _file_of(held) is not None:
            found += [(f"{name}.{key}", value) for key, value in getattr(held, "__dict__", {}).items()]
        elif isinstance(held, dict):  # of meters, say
            for word, item in list(held.items())[:MANY]:
                attributes = getattr(item, "__dict__", {}) if _file_of(item) is not None else {}
                found += [(f"{name}[{word!r}].{key}", value) for key, value in attributes.items()]
    return found


def _file_of(held: Any) -> str | None:
    """The user's file in which the class of an object, such as a meter of losses, is written."""
    module = sys.modules.get(type(held).__module__)
    file = getattr(module, "__file__", None)
    return file if file is not None and is_user_file(file) else None


def _leads_to(value: Any, marks: set[int], depth: int = 0) -> bool:
    """Whether a tensor, or one in a list or dict, holds a graph with one of the marks."""
    if isinstance(value, dict) and depth < 3:
        return any(_leads_to(item, marks, depth + 1) for item in list(value.values())[:64])
    if isinstance(value, (list, tuple, deque)) and depth < 3:
        return any(_leads_to(item, marks, depth + 1) for item in list(value)[:64])
    if not isinstance(value, torch.Tensor) or value.grad_fn is None:
        return False
    level: deque[Any] = deque(
        [value.grad_fn]
    )  # breadth first: what is carried on leads from step to step in a few nodes
    seen: set[Any] = set()
    while level and len(seen) < MOST_NODES:
        node = level.popleft()
        if node in seen:
            continue
        seen.add(node)
        if id(node.metadata.get(KEY)) in marks:
            return True
        level += [child for child, _ in node.next_functions if child is not None]
    return False


def _line_that_adds(frame: FrameType, name: str) -> Place | None:
    """The statement of the frame's function that adds to a variable, or stores into it."""
    holder, _, attribute = name.rpartition(".")
    if holder not in ("", "self"):
        given = _line_that_gives(frame, holder)
        if given is not None:
            return given
        file = _file_of(frame.f_locals.get(holder))
        return written_at([file] if file else [], lambda node: _adds(node, f"self.{attribute}"))
    tree = parsed(frame.f_code.co_filename)
    first = frame.f_code.co_firstlineno
    for node in ast.walk(tree) if tree else ():
        if not isinstance(node, ast.stmt) or node.lineno < first or not _adds(node, name):
            continue
        here = place_of_frame(frame)
        lines = ast.unparse(node)
        return Place(here.file, node.lineno, lines, here.function)
    return None


def _line_that_gives(frame: FrameType, holder: str) -> Place | None:
    """The statement of the frame's function that gives a variable to a method of an object: `meter.update(loss)`."""
    tree, first = parsed(frame.f_code.co_filename), frame.f_code.co_firstlineno
    found = []
    for node in ast.walk(tree) if tree else ():
        call = node.value if isinstance(node, ast.Expr) else None
        if not isinstance(call, ast.Call) or call.lineno < first or not isinstance(call.func, ast.Attribute):
            continue
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if ast.unparse(call.func.value) == holder and any(isinstance(value, ast.Name) for value in given):
            found.append(
                Place(frame.f_code.co_filename, call.lineno, ast.unparse(node), frame.f_code.co_name)
            )
    return found[0] if len(found) == 1 else None


def _adds(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.AugAssign):
        return ast.unparse(node.target).partition("[")[0] == name
    if isinstance(node, ast.Assign):
        target = ast.unparse(node.targets[0])
        within = {ast.unparse(part) for part in ast.walk(node.value) if isinstance(part, ast.expr)}
        return target.startswith(f"{name}[") or (target == name and name in within)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value.func
        adding = isinstance(call, ast.Attribute) and call.attr in ("append", "extend", "insert", "appendleft")
        return adding and ast.unparse(call.value).partition("[")[0] == name  # type: ignore[attr-defined]
    return False
