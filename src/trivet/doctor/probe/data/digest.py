"""Exact digests of samples, and the clock of what they may cost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trivet.doctor.probe.session import Session

MOST_VALUES = 256
FEWEST, SURE = 4, 16
"""Values of the smallest sample whose equality is no chance: of measurements, and of anything."""
FREE_SECONDS = 0.25
SHARE = 0.002

_generator = torch.Generator().manual_seed(0x5EED)
_FACTORS = torch.randint(-(2**62), 2**62, (MOST_VALUES,), generator=_generator) | 1


LOOK_AGAIN = 32
"""Questions between two looks at the clock, which is slow."""


class Allowance:
    """Processor time that a part may take at every step: a constant first, then a share of that of the training."""

    def __init__(self, session: Session, free: float = FREE_SECONDS, share: float = SHARE) -> None:
        self.session = session
        self.spent = 0.0
        self._began = time.thread_time()
        self._earned = free
        self._asked = 0
        self._share = share

    @property
    def left(self) -> bool:
        """Whether there is time left."""
        if self.spent < self._earned:
            return True
        self._asked += 1
        if self._asked % LOOK_AGAIN == 0:
            self._earned = max(self._earned, self._share * (time.thread_time() - self._began))
        return False

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the time of a block, and shield the script from its faults."""
        began = time.thread_time()
        try:
            yield
        except Exception as fault:
            self.session.note_fault(fault)
        finally:
            self.spent += time.thread_time() - began


def integers_of(values: torch.Tensor) -> torch.Tensor:
    """Return the bits of values as 64-bit integers; -0.0 counts as 0.0."""
    if values.is_floating_point():
        return (values.float() + 0.0).contiguous().view(torch.int32).long()
    return values.long()


def sample_digests(batch: torch.Tensor) -> torch.Tensor | None:
    """Return a 64-bit digest a sample [B] of up to 256 evenly spaced values, or `None` for samples of too few values."""
    flat = batch.detach().flatten(1)
    if flat.shape[1] < FEWEST or not flat.shape[0] or flat.is_complex():
        return None
    if flat.shape[1] < SURE and not _measured(flat):
        return None
    columns = flat[:, :: max(1, -(-flat.shape[1] // MOST_VALUES))]
    return (integers_of(columns) * _FACTORS[: columns.shape[1]].to(columns.device)).sum(1)


def _measured(rows: torch.Tensor) -> bool:
    """Whether most columns of a table hold measurements: fractions that hardly ever repeat."""
    if not rows.is_floating_point():
        return False
    different = (rows.sort(0).values.diff(dim=0) != 0).float().mean(0) if len(rows) > 1 else rows.new_zeros(1)
    return bool(((rows != rows.round()).any(0) & (different > 0.5)).float().mean() >= 0.5)


def plain_samples(batch: torch.Tensor, least: int = 6) -> torch.Tensor:
    """Whether each sample [B] has so few different values (below `least`) that equality may be chance."""
    flat = batch.detach().flatten(1)
    columns = flat[:, :: max(1, -(-flat.shape[1] // MOST_VALUES))].float().sort(1).values
    return (columns.diff(dim=1) != 0).sum(1) + 1 < least


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Return the first tensor of a call that holds a batch, looking into one level of dicts and lists."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            if value.ndim >= 2:
                return value
        elif isinstance(value, dict):
            found = first_tensor((), value)
            if found is not None:
                return found
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
            return value[0] if value[0].ndim >= 2 else None
    return None
