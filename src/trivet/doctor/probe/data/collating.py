"""Watches functions that make batches of samples: do the parts of a sample keep one place in the batch?"""

import functools
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import torch
from torch.utils.data import _utils, get_worker_info

from trivet.doctor.origins import reordered_at
from trivet.doctor.probe.data.board import Board
from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import Place, is_user_file
from trivet.doctor.trace_data import CollateTrace

LOOKED = 4
"""Batches of a loader that are looked at."""
MOST_SAMPLES, MOST_PARTS, VALUES = 256, 16, 8
NAME = "collate"

Mark = tuple[float, ...]


class CollateWatch:
    """Compares what a collating function of the user's own is given with what it returns, for the first batches."""

    def __init__(self, session: Session, board: Board) -> None:
        self.session = session
        self.board = board
        self._found: dict[Place, CollateTrace] = {}
        self._codes: dict[tuple[int, int], CodeType] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the fetching of samples, which runs in the workers too."""
        patches.wrap(_utils.fetch._MapDatasetFetcher, "fetch", self._wrap)

    def traces(self) -> list[CollateTrace]:
        """Return the functions that part samples."""
        for loader, _, _, name, line, _ in self.board.read():
            code = self._codes.get((loader, line))
            if name == NAME and code is not None:
                self._note(code)
        return list(self._found.values())

    def know(self, loader: Any) -> None:
        """In the parent, before workers start: the code of a loader's function, by the line that they will tell."""
        code = _code_of(getattr(loader, "collate_fn", None))
        if code is not None:
            self._codes[id(loader), code.co_firstlineno] = code

    def _wrap(self, original: Any) -> Any:
        watch = self

        def fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
            worker = None if watch.session.active else get_worker_info()
            seen, collate = getattr(self, "_doctor_collated", 0), self.collate_fn
            code = (
                _code_of(collate) if seen < LOOKED and (watch.session.active or worker is not None) else None
            )
            if code is None:
                return original(self, *args, **kwargs)
            self._doctor_collated = seen + 1
            self.collate_fn = watch._looking(collate, code, worker)
            try:
                return original(self, *args, **kwargs)
            finally:
                self.collate_fn = collate

        return fetch

    def _looking(self, collate: Callable[[Any], Any], code: CodeType, worker: Any) -> Callable[[Any], Any]:
        def look(samples: Any) -> Any:
            before = list(samples) if isinstance(samples, list) else []
            batch = collate(samples)
            with self.session.measured():
                if 4 <= len(before) <= MOST_SAMPLES and parts_samples(before, batch):
                    if worker is None:
                        self._note(code)
                    else:
                        self.board.write(worker.id, NAME, code.co_firstlineno, 0)
            return batch

        return look

    def _note(self, code: CodeType) -> None:
        place = reordered_at(code)
        self._found.setdefault(place, CollateTrace(place)).batches += 1


def parts_samples(samples: list[Any], batch: Any) -> bool:
    """Whether some parts of the samples stand in another order in a batch, and others in that of the samples.

    A part that is there in both orders is left out: that is a batch with pairs of different samples, made so.
    """
    given = {
        key: [_mark(dict(_parts(sample)).get(key)) for sample in samples] for key, _ in _parts(samples[0])
    }
    kept: list[tuple[Any, list[Mark]]] = []
    moved: list[tuple[Any, list[int]]] = []
    singles: list[list[Mark]] = []
    for _, part in _parts(batch):
        rows = _rows(part, len(samples))
        singles += [rows] if rows else []
        for key, marks in given.items() if rows is not None else ():
            order = _order(rows or [], marks)
            if order is None:
                continue
            if isinstance(order, list):
                moved.append((key, order))
            else:
                kept.append((key, rows or []))
            break
    stay = {key for key, _ in kept}
    told = [[int(row[0]) for row in rows] for rows in singles if all(len(row) == 1 for row in rows)]
    for key, order in moved:
        if order in told or sorted(range(len(order)), key=order.__getitem__) in told:
            continue  # the batch says itself how its samples are to be put back
        for other, rows in kept if key not in stay else ():
            if any(not _same(rows[i], given[other][j]) for i, j in enumerate(order)):
                return True
    return False


def _order(rows: list[Mark], marks: list[Mark | None]) -> list[int] | str | None:
    """Return "kept", or which sample each row is of where that is another order, or nothing where they are no samples."""
    if any(mark is None for mark in marks):
        return None
    if all(_same(row, mark) for row, mark in zip(rows, marks, strict=True)):
        return "kept"
    order = []
    for row in rows:
        same = [j for j, mark in enumerate(marks) if _same(row, mark)]
        if len(same) != 1 or len(row) < 2:
            return None
        order.append(same[0])
    return order if len(set(order)) == len(order) else None


def _same(row: Mark, mark: Mark | None) -> bool:
    """Whether a row begins as a sample does; it may be longer, for it is filled up."""
    if mark is None or not mark:
        return False
    return len(row) >= len(mark) and all(
        abs(a - b) <= 1e-5 * (1 + abs(b)) for a, b in zip(row, mark, strict=False)
    )


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, (list, tuple))
        else ()
    )
    for number, (key, part) in enumerate(items):
        if number < MOST_PARTS:
            yield key, part


def _mark(value: Any) -> Mark | None:
    """The first numbers of a part of a sample."""
    if isinstance(value, (bool, int, float)):
        return (float(value),)
    if hasattr(value, "__array__") and not isinstance(value, torch.Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            return None
    if not isinstance(value, torch.Tensor) or value.is_complex() or not value.numel():
        return None
    return tuple(value.detach().flatten()[:VALUES].double().tolist())


def _rows(part: Any, count: int) -> list[Mark] | None:
    """The first numbers of each row of a part of a batch."""
    if (
        not hasattr(part, "__len__")
        or (isinstance(part, torch.Tensor) and not part.ndim)
        or len(part) != count
    ):
        return None
    if isinstance(part, (dict, str)):
        return None
    marks = [_mark(row) for row in part]
    return [mark for mark in marks if mark is not None] if all(mark is not None for mark in marks) else None


def _code_of(collate: Any) -> CodeType | None:
    """The code of a collating function, if it is the user's own."""
    if isinstance(collate, functools.partial):
        collate = collate.func
    code = getattr(collate, "__code__", None)
    if code is None:
        code = getattr(vars(type(collate)).get("__call__"), "__code__", None)
    return code if isinstance(code, CodeType) and is_user_file(code.co_filename) else None
