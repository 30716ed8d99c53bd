"""Watching other people's trainers: callbacks for Lightning and for Hugging Face's Trainer.

Neither library is imported: both call the methods of whatever they are given. In Lightning a callback must be of its
class, which is loaded when the callback is made.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.text import write_text
from trivet.doctor.watch import is_watching, watch

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
Tell = Callable[[str], Any]


class _Watched:
    """Begins to watch when fitting begins; ends, diagnoses and tells when it ends."""

    def __init__(self, tell: Tell | None) -> None:
        self.diagnosis: Diagnosis | None = None
        self._tell = tell if tell is not None else _to_standard_error
        self._watch: watch | None = None

    def begin(self, *things: Any) -> None:
        if self._watch is None and not is_watching():
            self._watch = watch(*(thing for thing in things if thing is not None))
            self._watch.__enter__()

    def end(self, fault: BaseException | None = None) -> None:
        if self._watch is None:
            return
        watched, self._watch = self._watch, None
        watched.__exit__(type(fault) if fault is not None else None, fault, None)
        self.diagnosis = watched.diagnose()
        self._tell(write_text(self.diagnosis))


def lightning_callback(*, tell: Tell | None = None) -> Any:
    """Return a callback for a Lightning `Trainer`, which watches `fit`; afterwards it has a `diagnosis`.

    Args:
        tell: Called with the diagnosis as text; by default it is written to standard error.

    Raises:
        ImportError: If neither `lightning` nor `pytorch_lightning` is installed.
    """
    watched = _Watched(tell)

    def on_fit_start(self: Any, trainer: Any, module: Any) -> None:  # noqa: ARG001
        watched.begin(module, *getattr(trainer, "optimizers", ()))

    def on_fit_end(self: Any, trainer: Any, module: Any) -> None:  # noqa: ARG001
        watched.end()

    def on_exception(self: Any, trainer: Any, module: Any, exception: BaseException) -> None:  # noqa: ARG001
        watched.end(exception)

    body = {
        "__doc__": "Watches `fit` with the doctor.",
        "on_fit_start": on_fit_start,
        "on_fit_end": on_fit_end,
        "on_exception": on_exception,
        "diagnosis": property(lambda self: watched.diagnosis),  # noqa: ARG005
    }
    return type("DoctorCallback", (_lightning().Callback,), body)()


class TransformersCallback:
    """A callback for a Hugging Face `Trainer`: `Trainer(..., callbacks=[TransformersCallback()])`.

    Afterwards it has a `diagnosis`. It answers to every event by name, as the Trainer asks of a callback.

    Args:
        tell: Called with the diagnosis as text; by default it is written to standard error.
    """

    def __init__(self, *, tell: Tell | None = None) -> None:
        self._watched = _Watched(tell)

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What was found, once training has ended."""
        return self._watched.diagnosis

    def on_train_begin(self, *_: Any, model: Any = None, optimizer: Any = None, **__: Any) -> None:
        """Begin to watch."""
        self._watched.begin(model, getattr(optimizer, "optimizer", optimizer))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Diagnose and tell."""
        self._watched.end()

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("on_"):
            return lambda *_, **__: None
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


def _lightning() -> Any:
    """Return the Lightning that the script uses already, else the first that is installed."""
    for name in (*(name for name in LIGHTNING if name in sys.modules), *LIGHTNING):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise ImportError(
        f"Lightning is not installed: neither {LIGHTNING[0]} nor {LIGHTNING[1]} can be imported"
    )


def _to_standard_error(text: str) -> None:
    print(f"\n{text}", file=sys.stderr)  # noqa: T201
