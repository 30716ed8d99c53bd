"""Watches which line of the user's code filled a parameter last, through the functions of `torch.nn.init`."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import Place, user_place


class FillWatch:
    """Records calls of the functions of `torch.nn.init` that change a tensor."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.on_fill: list[Callable[[torch.Tensor], None]] = []
        self.filled: dict[int, tuple[weakref.ref[torch.Tensor], int, Place | None]] = {}
        self._count = 0

    def install(self, patches: Patches) -> None:
        """Wrap every public function of `torch.nn.init` whose name ends in an underscore."""
        for name in [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]:
            patches.wrap(nn.init, name, self._wrap)

    def place_of(self, layer: nn.Module) -> Place | None:
        """Where the own parameters of a layer were last filled."""
        own = [p for p in vars(layer).get("_parameters", {}).values() if p is not None]
        known = [found for p in own if (found := self.filled.get(id(p))) is not None and found[0]() is p]
        return max(known, key=lambda found: found[1])[2] if known else None

    def place_of_tensor(self, tensor: torch.Tensor) -> Place | None:
        """Where a tensor was last filled."""
        known = self.filled.get(id(tensor))
        return known[2] if known is not None and known[0]() is tensor else None

    def _wrap(self, original: Any) -> Any:
        def fill(*args: Any, **kwargs: Any) -> Any:
            tensor = args[0] if args else kwargs.get("tensor")
            if self.session.active and isinstance(tensor, torch.Tensor):
                self._count += 1
                self.filled[id(tensor)] = weakref.ref(tensor), self._count, user_place()
                with self.session.shielded():
                    for act in self.on_fill:
                        act(tensor)
            return original(*args, **kwargs)

        return fill
