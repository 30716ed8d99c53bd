"""Watches differences of outputs and targets that broadcast (n, 1, ...) against (n, ...)."""

from functools import partial
from typing import Any

import torch

from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.source import Place, calling_frame, is_user_file, place_of_frame
from trivet.doctor.trace_data import SpreadTrace

NOTED_STEPS = 5
DELIBERATE = ("Unsqueeze", "View", "Reshape", "Expand", "Index")
"""Operations by which code asks for such a shape on purpose: `score[:, None] - score`. A slice keeps its axis without."""


class SpreadWatch:
    """Records such subtractions by line, in the first steps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.spreads: dict[Place, SpreadTrace] = {}

    def install(self, patches: Patches) -> None:
        """Wrap subtraction of tensors."""
        for name in ("__sub__", "sub"):
            patches.wrap(torch.Tensor, name, partial(self._wrap), rests=True)
        patches.wrap(torch, "sub", partial(self._wrap), rests=True)

    def _wrap(self, original: Any) -> Any:
        session, watch = self.session, self

        def subtract(one: Any, other: Any, *args: Any, **kwargs: Any) -> Any:
            if (
                session.steps < NOTED_STEPS
                and session.active
                and not compiling()
                and isinstance(other, torch.Tensor)
            ):
                a, b = one.shape, other.shape
                if abs(len(a) - len(b)) == 1 and one.requires_grad != other.requires_grad:
                    watch._note(one, other)
            return original(one, other, *args, **kwargs)

        return subtract

    def _note(self, one: torch.Tensor, other: torch.Tensor) -> None:
        output, target = (one, other) if one.requires_grad else (other, one)
        column, row = (output, target) if output.ndim > target.ndim else (target, output)
        n = len(row) if row.ndim else 0
        if n < 2 or column.shape != (n, 1, *row.shape[1:]):
            return
        made_by = output.grad_fn.name() if output.grad_fn is not None else ""
        if column is output and (not made_by or any(word in made_by for word in DELIBERATE)):
            return
        frame = calling_frame()
        if frame is None or not is_user_file(frame.f_code.co_filename):
            return
        place = place_of_frame(frame)
        record = self.spreads.get(place)
        if record is None:
            record = self.spreads[place] = SpreadTrace(place, list(output.shape), list(target.shape))
        record.calls += 1
        record.sizes.append(n)
