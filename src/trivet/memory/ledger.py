"""The ledger of a training step: every storage, when it was born and died, how large it was and what it was for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

WEIGHTS, AVERAGE, OPTIMIZER, GRADIENTS = "weights", "averaged weights", "optimizer state", "gradients"
INPUT, SAVED, COPIES = "input batch", "saved for backward", "low-precision weights"
LOSS, FORWARD, BACKWARD, UPDATE = (
    "loss and targets",
    "passing maps",
    "live gradients",
    "optimizer temporaries",
)
KINDS = (
    WEIGHTS,
    AVERAGE,
    OPTIMIZER,
    GRADIENTS,
    INPUT,
    COPIES,
    SAVED,
    FORWARD,
    LOSS,
    BACKWARD,
    UPDATE,
)
"""What memory is for, in the order in which it is stacked: what stays all the time at the bottom."""
PHASES = ("forward", "loss", "backward", "optimizer")
ALWAYS = -1
"""The time of birth of what is there before the step."""


@dataclass
class Storage:
    """One piece of memory.

    Args:
        size: Bytes.
        birth: When it was allocated, counted in allocations and releases of the step; `ALWAYS` for what was there.
        kind: One of `KINDS`.
        phase: One of `PHASES`, at its birth.
        module: The module that was running, or that kept it for the backward pass.
        operator: What made it.
        death: When it was released; `None` for what outlives the step.
        replaces: The place in the ledger of the sum it was added to: the autograd engine adds in place.
    """

    size: int
    birth: int
    kind: str
    phase: str
    module: str
    operator: str
    death: int | None = None
    replaces: int | None = None


@dataclass
class Ledger:
    """All storages of one step at one batch size.

    Args:
        batch: Images in the batch.
        storages: In order of birth.
        phases: When each phase was first entered.
        notes: What had to be assumed, in words.
        clock: Allocations and releases so far.
    """

    batch: int
    storages: list[Storage] = field(default_factory=list)
    phases: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    clock: int = 0

    def tick(self) -> int:
        """Return the time, and let it go on."""
        self.clock += 1
        return self.clock - 1

    def add_in_place(self) -> None:
        """Let sums of gradients take the place of what they were added to, as the autograd engine has it.

        The engine adds into a gradient that nothing else holds. It does not where tensors are watched, as they are
        while a step is planned: there the sum is born just before its first part dies.
        """
        for storage in self.storages:
            if storage.replaces is None:
                continue
            first = self.storages[storage.replaces]
            if first.death == storage.birth + 1:
                storage.birth, first.death = first.death, storage.birth


@dataclass(frozen=True)
class Curve:
    """A ledger whose sizes are straight lines over the batch: bytes = `fixed` + `each` * batch.

    Args:
        ledger: The ledger of the larger of the two batches the lines were drawn through.
        fixed: Float64, one a storage.
        each: Float64, one a storage; 0 for what does not grow with the batch.
    """

    ledger: Ledger
    fixed: Tensor
    each: Tensor

    @cached_property
    def events(self) -> list[tuple[int, int, bool]]:
        """When a storage is born (`True`) or dies during the step, in order: (time, place in the ledger, born)."""
        storages = list(enumerate(self.ledger.storages))
        births = [(storage.birth, place, True) for place, storage in storages if storage.birth != ALWAYS]
        deaths = [(storage.death, place, False) for place, storage in storages if storage.death is not None]
        return sorted(births + deaths)

    def sizes(self, batch: int) -> Tensor:
        """Return the bytes of every storage at a batch size."""
        return self.fixed + self.each * batch

    def timeline(self, batch: int) -> Tensor:
        """Return the bytes alive after each allocation and release, the first value before them all."""
        return self._timeline(self.sizes(batch))

    def by_kind(self, batch: int) -> dict[str, Tensor]:
        """Return the time line of each kind that occurs."""
        sizes = self.sizes(batch)
        kinds = [storage.kind for storage in self.ledger.storages]
        found = {}
        for kind in KINDS:
            mine = torch.tensor([name == kind for name in kinds], dtype=torch.bool)
            if mine.any():
                found[kind] = self._timeline(torch.where(mine, sizes, torch.zeros_like(sizes)))
        return found

    def peak(self, batch: int) -> float:
        """Return the most bytes that are alive at one time."""
        return float(self.timeline(batch).max())

    def at_peak(self, batch: int) -> dict[str, float]:
        """Return the bytes of each kind at the moment of the peak."""
        moment = int(self.timeline(batch).argmax())
        return {kind: float(line[moment]) for kind, line in self.by_kind(batch).items()}

    def phase_at_peak(self, batch: int) -> str:
        """Return the phase in which the peak falls."""
        moment = int(self.timeline(batch).argmax()) - 1
        entered = [name for time, name in self.ledger.phases if time <= moment]
        return entered[-1] if entered else PHASES[0]

    def saved_by_module(self, batch: int, depth: int = 2) -> dict[str, float]:
        """Return the bytes each module keeps for the backward pass, the largest first.

        Args:
            batch: Images in the batch.
            depth: Names are cut after so many parts.
        """
        total: Counter[str] = Counter()
        for storage, size in zip(self.ledger.storages, self.sizes(batch).tolist(), strict=True):
            if storage.kind == SAVED:
                total[".".join(storage.module.split(".")[:depth]) or "(outside)"] += size
        return dict(total.most_common())

    def _timeline(self, sizes: Tensor) -> Tensor:
        births = torch.tensor([storage.birth for storage in self.ledger.storages]) + 1
        deaths = torch.tensor(
            [
                self.ledger.clock + 1 if storage.death is None else storage.death + 1
                for storage in self.ledger.storages
            ]
        )
        change = torch.zeros(self.ledger.clock + 2, dtype=torch.float64)
        change.index_add_(0, births, sizes)
        change.index_add_(0, deaths, -sizes)
        return change[:-1].cumsum(0)


def draw_lines(ledgers: Sequence[Ledger]) -> Curve:
    """Draw a straight line over the batch through every storage of two runs of the same step.

    A storage is found again by its phase, module and operator and its number among those; where the two runs made
    different numbers of storages in a module, by the order of its operators. Of those that only the larger batch has,
    one that waits for the backward pass, or is there before the step, grows from nothing: it belongs to one of the
    examples that were added. So does one of which more are alive at once than with the smaller batch. Others (a loss
    that works through its input piece by piece) grow as those alike which both have, or keep their size.

    Args:
        ledgers: The runs, at two batch sizes; of one alone everything is taken as fixed.
    """
    small, large = (
        sorted(ledgers, key=lambda ledger: ledger.batch)[:: max(1, len(ledgers) - 1)][:2]
        if len(ledgers) > 1
        else (ledgers[0], ledgers[0])
    )
    sizes = torch.tensor([float(storage.size) for storage in large.storages], dtype=torch.float64)
    if small.batch == large.batch:
        return Curve(large, sizes, torch.zeros_like(sizes))
    before = torch.tensor([float(size) for size in _sizes_before(small, large)], dtype=torch.float64)
    each = ((sizes - before) / (large.batch - small.batch)).clamp(min=0)
    return Curve(large, sizes - each * large.batch, each)


def _sizes_before(small: Ledger, large: Ledger) -> list[int]:
    """Return the bytes that each storage of the larger batch had with the smaller one."""
    twins = _twins(small, large)
    begin = next((time for time, phase in large.phases if phase == "backward"), large.clock)
    sizes = [
        small.storages[twins[place]].size if place in twins else storage.size
        for place, storage in enumerate(large.storages)
    ]
    alike: dict[tuple[str, str, str, int], list[int]] = {}
    for place, storage in enumerate(large.storages):
        alike.setdefault((storage.phase, storage.module, storage.operator, storage.size), []).append(place)
    for places in alike.values():
        known = [twins[place] for place in places if place in twins]
        if len(known) == len(places):
            continue
        most = _most_at_once([large.storages[place] for place in places])
        pile = most > _most_at_once([small.storages[place] for place in known])
        for place in places:
            if place not in twins:
                storage = large.storages[place]
                waits = storage.birth < begin and (storage.death is None or storage.death > begin)
                grown = small.storages[known[-1]].size if known else storage.size
                sizes[place] = 0 if waits or (known and pile) else grown
    return sizes


def _most_at_once(storages: Sequence[Storage]) -> int:
    """Return how many storages are alive together at most."""
    births = [(storage.birth, 1) for storage in storages]
    deaths = [(storage.death, -1) for storage in storages if storage.death is not None]
    return max(accumulate((change for _, change in sorted(births + deaths)), initial=0))


def _twins(small: Ledger, large: Ledger) -> dict[int, int]:
    """Return the place in the smaller ledger of the storages of the larger one that it has too."""
    ours, theirs = _by_module(small), _by_module(large)
    twins: dict[int, int] = {}
    for key, places in theirs.items():
        known = ours.get(key, [])
        first = [_operator(small.storages[place]) for place in known]
        second = [_operator(large.storages[place]) for place in places]
        if Counter(first) == Counter(second):
            twins |= _by_number(known, first, places, second)
        else:
            for block in SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks():
                for step in range(block.size):
                    twins[places[block.b + step]] = known[block.a + step]
    return twins


def _by_module(ledger: Ledger) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for place, storage in enumerate(ledger.storages):
        found.setdefault((storage.phase, storage.module), []).append(place)
    return found


def _by_number(known: list[int], first: list[str], places: list[int], second: list[str]) -> dict[int, int]:
    """Match by the number among those of the same operator."""
    waiting: dict[str, list[int]] = {}
    for place, operator in zip(reversed(known), reversed(first), strict=True):
        waiting.setdefault(operator, []).append(place)
    return {place: waiting[operator].pop() for place, operator in zip(places, second, strict=True)}


def _operator(storage: Storage) -> str:
    return storage.kind if storage.birth == ALWAYS else storage.operator
