"""Acts on a module once the script has imported it, so that the doctor itself imports nothing but torch."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from trivet.doctor.probe.session import Patches

Action = Callable[[Any], None]


class _Loader(importlib.abc.Loader):
    """Loads a module as its own loader does, and then acts."""

    def __init__(self, loader: Any, act: Action, finder: "_Finder") -> None:
        self._loader, self._act, self._finder = loader, act, finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._finder.busy = True  # a package may load its native part under the same name, as `cv2` does
        try:
            self._loader.exec_module(module)
        finally:
            self._finder.busy = False
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._act(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, act: Action) -> None:
        self._name, self._act = name, act
        self.busy = False

    def find_spec(
        self, name: str, _path: Iterable[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self._act, self)
        return spec


def after_import(patches: Patches, name: str, act: Action) -> None:
    """Call `act(module)` now when the module is imported, else once when it is."""
    module = sys.modules.get(name)
    if module is not None:
        act(module)
        return
    finder = _Finder(name, act)
    sys.meta_path.insert(0, finder)
    patches.on_undo(lambda: sys.meta_path.remove(finder) if finder in sys.meta_path else None)
