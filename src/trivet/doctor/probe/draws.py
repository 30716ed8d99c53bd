"""Watches random draws: dropout that acts in eval mode, and orders of samples that repeat."""

import ast
import hashlib
import random
import sys
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import RandomSampler, SubsetRandomSampler
from torch.utils.data.distributed import DistributedSampler

from trivet.doctor.probe.modules import RootRecord
from trivet.doctor.probe.session import Patches, Session, compiling, is_compiling
from trivet.doctor.signals import OrderTrace, RandomTrace
from trivet.doctor.source import Place, parsed, place_of_frame, user_frames, user_place, whole_statement

DROPOUTS = ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
FEWEST = 8
"""Samples of the smallest order that is looked at."""
MOST = 64
DEEP = 24
"""Frames between a draw and the object that asks for it, wrappers of functions included."""


@dataclass
class Drawn:
    """Orders drawn at one line: the last one of each moment, between which steps are taken."""

    optimizers: int
    step: int
    last: bytes
    seen: set[bytes] = field(default_factory=set)
    counted: int = -1

    def finish(self, trace: OrderTrace) -> None:
        """Count the order of the moment that has passed."""
        if self.counted == self.step:
            return
        self.counted = self.step
        self.seen.add(self.last)
        trace.draws += 1
        trace.different = len(self.seen)


class DrawWatch:
    """Records dropout in eval mode, and random orders with their lines."""

    def __init__(self, session: Session, names: dict[int, str]) -> None:
        self.session = session
        self.names = names
        self.random: dict[tuple[str, Place | None], RandomTrace] = {}
        self.orders: dict[tuple[Place | None, int], OrderTrace] = {}
        self._drawn: dict[tuple[Place | None, int], Drawn] = {}
        self.seeded_again: Place | None = None
        """Where a number was used as a seed again, after steps of training."""
        self._seeded: dict[str, int] = {}
        self._reseeded: dict[Place, set[str]] = {}
        self._samplers: dict[int, tuple[weakref.ref[Any], Place | None]] = {}

    def install(self, patches: Patches) -> None:
        """Wrap what the dropouts of torch call, attention, `randperm` and `manual_seed` of a generator."""
        for name in DROPOUTS:
            patches.wrap(torch._VF, name, partial(self._wrap_dropout, name, 2))
            patches.wrap(torch._VF, f"{name}_", partial(self._wrap_dropout, name, 2))
        patches.wrap(
            F, "scaled_dot_product_attention", partial(self._wrap_dropout, "scaled_dot_product_attention", -1)
        )
        patches.wrap(torch, "randperm", partial(self._wrap_order, "randperm"))
        for owner, name in ((torch, "manual_seed"), (torch.random, "manual_seed"), (random, "seed")):
            patches.wrap(owner, name, self._wrap_seed)
        patches.wrap(random, "shuffle", partial(self._wrap_order, "shuffle"))
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            patches.wrap(numpy.random, "seed", self._wrap_seed)
            patches.wrap(numpy.random, "permutation", partial(self._wrap_order, "permutation"))
            patches.wrap(numpy.random, "shuffle", partial(self._wrap_order, "shuffle"))
        for sampler in (RandomSampler, SubsetRandomSampler, DistributedSampler):
            patches.wrap(sampler, "__init__", self._wrap_sampler)

    def _wrap_dropout(self, name: str, flag: int, original: Any) -> Any:
        session = self.session

        def draw(*args: Any, **kwargs: Any) -> Any:
            if is_compiling() or torch.is_grad_enabled() or not getattr(session.local, "depth", 0):
                return original(*args, **kwargs)
            if compiling() or not session.active:
                return original(*args, **kwargs)
            root: RootRecord | None = getattr(session.local, "root", None)
            module = root.ref() if root is not None else None
            if module is not None and not module.training:
                rate = args[1] if flag == 2 and len(args) > 1 else kwargs.get("dropout_p", 0.0)
                acts = bool(args[flag]) if flag >= 0 and len(args) > flag else flag < 0
                if flag < 0 and len(args) > 4:
                    rate = args[4]
                if acts and rate and rate > 0:
                    with session.measured():
                        self._note_dropout(name, module)
            return original(*args, **kwargs)

        return draw

    def _note_dropout(self, name: str, root: nn.Module) -> None:
        layer = _dropout_layer()
        if layer is not None and any(layer is other for other in root.modules()):
            return  # put to train on purpose, as Monte Carlo dropout does
        place = user_place()
        if place is None:
            return
        if (name, place) not in self.random and len(self.random) < MOST:
            asked = layer is None and "training" in whole_statement(place)
            model = self.names.get(id(root), "")
            self.random[name, place] = RandomTrace(name, place, model, 0, layer is not None, asked)
        if (name, place) in self.random:
            self.random[name, place].calls += 1

    def _wrap_seed(self, original: Any) -> Any:
        def seed(*args: Any, **kwargs: Any) -> Any:
            if self.session.active and not compiling():
                with self.session.shielded():
                    key = repr((args, kwargs))[:64]
                    before = self._seeded.get(key)
                    if before is not None and before < self.session.steps:
                        self.seeded_again = _place_of_seeding() or self.seeded_again
                        place = _in_kept_samples() if torch.is_grad_enabled() else None
                        if place is not None:
                            self._reseeded.setdefault(place, set()).add(key)
                    self._seeded[key] = self.session.steps
            return original(*args, **kwargs)

        return seed

    def _wrap_sampler(self, original: Any) -> Any:
        watch = self

        def construct(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            if watch.session.active:
                watch._samplers[id(self)] = weakref.ref(self), user_place(constructs=self)

        return construct

    def _wrap_order(self, function: str, original: Any) -> Any:
        def draw(*args: Any, **kwargs: Any) -> Any:
            drawn = original(*args, **kwargs)
            if not compiling() and self.session.active and torch.is_grad_enabled():
                with self.session.measured():
                    self._note_order(function, drawn if drawn is not None else args[0])
            return drawn

        return draw

    def _note_order(self, function: str, drawn: Any) -> None:
        values = drawn.tolist() if hasattr(drawn, "tolist") else drawn
        if not isinstance(values, list) or len(values) < FEWEST or not isinstance(values[0], int):
            return
        digest = hashlib.blake2b(repr(values[:4096]).encode(), digest_size=16).digest()
        place, steps = self._place(), self.session.steps
        key = (place, len(values))
        drawn = self._drawn.get(key)
        if drawn is None or drawn.optimizers != self.session.optimizers:
            drawn = self._drawn[key] = Drawn(self.session.optimizers, steps, digest)
            self.orders[key] = OrderTrace(function, place, len(values))
        elif steps >= drawn.step + 2:
            drawn.finish(self.orders[key])
        drawn.step, drawn.last = steps, digest

    def finish(self) -> None:
        """Count the orders drawn last, where they repeat: a sampler draws once more than it needs."""
        for key, drawn in self._drawn.items():
            if drawn.last in drawn.seen:
                drawn.finish(self.orders[key])
        for trace in self.orders.values():
            trace.seeded_at = self.seeded_again

    def reseeded(self) -> list[Place]:
        """Where samples of training that a data set keeps are given the same seed again in a later epoch."""
        return [place for place, keys in self._reseeded.items() if len(keys) >= FEWEST]

    def _place(self) -> Place | None:
        """Where the sampler that draws was made, or the line that draws."""
        frame = sys._getframe(1)
        for _ in range(DEEP):
            held = self._samplers.get(id(frame.f_locals.get("self")))
            if held is not None and held[0]() is frame.f_locals.get("self"):
                return held[1]
            if frame.f_back is None:
                break
            frame = frame.f_back
        return user_place()


def _in_kept_samples() -> Place | None:
    """Where a data set is asked for a sample that it keeps: what it draws then varies it, and does not make it."""
    for frame in list(user_frames())[:6]:
        dataset: Any = frame.f_locals.get("self")
        if frame.f_code.co_name == "__getitem__" and hasattr(dataset, "__len__"):
            kept = getattr(dataset, "__dict__", {}).values()
            whole = any(hasattr(value, "__len__") and len(value) == len(dataset) >= FEWEST for value in kept)
            return place_of_frame(frame) if whole else None
    return None


def _dropout_layer() -> nn.Module | None:
    """The dropout layer whose forward calls, if one does."""
    frame = sys._getframe(1)
    for _ in range(DEEP):
        held = frame.f_locals.get("self")
        if isinstance(held, nn.modules.dropout._DropoutNd):
            return held
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _place_of_seeding() -> Place | None:
    """The line of the user that seeds: that which calls the function for it, unless the seeding stands in a loop."""
    frames = list(user_frames())[:2]
    if not frames:
        return None
    inner = frames[0]
    tree = parsed(inner.f_code.co_filename)
    looped = any(
        isinstance(node, (ast.For, ast.While)) and node.lineno < inner.f_lineno <= (node.end_lineno or 0)
        for node in ast.walk(tree or ast.Module([], []))
    )
    return place_of_frame(inner if looped else frames[-1])
