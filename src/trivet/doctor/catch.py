"""Catches the steps of a script while it is watched, so that they can be repeated on copies afterwards."""

import copy
from typing import Any

import torch
from torch import nn
from torch.overrides import _get_current_function_mode, _pop_mode

from trivet.doctor.borrow import borrowed, keep_random_state
from trivet.doctor.experiment import UnprovableError
from trivet.doctor.probe import Probe
from trivet.doctor.probe.scaling import OptimizerRecord
from trivet.doctor.tape import MOST_BYTES, Recorder, Replayed, Step, Tape

MOST_STEPS = 32
ROWS, VALUES = 256, 32
TOLERANCE = 1e-3
"""Relative difference between the loss of a step and of its repetition."""


class Start:
    """The state of models and their optimizer before the first step."""

    def __init__(self, roots: list[nn.Module], optimizer: torch.optim.Optimizer) -> None:
        held = [p for group in optimizer.param_groups for p in group["params"]]
        tensors = [t for root in roots for t in (*root.parameters(), *root.buffers())] + held
        self._tensors = {id(t): (t, t.detach().clone(), t.requires_grad) for t in tensors}
        self._modes = [(module, module.training) for root in roots for module in root.modules()]
        self._groups = [_settings(group) for group in optimizer.param_groups]
        self._state = {parameter: copy.deepcopy(state) for parameter, state in optimizer.state.items()}
        self._optimizer = optimizer

    def put(self) -> None:
        """Put models and optimizer into this state; they must be lent (`borrowed`).

        Raises:
            UnprovableError: If a tensor has got another shape since.
        """
        for tensor, value, requires_grad in self._tensors.values():
            if tensor.shape != value.shape:
                raise UnprovableError("a parameter has changed its shape since training began")
            tensor.data.copy_(value)
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
        for module, training in self._modes:
            module.training = training
        groups = self._optimizer.param_groups
        del groups[len(self._groups) :]
        for group, settings in zip(groups, self._groups, strict=True):
            group.update(settings)
        self._optimizer.state.clear()
        self._optimizer.state.update(copy.deepcopy(self._state))


class Catch:
    """Records the first steps of a watched training: one epoch of it at most.

    Args:
        probe: The one that watches.
    """

    def __init__(self, probe: Probe) -> None:
        self.steps: list[Step] = []
        self.start: Start | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self.fault = ""
        self._session = probe.session
        self._roots: dict[int, nn.Module] = {}
        self._recorder = Recorder()
        self._pushed = False
        self._open: Any = None
        self._tapes: list[Tape] = []
        self._trained: set[int] = set()
        self._seen: set[tuple[float, ...]] = set()
        self._bytes = 0
        self._done = False
        self._session.held = True
        probe.modules.before_root.append(self._enter)
        probe.modules.after_root.append(self._leave)
        probe.training.on_losses.append(self._close)
        probe.training.before_step.append(self._begin_update)
        probe.training.after_step.append(self._end_step)

    def replayed(self) -> Replayed:
        """Return the modules that were called as one model, after proving that its steps are those of the script.

        Raises:
            UnprovableError: If no step was caught, or one gives another loss or other gradients when it is repeated.
        """
        if self.fault:
            raise UnprovableError(self.fault)
        if not self.steps or self.start is None or self.optimizer is None:
            raise UnprovableError("no step of a model, its loss and one optimizer was seen")
        model = Replayed(list(self._roots.values()))
        restore = keep_random_state()
        with borrowed(model, self.optimizer), torch.inference_mode(False), torch.enable_grad():
            self.start.put()
            try:
                self._compare(model)
            except UnprovableError:
                raise
            except Exception as fault:  # the user's code, repeated
                raise UnprovableError(
                    f"a step cannot be repeated: {type(fault).__name__}: {fault}"
                ) from fault
            finally:
                restore()
        return model

    def _compare(self, model: Replayed) -> None:
        step = self.steps[0]
        for tape in step.tapes:
            torch.set_rng_state(tape.random)
            loss = model(Step([tape])).loss
            if not abs(loss.item() - tape.value) <= TOLERANCE * max(abs(tape.value), TOLERANCE):
                raise UnprovableError(
                    f"a step, repeated, gives the loss {loss.item():.4g} instead of {tape.value:.4g}"
                )
            loss.backward()
        held = {id(p): p for group in self._groups() for p in group["params"]}
        if self._trained - {key for key, parameter in held.items() if parameter.grad is not None}:
            raise UnprovableError("a step, repeated, does not reach all parameters that it reached")

    def _groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups if self.optimizer is not None else []

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a call by the user's own code: it is one entry of the tape, whatever happens inside."""
        if self._done or not self._session.active:
            return
        self._pop()
        tape = self._recorder.tape
        if tape is None:
            if not torch.is_grad_enabled() or next(module.parameters(), None) is None:
                return
            if torch.is_autocast_enabled() or torch.is_autocast_enabled("cpu"):
                self._give_up("training in mixed precision is not repeated")
                return
            if self._is_known(args, kwargs):
                self._end()
                return
            tape = self._recorder.tape = Tape()
        self._roots.setdefault(id(module), module)
        self._open = (module, tape.begin(module, args, kwargs))

    def _leave(self, module: nn.Module, args: object, kwargs: object, output: Any) -> None:  # noqa: ARG002
        tape = self._recorder.tape
        if self._done or tape is None:
            return
        if self._open is not None and self._open[0] is module:
            tape.end(self._open[1], output)
        self._open = None
        self._push()

    def _close(self, losses: tuple[torch.Tensor, ...]) -> None:
        """Before a backward."""
        tape, self._recorder.tape = self._recorder.tape, None
        self._pop()
        if self._done or tape is None:
            return
        if len(losses) != 1 or losses[0].numel() != 1:
            tape.fault = "a backward of several losses at once is not repeated"
        else:
            tape.close(losses[0])
        self._bytes += tape.bytes
        self._tapes.append(tape)
        if tape.fault:
            self._give_up(tape.fault)

    def _begin_update(self, record: OptimizerRecord, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        if self._done:
            return
        self._pop()
        if self.optimizer is None:
            self.optimizer = optimizer
            self.start = Start(list(self._roots.values()), optimizer)
        if optimizer is not self.optimizer:
            self._give_up("several optimizers step in turn")
        elif not self.steps and self._tapes:
            self._trained = {id(p) for g in optimizer.param_groups for p in g["params"] if p.grad is not None}

    def _end_step(self, *_: object) -> None:
        if self._done:
            self._pop()
            return
        if self._tapes:
            self.steps.append(Step(self._tapes))
        self._tapes = []
        if len(self.steps) >= MOST_STEPS or self._bytes > MOST_BYTES:
            self._end()

    def _is_known(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether most of a batch are samples of earlier steps: another epoch has begun."""
        first = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor)), None)
        if first is None or self._tapes or first.ndim < 2 or not len(first):
            return False
        rows = first.detach()[:ROWS].flatten(1)
        rows = rows[:, :: max(1, rows.shape[1] // VALUES)]
        told = {tuple(row) for row in rows.tolist()}
        known = len(told & self._seen) > len(told) / 2
        self._seen |= told
        return known

    def _give_up(self, why: str) -> None:
        self.fault = self.fault or why
        self.steps.clear()
        self._end()

    def _end(self) -> None:
        self._done = True
        self._session.held = False
        self._recorder.tape = None
        self._tapes = []
        self._pop()

    def _push(self) -> None:
        if not self._pushed:
            self._recorder.__enter__()
            self._pushed = True

    def _pop(self) -> None:
        """Take the recorder off, unless it is at work just now or another mode has come on top of it."""
        if self._pushed and not self._recorder.inside and _get_current_function_mode() is self._recorder:
            _pop_mode()
            self._pushed = False


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
