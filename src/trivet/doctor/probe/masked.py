"""Watches parameters whose gradient a hook of the user's own makes zero in some rows: do these rows move all the same?"""

import weakref
from dataclasses import dataclass

import torch

from trivet.doctor.probe.ledger import Ledger

MOST_VALUES = 1 << 22
ROWS = 64
"""Rows of a parameter whose values are compared."""


@dataclass
class _Masked:
    """Rows whose gradient has been zero at every look, and their values before a step."""

    ref: "weakref.ref[torch.Tensor]"
    rows: torch.Tensor
    before: torch.Tensor | None = None


class MaskedWatch:
    """Looks at recorded steps; rows of an embedding that a batch does not name have no hook, and are left out."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._masked: dict[int, _Masked] = {}

    def before_step(self, held: list[torch.Tensor]) -> None:
        """Know the rows without a gradient of what has a hook."""
        for parameter in held:
            grad = parameter.grad
            if (
                not parameter._backward_hooks
                or grad is None
                or grad.is_sparse
                or parameter.numel() > MOST_VALUES
            ):
                continue
            if not parameter.ndim or len(parameter) < 2:
                continue
            zero = ~grad.reshape(len(grad), -1).any(1)
            known = self._masked.get(id(parameter))
            if known is None or known.ref() is not parameter:
                known = self._masked[id(parameter)] = _Masked(weakref.ref(parameter), zero)
            known.rows = known.rows & zero
            some = bool(known.rows.any()) and not bool(known.rows.all())
            known.before = parameter.detach()[known.rows][:ROWS].clone() if some else None

    def after_step(self) -> None:
        """Have these rows moved?"""
        for known in self._masked.values():
            parameter, before = known.ref(), known.before
            entry = self.ledger.find(parameter) if parameter is not None and before is not None else None
            if parameter is None or before is None or entry is None:
                continue
            known.before = None
            entry.trace.masked_rows = int(known.rows.sum())
            entry.trace.masked_moved += not torch.equal(parameter.detach()[known.rows][:ROWS], before)
