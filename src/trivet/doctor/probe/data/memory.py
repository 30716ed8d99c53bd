"""Watches the memory of the process, and which containers of the script grow with it."""

import ast
import linecache
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from trivet.doctor.probe.data.digest import Allowance
from trivet.doctor.probe.data.loaders import LoaderWatch
from trivet.doctor.probe.session import Session, Sparse
from trivet.doctor.source import Place, parsed, user_frames
from trivet.doctor.trace_data import MemoryTrace

CONTAINERS = (list, dict, set, deque)
MOST_SAMPLES = 400
FILLERS = ("append", "add", "extend", "update", "setdefault", "insert", "appendleft")


class MemoryWatch:
    """Reads the resident memory and the lengths of containers at sparse steps."""

    def __init__(self, session: Session, loaders: LoaderWatch) -> None:
        self.session = session
        self.loaders = loaders
        self.trace = MemoryTrace()
        self.allowance = Allowance(session, free=0.1)
        self._sparse = Sparse(growth=1.05)
        self._lengths: dict[str, list[int]] = {}
        self._last = 0.0
        self._file = Path("/proc/self/statm")
        self._files: dict[str, None] = {}

    def end_step(self) -> None:
        """Look, when it is time."""
        now = time.perf_counter()
        due = self._sparse.due(self.session.steps) or now - self._last > 2.0
        if not due or not self.allowance.left or len(self.trace.steps) >= MOST_SAMPLES:
            return
        self._last = now
        with self.allowance.measured():
            used = self._resident()
            if used is None:
                return
            self.trace.steps.append(self.session.steps)
            self.trace.bytes.append(used)
            self.trace.epochs.append(self.loaders.epochs)
            for name, held in self._containers():
                lengths = self._lengths.setdefault(name, [])
                lengths.append(len(held))
                if len(lengths) >= 6 and lengths[-1] > lengths[len(lengths) // 2] > lengths[2]:
                    self.trace.holders[name] = [lengths[2], lengths[-1], _bytes_of_one(held)]

    def finish(self) -> MemoryTrace:
        """Return the record, with the lines that fill the containers."""
        script = getattr(sys.modules.get("__main__"), "__file__", None)
        files = dict.fromkeys([*self._files, *([script] if script else [])])
        for name in self.trace.holders:
            place = next((found for file in files if (found := _filling_line(file, name))), None)
            if place is not None:
                self.trace.places[name] = place
        return self.trace

    def _resident(self) -> int | None:
        try:
            words = self._file.read_text().split()
        except OSError:
            return None
        return (int(words[1]) - int(words[2])) * 4096

    def _containers(self) -> Iterator[tuple[str, Any]]:
        main = vars(sys.modules["__main__"]) if "__main__" in sys.modules else {}
        roots: dict[str, Any] = {}
        for frame in user_frames():
            self._files[frame.f_code.co_filename] = None
            roots |= {key: value for key, value in frame.f_locals.items() if key not in roots}
        roots |= {key: value for key, value in main.items() if key not in roots and not key.startswith("__")}
        known = {id(value) for value in roots.values()}
        sets = [(name, value) for name, value in self._data_sets() if id(value) not in known]
        for name, value in [*sets, *list(roots.items())[:200]]:
            if isinstance(value, CONTAINERS):
                yield name, value
            elif _of_user(value):
                for key, inner in list(vars(value).items())[:64]:
                    if isinstance(inner, CONTAINERS) and not key.startswith("_modules"):
                        yield f"{name}.{key}", inner

    def _data_sets(self) -> Iterator[tuple[str, Any]]:
        """The data sets of the loaders, and those that they wrap."""
        for record in self.loaders.records.values():
            loader = record.ref()
            held = getattr(loader, "dataset", None)
            for _ in range(4):
                if held is None:
                    break
                yield type(held).__name__, held
                held = vars(held).get("dataset") if hasattr(held, "__dict__") else None


def _of_user(value: Any) -> bool:
    """Whether a value is an object of a class of the script or of a data set, whose attributes may be containers."""
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (type, ModuleType))
        and not hasattr(value, "__code__")
    )


def _filling_line(file: str, name: str) -> Place | None:
    """The statement that puts something into a container: `x[key] = ...`, `x.append(...)`, `x += ...`."""
    tree = parsed(file)
    last = name.rpartition(".")[2]
    for node in ast.walk(tree or ast.Module([], [])):
        target: ast.expr | None = None
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            target = node.targets[0].value
        elif isinstance(node, ast.AugAssign):
            target = node.target
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FILLERS
        ):
            target = node.func.value
        found = (
            target.attr
            if isinstance(target, ast.Attribute)
            else target.id
            if isinstance(target, ast.Name)
            else ""
        )
        if found == last and isinstance(node, (ast.stmt, ast.expr)):
            return Place(file, node.lineno, linecache.getline(file, node.lineno).strip())
    return None


def _bytes_of_one(held: Any) -> int:
    """Bytes of the youngest value of a container, when it is a tensor or an array."""
    if not held or isinstance(held, set):
        return 0
    value = next(reversed(held.values())) if isinstance(held, dict) else held[-1]
    if isinstance(value, (tuple, list)):
        return sum(_size(item) for item in value[:8])
    return _size(value)


def _size(value: Any) -> int:
    found = getattr(value, "nbytes", None)
    return int(found) if isinstance(found, int) else len(value) if isinstance(value, (bytes, str)) else 0
