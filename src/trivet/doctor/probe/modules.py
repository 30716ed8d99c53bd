"""Watches modules: where each is made, how each is called, and what is loaded into it."""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trivet.doctor.probe.describe import describe_input, describe_load
from trivet.doctor.probe.session import Patches, Replaced, Session, compiling, is_compiling
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace import InputTrace, LoadTrace

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
NORMS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
WRITTEN_AGAIN = 3
"""Times that every weight was written in place, which no initialisation does."""
SLOW = 0.05
"""Momentum of batch norm below which its first steps are looked at more closely."""
WRAPPERS = ("DistributedDataParallel", "DataParallel", "OptimizedModule", "FullyShardedDataParallel")


@dataclass
class CallRecord:
    """How a module was called in recorded steps, and what a batch norm saw and had learnt of it when evaluated.

    Attributes:
        place: Where it was called first, if that was in the first step.
    """

    ref: "weakref.ref[nn.Module]"
    place: Place | None = None
    train_gradient: int = 0
    eval_gradient: int = 0
    train_plain: int = 0
    eval_plain: int = 0
    samples: list[int] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    statistics: tuple[torch.Tensor, torch.Tensor] | None = None
    kept_share: float = 0.0
    drift: float = 0.0


@dataclass
class RootRecord:
    """A module that the user's code calls: modes of training forwards, and phases of evaluation."""

    ref: "weakref.ref[nn.Module]"
    mode_dependent: bool = False
    pending: str = ""
    steps: dict[str, int] = field(default_factory=lambda: {"train": 0, "eval": 0})
    eval_after_train: int = 0
    ever_eval: bool = False
    plain_calls: int = 0
    """Calls without gradients in the step `last_plain`."""
    last_plain: int = 0
    last_phase: int = -1
    evaluations_in_train: int = 0
    unseen_in_train: int = 0
    evaluations_in_eval: int = 0
    evaluation_place: Place | None = None
    weights_then: float | None = None
    new_norms: int = 0
    follows_at: Place | None = None
    name: str = ""
    switches: dict[bool, Place | None] = field(default_factory=dict)
    eval_in_training: Place | None = None  # the switch that held at the first training forward in eval mode
    input: InputTrace | None = None
    called_at: Place | None = None

    def note_training(self, module: nn.Module) -> None:
        """Note the mode of a forward with gradients."""
        if module.training:
            self.pending = "train"
        else:
            self.ever_eval = True
            self.pending = self.pending or "eval"
            self.eval_in_training = self.eval_in_training or self.switches.get(False)


class ModuleWatch:
    """Records modules while they are made, called, switched and loaded."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.made: dict[int, tuple[weakref.ref[nn.Module], Place | None]] = {}
        self.parameter_places: dict[int, tuple[weakref.ref[torch.Tensor], Place | None, int]] = {}
        self.calls: dict[int, CallRecord] = {}
        self.roots: dict[int, RootRecord] = {}
        self.switched: dict[int, tuple[weakref.ref[nn.Module], bool, Place | None]] = {}
        self.loads: list[LoadTrace] = []
        self.loaded: dict[int, tuple[weakref.ref[torch.Tensor], LoadTrace]] = {}
        """Weights that were loaded and not filled since."""
        self._frozen: dict[int, tuple[weakref.ref[nn.Module], Place | None]] = {}
        self.compiled = False
        self.called = False
        """Whether a module with parameters was called."""
        self.unseen: Callable[[], bool] = lambda: True
        """Whether the samples evaluated last are no training samples, as far as is known."""
        self.on_first_call: list[Callable[[], None]] = []
        self.observers: list[Callable[[nn.Module, tuple[Any, ...], Any], None]] = []
        """Called with (module, arguments, output) for every call in a recorded step: the place for more signals."""
        self.written_at: Callable[[nn.Module], Place | None] = lambda _: None
        """Where the weights of a module were written in place since it was first asked about."""
        self.before_root: list[Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]] = []
        self.after_root: list[Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]] = []
        """Called around every call of a module by the user's own code, but for those of training while at rest."""
        self.at_rest: list[Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]] = []
        """Called before the calls of training while the session is at rest; they must cost next to nothing."""
        self._outer: dict[int, tuple[weakref.ref[nn.Module], RootRecord]] = {}
        self._of_roots: list[Replaced] = []
        self._counted = 0
        self._trained_by: dict[tuple[int, int, int], bool] = {}

    def install(self, patches: Patches) -> None:
        """Wrap construction, calls, mode switches and `load_state_dict` of `nn.Module`."""
        patches.wrap(nn.Module, "__init__", self._wrap_init)
        patches.wrap(nn.Module, "register_parameter", self._wrap_register)
        patches.wrap(nn.Module, "__call__", self._wrap_call, rests=True)
        patches.wrap(nn.Module, "train", self._wrap_train)
        patches.wrap(nn.Module, "requires_grad_", self._wrap_freeze)
        patches.wrap(nn.Module, "load_state_dict", self._wrap_load)
        patches.on_undo(self.wake)

    def rest(self) -> None:
        """Watch the calls of the classes of known outermost modules alone, now that those of all are not wrapped."""
        kinds = {type(held) for ref, _ in self._outer.values() if (held := ref()) is not None}
        for kind in kinds - {nn.Module}:
            original, own = kind.__call__, "__call__" in vars(kind)
            self._of_roots.append(Replaced(kind, "__call__", original, self._wrap_root(original), own))
            self._of_roots[-1].replace()

    def wake(self) -> None:
        """Leave these classes as they were."""
        while self._of_roots:
            self._of_roots.pop().put_back()

    def place_of(self, module: nn.Module) -> Place | None:
        """Where a module was made."""
        made = self.made.get(id(module))
        return made[1] if made and made[0]() is module else None

    def frozen_at(self, root: nn.Module) -> Place | None:
        """Where a module, or a part of it, was frozen by `requires_grad_(False)`."""
        for module in root.modules():
            known = self._frozen.get(id(module))
            if known is not None and known[0]() is module:
                return known[1]
        return None

    def place_of_parameter(self, parameter: torch.Tensor) -> Place | None:
        """Where a parameter was made."""
        made = self.parameter_places.get(id(parameter))
        return made[1] if made and made[0]() is parameter else None

    def born(self, parameter: torch.Tensor) -> int | None:
        """How many optimizers there were when a parameter was registered."""
        made = self.parameter_places.get(id(parameter))
        return made[2] if made and made[0]() is parameter else None

    def adopt(self, module: nn.Module) -> None:
        """Know a module that was made before watching began, or by copying."""
        if id(module) not in self.made or self.made[id(module)][0]() is not module:
            self.made[id(module)] = (weakref.ref(module), None)

    def outermost(self) -> list[nn.Module]:
        """Return the live modules that no other live module holds as a registered child."""
        alive = [module for ref, _ in list(self.made.values()) if (module := ref()) is not None]
        children = {id(child) for module in alive for child in vars(module).get("_modules", {}).values()}
        roots = [module for module in alive if id(module) not in children and "_modules" in vars(module)]
        return [unwrapped(module) for module in roots]

    def end_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Count the forwards since the last step as those of this one, and of the quiet ones before it."""
        passed, self._counted = self.session.steps + 1 - self._counted, self.session.steps + 1
        for record in self.roots.values():
            if record.pending:
                record.steps[record.pending] += passed
                again = record.pending == "eval" and record.steps["train"] > 0
                if again and self._steps_on(optimizer, record):
                    record.eval_after_train += passed
            record.pending = ""

    def _steps_on(self, optimizer: torch.optim.Optimizer, record: RootRecord) -> bool:
        """Whether an optimizer trains anything of a model: a teacher is called too, in eval mode, and not trained."""
        root = record.ref()
        if root is None:
            return False
        key = id(optimizer), id(root), self.session.phase
        if key not in self._trained_by:
            held = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
            self._trained_by[key] = any(id(p) in held for p in root.parameters())
        return self._trained_by[key]

    def last_switch(self, module: nn.Module, *, to_train: bool) -> Place | None:
        """Where a module was last put into a mode by itself."""
        switch = self.switched.get(id(module))
        return switch[2] if switch and switch[0]() is module and switch[1] == to_train else None

    def _wrap_init(self, original: Any) -> Any:
        watch = self

        def construct(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            if watch.session.active and not compiling():
                watch.made[id(self)] = (weakref.ref(self), user_place(constructs=self))
            original(self, *args, **kwargs)

        return construct

    def _wrap_register(self, original: Any) -> Any:
        watch = self

        def register_parameter(self: nn.Module, name: str, param: Any) -> None:
            original(self, name, param)
            if param is not None and watch.session.active and not compiling():
                known = watch.parameter_places.get(id(param))
                if known is None or known[0]() is not param:
                    optimizers = watch.session.optimizers
                    watch.parameter_places[id(param)] = (weakref.ref(param), user_place(), optimizers)

        return register_parameter

    def _wrap_call(self, original: Any) -> Any:
        session, local, watch = self.session, self.session.local, self

        def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return original(self, *args, **kwargs)
            depth = getattr(local, "depth", 0)
            if (depth and not session.recording) or not session.active or compiling():
                return original(self, *args, **kwargs)
            local.depth = depth + 1
            try:
                with session.shielded():
                    if depth == 0:
                        watch._enter_root(self)
                        for before in watch.before_root:
                            before(self, args, kwargs)
                        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
                            watch._note_evaluation(unwrapped(self))
                    if session.recording:
                        watch._enter(self, args)
                output = original(self, *args, **kwargs)
                with session.shielded():
                    if session.recording:
                        for observe in watch.observers:
                            observe(self, args, output)
                    if depth == 0:
                        for after in watch.after_root:
                            after(self, args, kwargs, output)
                return output
            finally:
                local.depth = depth

        return call

    def _wrap_root(self, original: Any) -> Any:
        """A call that sees which mode a known outermost module trains in, and leaves everything else out."""
        session, local, watch = self.session, self.session.local, self
        whole = self._wrap_call(original)

        def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return original(self, *args, **kwargs)
            if session.quiet:
                if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
                    return original(self, *args, **kwargs)
                session.stir()
            if getattr(local, "depth", 0) and session.resting:
                return original(self, *args, **kwargs)
            known = watch._outer.get(id(self))
            if (
                known is None
                or known[0]() is not self
                or not session.resting
                or not session.active
                or not torch.is_grad_enabled()
                or torch.is_inference_mode_enabled()
            ):
                return whole(self, *args, **kwargs)
            known[1].note_training(self)
            local.depth = 1
            try:
                with session.shielded():
                    for see in watch.at_rest:
                        see(self, args, kwargs)
                return original(self, *args, **kwargs)
            finally:
                local.depth = 0

        return call

    def _wrap_train(self, original: Any) -> Any:
        watch, local = self, self.session.local

        def train(self: nn.Module, mode: bool = True) -> nn.Module:
            outer = getattr(local, "switching", None)
            if outer == bool(mode):  # a part of what is switched
                watch._note_switch(self, outer, local.switched_at)
            if outer == bool(mode) or not watch.session.active or compiling():
                return original(self, mode)
            if watch.session.resting and self.training == bool(mode) and id(self) in watch.switched:
                return original(self, mode)  # as loops do that call `train` at every step
            local.switching = bool(mode)
            try:
                place = user_place()
                local.switched_at = place
                watch.switched[id(self)] = (weakref.ref(self), bool(mode), place)
                watch._note_switch(self, bool(mode), place)
                return original(self, mode)
            finally:
                local.switching = outer

        return train

    def _note_switch(self, module: nn.Module, mode: bool, place: Place | None) -> None:
        root = self.roots.get(id(module))
        if root is not None and root.ref() is module:
            root.switches[mode] = place

    def _wrap_freeze(self, original: Any) -> Any:
        watch = self

        def requires_grad_(self: nn.Module, requires_grad: bool = True) -> nn.Module:
            if watch.session.active and not requires_grad and not compiling():
                watch._frozen[id(self)] = weakref.ref(self), user_place()
            return original(self, requires_grad)

        return requires_grad_

    def _wrap_load(self, original: Any) -> Any:
        watch = self

        def load_state_dict(self: nn.Module, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            with watch.session.shielded():
                watch._note_load(self, state_dict, bool(args[0] if args else kwargs.get("strict", True)))
            return original(self, state_dict, *args, **kwargs)

        return load_state_dict

    def _note_load(self, module: nn.Module, state: Any, strict: bool) -> None:
        calls = self.calls.get(id(module))
        known = calls is not None and calls.ref() is module  # not one that is gone, whose id it has
        trained = known and calls is not None and (calls.train_gradient or calls.eval_gradient)
        if self.session.active and not trained:  # a trained model gets its best or averaged weights back
            described = describe_load(module, state, strict=strict)
            self.loads += described
            for load in described:
                self._expect_refill(load, module, state)

    def _expect_refill(self, load: LoadTrace, module: nn.Module, state: Any) -> None:
        held = [p for name, p in module.named_parameters() if name in state and p.ndim >= 2]
        load.weights = len(held)
        self.loaded.update({id(p): (weakref.ref(p), load) for p in held})

    def note_fill(self, parameter: torch.Tensor) -> None:
        """Note that a parameter is filled: are these the weights that were loaded, and not trained since?"""
        known = self.loaded.pop(id(parameter), None)
        if known is not None and known[0]() is parameter and parameter.grad is None:
            known[1].refilled += 1
            known[1].refilled_at = user_place()

    def _enter_root(self, module: nn.Module) -> None:
        if type(module).__name__ == "OptimizedModule":
            self.compiled = True
        outer, module = module, unwrapped(module)
        record = self.roots.get(id(module))
        if record is None or record.ref() is not module:
            self.adopt(module)
            record = self.roots[id(module)] = RootRecord(weakref.ref(module), depends_on_mode(module))
            record.called_at = user_place()
            self.session.renew()
            switch = self.switched.get(id(module))
            if switch is not None and switch[0]() is module:
                record.switches[switch[1]] = switch[2]
        known = self._outer.get(id(outer))
        if (known is None or known[0]() is not outer) and (record.mode_dependent or _has_parameters(module)):
            self._outer[id(outer)] = weakref.ref(outer), record
        if not self.called and _has_parameters(module):
            while self.on_first_call:
                self.on_first_call.pop()()
            self.called = True
        self.session.local.first_layer = None
        self.session.local.root = record
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            record.note_training(module)
        elif not module.training:
            record.ever_eval = True

    def _note_evaluation(self, module: nn.Module) -> None:
        record = self.roots[id(module)]
        if record.pending:  # between a training forward and its step: a helper pass, not an evaluation
            return
        steps = self.session.steps
        lone = steps - record.last_plain >= 3
        record.plain_calls = record.plain_calls + 1 if record.last_plain == steps else 1
        record.last_plain = steps
        if not steps or record.last_phase == steps or not (record.plain_calls >= 2 or lone):
            return
        record.last_phase = steps
        if not module.training:
            record.evaluations_in_eval += 1
            with self.session.measured():
                self._note_warming(module)
                self._note_new_norms(module, record)
        elif not _updates_statistics(module):
            record.evaluations_in_train += 1
            record.unseen_in_train += self.unseen()
            record.evaluation_place = record.evaluation_place or user_place()

    def _note_new_norms(self, module: nn.Module, record: RootRecord) -> None:
        """Count the batch norms with the statistics of new layers in a copy whose weights move from outside."""
        if record.steps["train"] or record.steps["eval"]:
            return
        norms = [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS) and not layer.training]
        new = sum(has_new_statistics(layer) for layer in norms)
        if new:
            now = float(sum(p.detach().flatten()[:64].double().sum() for p in module.parameters()))
            seen = record.weights_then is not None
            if now != record.weights_then if seen else self._follows(module):
                record.new_norms = new
                record.evaluation_place = record.evaluation_place or user_place()
            record.weights_then = now
            record.follows_at = self.written_at(module)
        else:
            record.new_norms = 0

    def _follows(self, module: nn.Module) -> bool:
        """Whether a copy seen for the first time was written again and again, beside a model of its shape that is trained."""
        own = list(module.parameters())
        if not own or min(parameter._version for parameter in own) < WRITTEN_AGAIN:
            return False
        shapes = [parameter.shape for parameter in own]
        return any(
            [parameter.shape for parameter in trained.parameters()] == shapes
            for record in self.roots.values()
            if (record.steps["train"] or record.steps["eval"]) and (trained := record.ref()) is not None
        )

    def _note_warming(self, module: nn.Module) -> None:
        """How much of slow running statistics is still their initial value, now that they are used."""
        for layer in module.modules():
            record = self.calls.get(id(layer))
            if record is None or record.statistics is None or not isinstance(layer, BATCH_NORMS):
                continue
            if layer.momentum is None or layer.running_mean is None or layer.running_var is None:
                record.kept_share = 0.0
                continue
            record.kept_share = (1 - layer.momentum) ** int(layer.num_batches_tracked or 0)
            mean, variance = record.statistics
            shift = (layer.running_mean - mean).abs() / (variance + layer.eps).sqrt()
            stretch = ((layer.running_var + layer.eps) / (variance + layer.eps)).log().abs() / 2
            record.drift = float(torch.maximum(shift, stretch).mean())

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        record = self.calls.get(id(module))
        if record is None or record.ref() is not module:
            record = self.calls[id(module)] = CallRecord(weakref.ref(module))
            record.place = user_place() if not self.session.steps else None
        gradient = torch.is_grad_enabled()
        name = ("train" if module.training else "eval") + ("_gradient" if gradient else "_plain")
        setattr(record, name, getattr(record, name) + 1)
        value = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if value is None:
            return
        if (
            isinstance(module, BATCH_NORMS)
            and module.training
            and value.ndim >= 2
            and len(record.samples) < 64
        ):
            record.samples.append(value.numel() // max(1, value.shape[1]))
            record.batch_sizes.append(value.shape[0])
        if isinstance(module, BATCH_NORMS) and module.training and (module.momentum or 1.0) < SLOW:
            with torch.no_grad(), self.session.measured():
                rows = value.detach().transpose(0, 1).flatten(1).float()
                record.statistics = rows.mean(1), rows.var(1, unbiased=False)
        self._note_first_layer(module, value)

    def _note_first_layer(self, module: nn.Module, value: torch.Tensor) -> None:
        local = self.session.local
        root: RootRecord | None = getattr(local, "root", None)
        if root is None or next(iter(vars(module).get("_parameters", ())), None) is None:
            return
        if local.first_layer is None:
            local.first_layer = module
            if (
                root.input is None
                and value.is_floating_point()
                and not value.requires_grad
                and value.numel() > 1
            ):
                with self.session.measured():
                    root.input = describe_input(module, value, self.place_of(module), norms=NORMS)
        elif local.first_layer is not module:
            if root.input is not None and isinstance(module, NORMS) and local.first_layer is not None:
                root.input.normalised_next = root.input.normalised_next or not getattr(local, "second", None)
            local.second = module


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the user's module inside the wrappers of torch (data parallel, compiled)."""
    while type(module).__name__ in WRAPPERS:
        inner = vars(module).get("_modules", {})
        held = next(
            (inner[key] for key in ("module", "_orig_mod", "_fsdp_wrapped_module") if key in inner), None
        )
        if held is None:
            break
        module = held
    return module


def has_new_statistics(norm: Any) -> bool:
    """Whether a batch norm has the running mean 0 and variance 1 of a new layer."""
    if norm.running_mean is None or norm.running_var is None:
        return False
    return not bool(norm.running_mean.any()) and bool((norm.running_var == 1).all())


def mode_dependent_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers whose output differs between train and eval."""
    for layer in module.modules():
        if (isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0) or (
            isinstance(layer, BATCH_NORMS) and layer.track_running_stats
        ):
            yield layer


def depends_on_mode(module: nn.Module) -> bool:
    """Whether a module holds layers that differ between train and eval."""
    return next(mode_dependent_layers(module), None) is not None


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _updates_statistics(module: nn.Module) -> bool:
    """Whether forwards in train mode serve to recompute batch-norm statistics, or to sample dropout only."""
    norms = [layer for layer in mode_dependent_layers(module) if isinstance(layer, BATCH_NORMS)]
    cumulative = bool(norms) and all(layer.momentum is None for layer in norms)
    return cumulative or not any(layer.training for layer in mode_dependent_layers(module))
