"""Watches models that are not trained themselves, but follow others: which line writes their weights."""

import weakref
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.session import Patches, Session, compiling
from trivet.doctor.source import Place, user_place

WRITES = ("copy_", "lerp_", "mul_", "add_", "sub_", "__iadd__", "__imul__", "__isub__")
WRITES_OF_LISTS = ("_foreach_copy_", "_foreach_lerp_", "_foreach_mul_", "_foreach_add_")
MOST_WATCHED = 64


class CopyWatch:
    """Knows where the weights of certain models are written in place; nothing is wrapped before one is asked about."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._places: dict[int, tuple[weakref.ref[nn.Module], Place]] = {}
        self._patches: Patches | None = None
        self._wrapped = False
        self._addresses: dict[int, weakref.ref[nn.Module]] = {}

    def install(self, patches: Patches) -> None:
        """Keep what wraps, for the time that something is looked for."""
        self._patches = patches

    def written_at(self, module: nn.Module) -> Place | None:
        """Where the weights of a module were seen to be written; if nowhere, look for it in recorded steps from now on."""
        known = self._places.get(id(module))
        if known is not None and known[0]() is module:
            return known[1]
        if self._patches is not None and len(self._addresses) < MOST_WATCHED:
            self._wrap_all(self._patches)
            for parameter in list(module.parameters())[:MOST_WATCHED]:
                self._addresses[parameter.data_ptr()] = weakref.ref(module)
        return None

    def _wrap_all(self, patches: Patches) -> None:
        if not self._wrapped:
            self._wrapped = True
            for name in WRITES:
                patches.wrap(torch.Tensor, name, self._wrap, rests=True)
            for name in WRITES_OF_LISTS:
                patches.wrap(torch, name, self._wrap, rests=True)

    def _wrap(self, original: Any) -> Any:
        watch, session = self, self.session

        def write(first: Any, *args: Any, **kwargs: Any) -> Any:
            if watch._addresses and session.recording and session.active and not compiling():
                with session.measured():
                    watch._note(first)
            return original(first, *args, **kwargs)

        return write

    def _note(self, written: Any) -> None:
        tensors = written[:1] if isinstance(written, (list, tuple)) else [written]
        for tensor in tensors:
            ref = self._addresses.get(tensor.data_ptr()) if isinstance(tensor, torch.Tensor) else None
            module = ref() if ref is not None else None
            place = user_place() if module is not None else None
            if module is not None and place is not None:
                self._places[id(module)] = weakref.ref(module), place
                self._addresses = {key: of for key, of in self._addresses.items() if of() is not module}
