"""Checks on memory and time."""

from collections.abc import Iterator
from itertools import pairwise

from trivet.doctor.checks.common import NotCheckedError, need_steps, where
from trivet.doctor.finding import Finding
from trivet.doctor.trace import Trace

LEAST_GROWTH = 64 << 20
SLOW_BATCH = 0.02


def host_memory_growth(trace: Trace) -> Iterator[Finding]:
    """Memory of the process that goes on growing, epoch after epoch."""
    memory = trace.data.memory
    if len(memory.steps) < 12 or memory.steps[-1] < 20:
        raise NotCheckedError("too few steps to see memory grow")
    epochs = memory.epochs[-1]
    start = next((i for i, epoch in enumerate(memory.epochs) if epoch >= 2), None) if epochs >= 2 else None
    if start is None:
        start = len(memory.steps) // 3
    late = memory.bytes[start:]
    steps = memory.steps[-1] - memory.steps[start]
    if len(late) < 8 or steps < 8:
        raise NotCheckedError("too few steps after the first epoch to see memory grow")
    growth = late[-1] - late[0]
    half = late[len(late) // 2] - late[0]
    rising = sum(b > a for a, b in pairwise(late)) / (len(late) - 1)
    last = late[-1] - late[len(late) // 2]
    if growth < LEAST_GROWTH or last < 0.25 * growth or half < 0.1 * growth or rising < 0.4:
        return
    name, lengths = _holder(memory.holders)
    place = memory.places.get(name) if name else None
    if epochs < 2 and name is None:
        raise NotCheckedError(
            "memory grows, but no container of the script grows with it, in less than two epochs"
        )
    yield Finding(
        "host-memory-growth",
        "warning",
        f"the memory of the process grows by {growth / steps / 2**20:.1f} MB a step "
        f"({growth / 2**20:.0f} MB in {steps} steps)"
        + (f"; `{name}` grew from {lengths[0]} to {lengths[1]} entries" if name else ""),
        where(place, name),
        {"bytes": growth, "steps": steps, "container": name, "entries": lengths[:2]},
        "something is kept of every sample or step: a cache whose keys never repeat, a list of tensors with their graph",
        "keep numbers instead of tensors (`.item()`), bound the cache, and give it keys that come back",
        verdict="proven" if name else "suspected",
    )


def _holder(holders: dict[str, list[int]]) -> tuple[str | None, list[int]]:
    """The container whose growth holds most bytes."""
    best = max(
        holders, key=lambda name: (holders[name][1] - holders[name][0]) * (holders[name][2] + 1), default=None
    )
    if best is None or (holders[best][1] - holders[best][0]) * holders[best][2] < 8 << 20:
        return None, [0, 0]
    return best, holders[best]


def loader_bound(trace: Trace) -> Iterator[Finding]:
    """Training that waits for its data most of the time."""
    need_steps(trace, 16)
    loaders = [loader for loader in trace.data.loaders if loader.batches >= 12]
    if not loaders:
        raise NotCheckedError("no loader served training often enough")
    for loader in loaders:
        share = loader.waited / loader.passed if loader.passed else 0.0
        working = loader.passed - loader.waited
        slowed = max(1.0, working / loader.busy) if loader.busy else 1.0  # by what else runs on this machine
        each = loader.waited / loader.batches / slowed
        if share < (0.75 if loader.workers else 0.6) or each < SLOW_BATCH or loader.waited < 0.5 * slowed:
            continue
        yield Finding(
            "loader-bound",
            "warning",
            f"training waits for `{loader.dataset}` {share:.0%} of the time: {1000 * each:.0f} ms a batch, "
            f"{'no workers' if not loader.workers else f'{loader.workers} workers'}",
            where(loader.place, loader.dataset),
            {"share": share, "seconds_per_batch": each, "batches": loader.batches, "workers": loader.workers},
            "samples are read, decoded or made slower than the model trains on them",
            "use workers (`num_workers`), decode once and keep small copies, or make the samples cheaper",
            verdict="proven",
        )
