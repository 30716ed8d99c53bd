"""Watches loaders: how long training waits for them, and whether their workers draw the same random numbers."""

import linecache
import random
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Subset, _utils
from torch.utils.data.dataloader import _BaseDataLoaderIter

from trivet.doctor.origins import returned_at
from trivet.doctor.probe.data.board import Board, digest_text
from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.probe.written import sets_attribute, written_at
from trivet.doctor.source import Place, is_user_file, user_place
from trivet.doctor.trace_data import LeakTrace, LoaderTrace

GENERATORS = ("Generator", "RandomState", "Random")
PARTS: dict[str, int | str] = {"input": 0, "target": 1, "boxes": "boxes", "labels": "labels"}
"""Parts of a sample -> where they stand in what `__getitem__` returns."""
LOOKED_FETCHES = 3
TIMED, OF = 8, 64
"""Batches that are timed, of so many, while nothing is recorded: reading a clock of processor time is slow."""


@dataclass
class LoaderRecord:
    """A loader: where it is made, what it serves, and the time lost to it."""

    ref: "weakref.ref[Any]"
    trace: LoaderTrace
    trains: bool = False
    passes: int = 0
    fetched: int = 0
    files: list[str] = field(default_factory=list)
    last_return: float = 0.0
    last_busy: float = 0.0
    last_spent: float = 0.0
    states: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)


class LoaderWatch:
    """Wraps construction and iteration of loaders, and the fetching of samples, which runs in the workers too."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.records: dict[int, LoaderRecord] = {}
        self._gone: dict[Place | None, LoaderRecord] = {}
        self.board = Board()
        self.last_train: LoaderRecord | None = None
        self.epochs = 0
        self.on_iterate: list[Callable[[Any], None]] = []
        """Called with a loader before it is gone through."""
        self.on_batch: list[Callable[[Any], None]] = []
        """Called with the batches of training, but for most of those at rest."""
        self._served: tuple[int, weakref.ref[Any]] | None = None
        self._subset_leaks: dict[int, LeakTrace] = {}
        self._within: dict[int, LeakTrace] = {}
        self._left_out_used = False

    def install(self, patches: Patches) -> None:
        """Wrap `DataLoader.__init__`, `__iter__`, its iterators' `__next__`, and the fetchers."""
        patches.wrap(DataLoader, "__init__", self._wrap_init)
        patches.wrap(DataLoader, "__iter__", self._wrap_iter)
        patches.wrap(_BaseDataLoaderIter, "__next__", self._wrap_next)
        for fetcher in (_utils.fetch._MapDatasetFetcher, _utils.fetch._IterableDatasetFetcher):
            patches.wrap(fetcher, "fetch", self._wrap_fetch)
        patches.on_undo(self.board.close)

    def trains_on(self, batch: torch.Tensor) -> bool:
        """Whether a batch was just handed out by a loader over the very data set that training uses."""
        if self._served is None or self.last_train is None:
            return False
        served, loader = self._served[0], self._served[1]()
        if loader is None or served != batch.data_ptr():
            return False
        return any(
            r.trains and (held := r.ref()) is not None and held.dataset is loader.dataset
            for r in self.records.values()
        )

    def place_of(self, batch: torch.Tensor) -> Place | None:
        """Where the loader is made that has just handed out a batch."""
        loader = self._served[1]() if self._served and self._served[0] == batch.data_ptr() else None
        return self.record_of(loader).trace.place if loader is not None else None

    def subset_leaks(self) -> list[LeakTrace]:
        """Return what was found by comparing the indices of subsets."""
        return list(self._subset_leaks.values())

    def within_leaks(self) -> list[LeakTrace]:
        """Return evaluated subsets that lie within the training subset, if what that leaves out is never evaluated."""
        return [] if self._left_out_used else list(self._within.values())

    def traces(self) -> list[LoaderTrace]:
        """Return the loaders that feed training."""
        self._read_board()
        records = [*self._gone.values(), *self.records.values()]
        for record in records:
            self._compare_states(record)
            _find_sources(record)
            _find_seeding(record)
        return [record.trace for record in records if record.trains]

    def record_of(self, loader: Any) -> LoaderRecord:
        """Return the record of a loader."""
        record = self.records.get(id(loader))
        if record is None or record.ref() is not loader:
            if record is not None and record.trains:  # as of loops that make a new loader every epoch
                self._gone[record.trace.place] = record
            data = getattr(loader, "dataset", None)
            trace = LoaderTrace(None, type(data).__name__, int(getattr(loader, "num_workers", 0)))
            record = self.records[id(loader)] = LoaderRecord(weakref.ref(loader), trace)
        return record

    def _wrap_init(self, original: Any) -> Any:
        watch = self

        def construct(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            if watch.session.active:
                watch.record_of(self).trace.place = user_place(constructs=self)

        return construct

    def _wrap_iter(self, original: Any) -> Any:
        watch = self

        def iterate(self: Any) -> Any:
            if not watch.session.active:
                return original(self)
            record = watch.record_of(self)
            if torch.is_grad_enabled():
                record.passes += 1
                record.last_return = 0.0
            else:
                watch._compare_subsets(self)
            for act in watch.on_iterate:
                act(self)
            watch.board.announce(id(self), record.passes)
            iterator = original(self)
            if isinstance(iterator, _BaseDataLoaderIter):
                iterator.__dict__["_doctor_loader"] = (
                    record  # of a loader that nobody holds, this is the last trace
                )
            return iterator

        return iterate

    def _wrap_next(self, original: Any) -> Any:
        watch = self

        def following(self: Any) -> Any:
            if not watch.session.active:
                return original(self)
            if watch.session.resting and (record := self.__dict__.get("_doctor_loader")) is not None:
                record.fetched += 1
                if record.fetched % OF >= TIMED:
                    record.last_return = 0.0
                    batch = original(self)
                    watch._note_served(record, batch)
                    return batch
            began, busy = time.perf_counter(), time.thread_time()
            steps = watch.session.steps
            batch = original(self)
            ended = time.perf_counter()
            with watch.session.shielded():
                watch._note_batch(self, batch, (began, busy), ended, steps)
            return batch

        return following

    def _note_batch(
        self, iterator: Any, batch: Any, began: tuple[float, float], ended: float, steps: int
    ) -> None:
        record = iterator.__dict__.get("_doctor_loader") or self._loader_of(iterator)
        if record is None:
            return
        iterator.__dict__["_doctor_loader"] = record
        dataset = getattr(iterator, "_dataset", None)
        self._note_served(record, batch)
        if not torch.is_grad_enabled():
            return
        for see in self.on_batch:
            see(batch)
        if record.last_return and steps:
            record.trace.batches += 1
            record.trace.waited += ended - began[0]
            own = self.session.spent - record.last_spent
            record.trace.passed += max(ended - began[0], ended - record.last_return - own)
            record.trace.busy += began[1] - record.last_busy
        record.last_return, record.last_busy = ended, time.thread_time()
        record.last_spent = self.session.spent
        if steps and not record.trains:
            record.trains = True
            self.last_train = record
            record.files = _file_of(dataset)
            _find_parts(record.trace, dataset)

    def _note_served(self, record: LoaderRecord, batch: Any) -> None:
        first = batch[0] if isinstance(batch, (list, tuple)) and batch else batch
        if isinstance(first, torch.Tensor):
            self._served = (first.data_ptr(), record.ref)
        if record.trains and record.passes > self.epochs:
            self.epochs = record.passes

    def _loader_of(self, iterator: Any) -> LoaderRecord | None:
        dataset = getattr(iterator, "_dataset", None)
        sampler = getattr(iterator, "_index_sampler", None)
        for record in self.records.values():
            held = record.ref()
            if held is not None and held.dataset is dataset and held._index_sampler is sampler:
                return record
        return None

    def _compare_subsets(self, loader: Any) -> None:
        """At an evaluation: do its indices meet those of the training loader before it?"""
        train = self.last_train.ref() if self.last_train is not None else None
        if train is None or train is loader or id(loader) in self._subset_leaks | self._within:
            return
        one, other = _indices(train.dataset), _indices(loader.dataset)
        if one is None or other is None or one[0] is not other[0] or one[1] == other[1]:
            return
        shared = one[1] & other[1]
        self._left_out_used = self._left_out_used or bool(other[1] - one[1])
        if other[1] and other[1] < one[1]:
            self._within[id(loader)] = LeakTrace(
                "",
                self.record_of(loader).trace.place,
                subset_size=len(other[1]),
                subset_shared=len(shared),
                left_out=len(one[0]) - len(one[1]),
            )
        if shared and len(shared) < len(other[1]) + 1 and not other[1] < one[1]:
            self._subset_leaks[id(loader)] = LeakTrace(
                "", self.record_of(loader).trace.place, subset_size=len(other[1]), subset_shared=len(shared)
            )

    def _wrap_fetch(self, original: Any) -> Any:
        watch = self

        def fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
            info = torch.utils.data.get_worker_info()
            seen = getattr(self, "_doctor_fetches", 0)
            if info is None or seen >= LOOKED_FETCHES or not watch.board.usable:
                return original(self, *args, **kwargs)
            self._doctor_fetches = seen + 1
            before = generator_states(self.dataset)
            try:
                return original(self, *args, **kwargs)
            finally:
                after = generator_states(self.dataset)
                for name, state in before.items():
                    if name in after and (seen == 0 or after[name] != state):
                        watch.board.write(info.id, name, state if seen == 0 else 0, after[name] != state)

        return fetch

    def _read_board(self) -> None:
        for loader, number, worker, name, state, moved in self.board.read():
            record = self.records.get(loader)
            if record is None:
                continue
            key = (name, number, worker)
            old = record.states.get(key, (0, 0))
            record.states[key] = (state or old[0], int(moved) or old[1])

    def _compare_states(self, record: LoaderRecord) -> None:
        """Which sources of random numbers began in one state for two workers, or in two epochs, and were drawn from?"""
        for name in {key[0] for key in record.states}:
            begun = {
                key[1:]: state
                for key, (state, moved) in record.states.items()
                if key[0] == name and moved and state
            }
            for one, state in begun.items():
                for other, again in begun.items():
                    if one < other and state == again:
                        kind = "workers" if one[0] == other[0] else "epochs"
                        if record.trace.repeated.get(name) != "workers":
                            record.trace.repeated[name] = kind


def _find_parts(trace: LoaderTrace, dataset: Any) -> None:
    """Where the samples of a data set are made, and their parts."""
    code = _code_of_samples(dataset)
    if code is not None:
        line = code.co_firstlineno + 1
        trace.sample_place = Place(
            code.co_filename, line, linecache.getline(code.co_filename, line).strip(), code.co_name
        )
        parts = {part: returned_at(code, key) for part, key in PARTS.items()}
        trace.parts = {part: place for part, place in parts.items() if place is not None}


def _find_sources(record: LoaderRecord) -> None:
    """Where the generators are made that several workers draw alike from."""
    for name in record.trace.repeated:
        attribute = name.rpartition(".")[2] if name.startswith("dataset.") else ""
        made = written_at(record.files, sets_attribute(attribute)) if attribute else None
        if made is not None:
            record.trace.sources[name] = made


def _find_seeding(record: LoaderRecord) -> None:
    """Where workers are seeded, if a function of the user's own does that."""
    loader = record.ref()
    code = getattr(getattr(loader, "worker_init_fn", None), "__code__", None)
    if record.trace.repeated and code is not None and is_user_file(code.co_filename):
        line = code.co_firstlineno + 1
        record.trace.seeded_at = Place(
            code.co_filename, line, linecache.getline(code.co_filename, line).strip()
        )


def _file_of(dataset: Any) -> list[str]:
    """Return the file of the user's code that a data set's class is written in, or nothing."""
    code = getattr(getattr(type(dataset), "__getitem__", None), "__code__", None)
    return [code.co_filename] if code is not None and is_user_file(code.co_filename) else []


def _code_of_samples(dataset: Any) -> CodeType | None:
    """Return the user's code that makes a sample: `__getitem__` of the innermost data set."""
    for _ in range(4):
        if _file_of(dataset):
            return cast(CodeType, type(dataset).__getitem__.__code__)
        dataset = vars(dataset).get("dataset") if hasattr(dataset, "__dict__") else None
    return None


def generator_states(dataset: Any) -> dict[str, int]:
    """Return a digest of the state of each source of random numbers that a data set may draw from."""
    states = {"random": digest_text(repr(random.getstate()))}
    states["torch"] = digest_text(torch.get_rng_state().numpy().tobytes())
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        states["numpy.random"] = digest_text(
            repr(numpy.random.get_state()[1:3]) + str(numpy.random.get_state()[1].sum())
        )
    for name, held in _owned(dataset):
        states[name] = digest_text(_state(held))
    return states


def _owned(dataset: Any, prefix: str = "dataset", depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Yield the generators among the attributes of a data set, of the data sets inside it and of its transforms."""
    for key, value in list(getattr(dataset, "__dict__", {}).items())[:64]:
        name = f"{prefix}.{key}"
        if type(value).__name__ in GENERATORS:
            yield name, value
        elif (
            depth
            and hasattr(value, "__dict__")
            and not isinstance(value, (torch.Tensor, type))
            and not callable(getattr(value, "fileno", None))
        ):
            yield from _owned(value, name, depth - 1)


def _state(generator: Any) -> str | bytes:
    if isinstance(generator, torch.Generator):
        return bytes(generator.get_state().tolist())
    if isinstance(generator, random.Random):
        return repr(generator.getstate())
    if hasattr(generator, "bit_generator"):
        return repr(generator.bit_generator.state)
    if hasattr(generator, "get_state"):
        state = generator.get_state()
        return bytes(state[1].tobytes()) + str(state[2:]).encode()
    return ""


def _indices(dataset: Any) -> tuple[Any, set[int]] | None:
    if not isinstance(dataset, Subset) or len(dataset.indices) > 1_000_000:
        return None
    return dataset.dataset, {int(i) for i in dataset.indices}
