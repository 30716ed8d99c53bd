"""Watches which line of the user's code filled a parameter last, through the functions of `torch.nn.init`."""

import weakref
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.session import Patches, Session
from trivet.doctor.source import Place, user_place


class FillWatch:
    """Records calls of the functions of `torch.nn.init` that change a tensor."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.filled: dict[int, tuple[weakref.ref[torch.Tensor], Place | None]] = {}

    def install(self, patches: Patches) -> None:
        """Wrap every public function of `torch.nn.init` whose name ends in an underscore."""
        for name in [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]:
            patches.wrap(nn.init, name, self._wrap)

    def place_of(self, tensor: torch.Tensor) -> Place | None:
        """Where a tensor was last filled."""
        known = self.filled.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    def _wrap(self, original: Any) -> Any:
        def fill(*args: Any, **kwargs: Any) -> Any:
            tensor = args[0] if args else kwargs.get("tensor")
            if self.session.active and isinstance(tensor, torch.Tensor):
                self.filled[id(tensor)] = weakref.ref(tensor), user_place()
            return original(*args, **kwargs)

        return fill
