"""Watches noise that models draw themselves in their forwards, in training and in eval mode."""

import weakref
from functools import partial
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.data.digest import first_tensor
from trivet.doctor.probe.modules import RootRecord, unwrapped
from trivet.doctor.probe.session import Patches, Session, compiling, is_compiling
from trivet.doctor.signals import RandomTrace
from trivet.doctor.source import Place, place_of_frame, user_frames

DRAWS = ("randn", "randn_like", "rand", "rand_like", "normal")
MASKS = ("bernoulli", "bernoulli_")
"""What draws zeros and ones: a mask, where nothing learned says how likely they are."""
MOST_PLACES = 32
MANY = 3
"""Calls with the same input one after the other that are an average over draws, meant so."""


class NoiseWatch:
    """Records lines of a module's forward that draw noise in eval mode as in training.

    Noise that the backward pass needs again, such as that which a variational model scales by what it has learnt, is
    part of the model; noise that is only added on leaves no trace in the graph, and is gone after the forward. Masks of
    zeros and ones are what dropout draws, whatever holds them.
    """

    def __init__(self, session: Session, names: dict[int, str]) -> None:
        self.session = session
        self.names = names
        self.random: dict[Place, RandomTrace] = {}
        self._drawn: list[tuple[Place, weakref.ref[torch.Tensor]]] = []
        self._loose: dict[Place, bool] = {}
        self._masks: set[Place] = set()
        self._unregistered: dict[Place, RandomTrace] = {}
        self._shown: list[tuple[RandomTrace, weakref.ref[torch.Tensor]]] = []
        self._given: weakref.ref[torch.Tensor] | None = None
        self._again = self._step = 0

    def install(self, patches: Patches) -> None:
        """Wrap what draws."""
        for name in DRAWS:
            patches.wrap(torch, name, partial(self._wrap, name))
        for name in ("normal_", "bernoulli_", "bernoulli"):
            patches.wrap(torch.Tensor, name, partial(self._wrap, name))
        patches.wrap(torch, "bernoulli", partial(self._wrap, "bernoulli"))

    def traces(self) -> list[RandomTrace]:
        """Return the lines whose noise is only added on in training, and drawn in eval mode, too."""
        loose = [trace for place, trace in self.random.items() if self._loose.get(place) and trace.calls]
        return loose + list(self._unregistered.values())

    def before_root(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count calls with the same input one after the other."""
        self._drawn.clear()
        if torch.is_grad_enabled():
            return
        batch = first_tensor(args, kwargs)
        same = batch is not None and self._given is not None and self._given() is batch
        self._again = self._again + 1 if same and self._step == self.session.steps else 1
        self._given, self._step = weakref.ref(batch) if batch is not None else None, self.session.steps
        if self._again >= MANY:
            for trace in self.random.values():
                trace.averaged = True

    def after_root(self, *_: Any) -> None:
        """Is the noise of this forward still held, by its graph or by the model?"""
        for trace, ref in self._shown:
            trace.calls += (
                ref() is None
            )  # else the model gives its mask away, as one that fills in what it hides
        self._shown.clear()
        for place, ref in self._drawn:
            self._loose[place] = self._loose.get(place, True) and (place in self._masks or ref() is None)
        self._drawn.clear()

    def _wrap(self, name: str, original: Any) -> Any:
        session = self.session

        def draw(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            if is_compiling() or not getattr(session.local, "depth", 0):
                return value
            gradient = torch.is_grad_enabled()
            if (gradient and not session.recording) or not session.active or compiling():
                return value
            learned = any(isinstance(given, torch.Tensor) and given.requires_grad for given in args)
            if name not in MASKS or not learned:
                with session.measured():
                    self._note(name, value, gradient=gradient)
            return value

        return draw

    def _note(self, name: str, value: torch.Tensor, *, gradient: bool) -> None:
        root: RootRecord | None = getattr(self.session.local, "root", None)
        module = root.ref() if root is not None else None
        frame = next(iter(user_frames()), None)
        held = frame.f_locals.get("self") if frame is not None else None
        if frame is None or module is None or not isinstance(held, nn.Module):
            return
        place = place_of_frame(frame)
        if gradient:
            if module.training and len(self._loose) < MOST_PLACES:
                self._drawn.append((place, weakref.ref(value)))
                if name in MASKS:
                    self._masks.add(place)
        elif not module.training and held.training:
            attribute = _unregistered_in(unwrapped(module), held)
            if attribute:
                self._note_unregistered(name, place, module, attribute)
        elif not module.training and self._loose.get(place):
            if place not in self.random:
                name_of_root = self.names.get(id(unwrapped(module)), "")
                self.random[place] = RandomTrace(name, place, name_of_root, noise=True, mask=name in MASKS)
            if name in MASKS:
                self._shown.append((self.random[place], weakref.ref(value)))
            else:
                self.random[place].calls += 1

    def _note_unregistered(self, name: str, place: Place, root: nn.Module, attribute: str) -> None:
        """A module that `eval()` does not reach, for its model does not know it, draws on."""
        if place not in self._unregistered and len(self._unregistered) < MOST_PLACES:
            model = self.names.get(id(unwrapped(root)), "")
            trace = RandomTrace(name, place, model, unregistered=True, noise=True, attribute=attribute)
            self._unregistered[place] = trace
        if place in self._unregistered:
            self._unregistered[place].calls += 1


def _unregistered_in(root: nn.Module, module: nn.Module) -> str:
    """The plain list, tuple or dictionary of a model's part that holds a module which is no part of it: its attribute."""
    parts = list(root.modules())
    if any(part is module for part in parts):
        return ""  # put to train on purpose
    for part in parts:
        for attribute, value in vars(part).items():
            items = (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, (list, tuple))
                else ()
            )
            if not attribute.startswith("_") and any(item is module for item in items):
                return attribute
    return ""
