"""Watches where the user's code takes tensors out of the graph: `detach`, `item`, `numpy`."""

import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from trivet.doctor.graph import walk_graph
from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.source import Place, calling_frame, is_user_file, place_of_frame

CUTTERS = ("detach", "argmax", "round", "sign")
NOTED_STEPS = 2
MOST_NODES = 3000


@dataclass
class Cut:
    """A line that cuts, and the leaves that lie behind it."""

    operation: str
    place: Place
    leaves: "list[weakref.ref[torch.Tensor]]"


class CutWatch:
    """Records, in the first steps, which parameters lie behind a cut made by the user's own code."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.cuts: dict[tuple[str, Place], Cut] = {}

    def install(self, patches: Patches) -> None:
        """Wrap the methods of `torch.Tensor`."""
        for name in CUTTERS:
            patches.wrap(torch.Tensor, name, partial(self._wrap, name))

    def places(self) -> dict[int, Place]:
        """Where the code cuts leaves that live off, by their ids; the surest cut first."""
        found: dict[int, Place] = {}
        for cut in sorted(self.cuts.values(), key=lambda cut: CUTTERS.index(cut.operation)):
            for ref in cut.leaves:
                if (leaf := ref()) is not None:
                    found.setdefault(id(leaf), cut.place)
        return found

    def _wrap(self, name: str, original: Any) -> Any:
        session = self.session

        def cut(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if session.steps < NOTED_STEPS and session.active and not compiling() and self.requires_grad:
                frame = calling_frame()
                if frame is not None and is_user_file(frame.f_code.co_filename) and torch.is_grad_enabled():
                    with session.measured():
                        watch._note(name, self, place_of_frame(frame))
            return original(self, *args, **kwargs)

        watch = self
        return cut

    def _note(self, name: str, tensor: torch.Tensor, place: Place) -> None:
        if (name, place) not in self.cuts and len(self.cuts) < 64:
            leaves = walk_graph([tensor], most=MOST_NODES).leaves.values()
            self.cuts[name, place] = Cut(name, place, [weakref.ref(leaf) for leaf in leaves])
