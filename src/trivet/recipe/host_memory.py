"""What a run takes of the host's memory, and the refusal of one that cannot fit."""

from dataclasses import dataclass
from pathlib import Path

from trivet.errors import UsageError
from trivet.memory.plan import CPU_PROGRAM, MIB, MemoryPlan
from trivet.recipe.recipe import Recipe

WORKER = 16 * MIB
"""What a forked worker has of its own (`benchmarks/loader_memory.md`); everything else it shares."""
BATCHES_AHEAD = 2
"""Batches that each worker prepares ahead, and as many that are under way in the training process."""


@dataclass(frozen=True)
class HostNeed:
    """Bytes a run takes of the host, by what for.

    Args:
        parts: Name -> bytes.
    """

    parts: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())


def host_need(recipe: Recipe, plan: MemoryPlan | None = None) -> HostNeed:
    """Return what a run takes of the host.

    Decoded images in the cache are a mapped file: the system keeps of it what it has room for, and so it is not counted.

    Args:
        recipe: The recipe.
        plan: What training takes, where it trains on the host itself.
    """
    height, width = recipe.model.size_hw
    batch_bytes = recipe.train.batch * 3 * height * width
    parts = {"program": CPU_PROGRAM * recipe.machine.devices}
    if recipe.data.workers:
        workers = recipe.data.workers * recipe.machine.devices
        parts["workers"] = workers * WORKER
        parts["batches ahead"] = workers * BATCHES_AHEAD * batch_bytes
    parts["batch in hand"] = BATCHES_AHEAD * recipe.train.accumulate * batch_bytes * recipe.machine.devices
    if plan is not None and plan.device == "cpu":
        each = recipe.train.batch // recipe.machine.devices or 1
        parts["training"] = (plan.with_margin(each) - CPU_PROGRAM) * recipe.machine.devices
    return HostNeed(parts)


def available_memory() -> int | None:
    """Return the bytes a new process can have without swapping, within a container's limit; `None` where not known."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdecimal():
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            found.append(max(0, int(limit) - used))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def check_host(recipe: Recipe, plan: MemoryPlan | None = None, *, available: int | None = None) -> HostNeed:
    """Refuse a run whose workers, batches and training cannot fit into the host's memory.

    Args:
        recipe: The recipe.
        plan: What training takes, where it trains on the host itself.
        available: Bytes there are; found out if not given.

    Raises:
        UsageError: If it cannot fit.
    """
    need = host_need(recipe, plan)
    there = available_memory() if available is None else available
    if there is not None and need.total > there:
        told = ", ".join(f"{name} {size / MIB:,.0f} MiB" for name, size in need.parts.items())
        raise UsageError(
            f"the run needs {need.total / MIB:,.0f} MiB of the host's memory ({told}), and {there / MIB:,.0f} MiB are free",
            "give fewer --workers, a smaller --batch or --size, or --memory to have them chosen",
        )
    return need
