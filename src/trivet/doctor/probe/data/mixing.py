"""Tries, on a copy of the model, whether the output of one sample depends on the others of its batch."""

import copy
import math
import random
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from trivet.doctor.probe.modules import BATCH_NORMS, ModuleWatch, unwrapped
from trivet.doctor.probe.session import Session, compiling
from trivet.doctor.source import Place, user_place
from trivet.doctor.trace_data import MixTrace

MOST_PARAMETERS = 50_000_000
MOST_OPERATIONS = 600
TRIED_AT = (1, 2, 3)
LEAST_BATCH = 4


@dataclass
class Operation:
    """An operation of the copy's forward whose result has one row a sample; the layer that runs it, if time is its first axis."""

    name: str
    place: Place | None
    result: torch.Tensor
    layer: nn.Module | None


class MixWatch:
    """Gives one batch of each trained model to a copy in eval mode, and asks the gradient who depends on whom."""

    def __init__(self, session: Session, modules: ModuleWatch) -> None:
        self.session = session
        self.modules = modules
        self.tried: dict[int, tuple[weakref.ref[nn.Module], MixTrace]] = {}
        self._last: MixTrace | None = None

    def on_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Try a model once, in one of the first steps."""
        if not torch.is_grad_enabled() or compiling():
            return
        module = unwrapped(module)
        held = self.tried.get(id(module))
        if held is not None and held[0]() is module:
            self._last = held[1]
            return
        if self.session.steps not in TRIED_AT or len(self.tried) >= 4 or not _has_weights(module):
            return
        trace = MixTrace(type(module).__name__)
        self.tried[id(module)] = (weakref.ref(module), trace)
        self._last = trace
        reason = _unfit(module, args, kwargs, output) or ("it is compiled" if self.modules.compiled else "")
        if reason:
            trace.reason = reason
            return
        # Checkpointing counts what is saved while its part runs, which must not be ours. What is kept is detached: an
        # operation that saves its own result would keep itself alive.
        apart = torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, _same)
        with self.session.measured(), _undisturbed(self.session), apart:
            try:
                layer = _try(trace, module, args, kwargs)
                if layer is not None:  # which is told there what its first axis is
                    made = self.modules.place_of(module.get_submodule(layer))
                    trace.operation_place = made or trace.operation_place
            except Exception as fault:  # the user's forward may refuse anything
                trace.ran, trace.reason = False, f"{type(fault).__name__}: {str(fault)[:120]}"

    def on_loss(self, output: torch.Tensor, target: torch.Tensor) -> None:
        """Whether the loss takes one target a row of the batch."""
        if self._last is not None and output.requires_grad and target.ndim and not target.requires_grad:
            rows = self._last.batch
            self._last.per_sample = len(target) == rows and len(output) == rows and rows > 0
            self._last.one_value = self._last.per_sample and target.numel() == rows

    def traces(self, names: dict[int, str]) -> list[MixTrace]:
        """Return what was tried."""
        for key, (_, trace) in self.tried.items():
            trace.model = names.get(key, trace.model)
        return [trace for _, trace in self.tried.values()]


def _unfit(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> str:
    """Why a model cannot be tried, or nothing."""
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    if not tensors or len(tensors) != len([v for v in (*args, *kwargs.values()) if v is not None]):
        return "its arguments are not tensors"
    sizes = {len(value) if value.ndim else 0 for value in tensors}
    if len(sizes) != 1 or min(sizes) < LEAST_BATCH:
        return "its arguments have no common batch of 4 samples or more"
    if not isinstance(output, torch.Tensor) or not output.ndim or len(output) != min(sizes):
        return "its output has not one row a sample"
    if output.ndim > 1 and output.shape[1] == len(output):
        return "its output compares the samples of a batch"
    if sum(parameter.numel() for parameter in module.parameters()) > MOST_PARAMETERS:
        return "it is too large to copy"
    if sum(tensor.numel() for tensor in tensors) > 1 << 24:
        return "its batch is too large"
    if any(isinstance(part, BATCH_NORMS) and not part.track_running_stats for part in module.modules()):
        return "its batch norms use the statistics of the batch by design"
    return ""


def _has_weights(module: nn.Module) -> bool:
    return next((True for parameter in module.parameters() if parameter.requires_grad), False)


PLAIN_MIXERS = ("softmax", "softmin", "view", "reshape")
"""Operations that mix samples by a wrong axis more often than on purpose."""
SEQUENCE_OPERATIONS = ("lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward")
"""Operations that take the first of three axes for that of time, unless told `batch_first=True`."""


@contextmanager
def _undisturbed(session: Session) -> Iterator[None]:
    """Nothing is recorded meanwhile, and all random numbers go on as if nothing had happened."""
    numpy = sys.modules.get("numpy")
    state, drawn = random.getstate(), numpy.random.get_state() if numpy is not None else None
    anomaly = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    session.active = False
    torch.set_anomaly_enabled(False, True)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the script has heard it already
            yield
    finally:
        session.active = True
        torch.set_anomaly_enabled(*anomaly)
        random.setstate(state)
        if numpy is not None:
            numpy.random.set_state(drawn)


class _Recorder(TorchFunctionMode):
    """Keeps the results with one row a sample that carry a gradient."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.operations: list[Operation] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple) and result else result
        if (
            isinstance(first, torch.Tensor)
            and first.requires_grad
            and first.ndim
            and len(first) == self.batch
            and first.is_floating_point()
            and len(self.operations) < MOST_OPERATIONS
        ):
            name = getattr(func, "__name__", str(func))
            layer = _layer_of_sequences() if name in SEQUENCE_OPERATIONS else None
            self.operations.append(Operation(name, user_place(), first, layer))
        return result


def _try(trace: MixTrace, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Try a copy; returns the path of the layer that takes the samples for moments of time, if one does."""
    batch = len(next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)))
    trace.batch = batch
    twin = copy.deepcopy(module).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    entry: list[torch.Tensor] = []
    given = [_leaf(value, entry) for value in args]
    named = {key: _leaf(value, entry) for key, value in kwargs.items()}
    handles = []
    if not entry:
        handles = [
            part.register_forward_hook(lambda _, __, out: _enter(out, entry))
            for part in twin.modules()
            if isinstance(part, (nn.Embedding, nn.EmbeddingBag))
        ]
        if not handles:
            trace.reason = "its arguments carry no gradient"
            return None
    with torch.enable_grad(), _Recorder(batch) as recorder:
        output = twin(*given, **named)
    for handle in handles:
        handle.remove()
    if not entry or not output.requires_grad:
        trace.reason = "its output carries no gradient to its arguments"
        return None
    trace.leak = _leak(output, entry)
    if not math.isfinite(trace.leak):
        trace.reason = "its gradients are not finite"
        return None
    trace.ran = True
    if trace.leak > 1e-5:
        found = _first_mixing(recorder.operations, entry)
        if found is not None:
            trace.operation, trace.operation_place = found.name, found.place
            trace.over_sequence = found.name in SEQUENCE_OPERATIONS and found.result.shape[1:2] != (1,)
            trace.over_sequence = trace.over_sequence and found.result.ndim == 3
            layers = {id(part): path for path, part in twin.named_modules()}
            return layers.get(id(found.layer)) if trace.over_sequence else None
    return None


def _layer_of_sequences() -> nn.Module | None:
    """The outermost layer of torch around an operation whose first axis is time."""
    found, frame = None, sys._getframe(1)
    for _ in range(24):
        held = frame.f_locals.get("self")
        if isinstance(held, nn.Module) and getattr(held, "batch_first", None) is False:
            found = held
        if frame.f_back is None:
            break
        frame = frame.f_back
    return found


def _same(value: torch.Tensor) -> torch.Tensor:
    return value


def _leaf(value: Any, entry: list[torch.Tensor]) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().clone()
    if value.is_floating_point():
        entry.append(value.requires_grad_())
    return value


def _enter(output: Any, entry: list[torch.Tensor]) -> Any:
    if isinstance(output, torch.Tensor) and not entry:
        output = output.detach().requires_grad_()
        entry.append(output)
        return output
    return None


def _leak(output: torch.Tensor, entry: list[torch.Tensor]) -> float:
    """Gradient of one row of the output with respect to the other rows of the input, relative to all of it."""
    row = len(output) // 2
    weights = torch.linspace(0.5, 1.5, output[row].numel(), device=output.device).view(output[row].shape)
    gradients = torch.autograd.grad(
        (output[row] * weights).sum(), entry, retain_graph=True, allow_unused=True
    )
    own = other = 0.0
    for gradient in gradients:
        if gradient is None:
            continue
        sizes = gradient.flatten(1).float().abs().sum(1) if gradient.ndim > 1 else gradient.abs()
        own += float(sizes[row])
        other += float(sizes.sum() - sizes[row])
    return other / (own + other) if own + other else 0.0


def _first_mixing(operations: list[Operation], entry: list[torch.Tensor]) -> Operation | None:
    """Bisect for the first operation whose rows depend on other rows of the input."""
    if not operations:
        return None
    low, high = 0, len(operations) - 1
    while low < high:
        middle = (low + high) // 2
        if _leak(operations[middle].result, entry) > 1e-5:
            high = middle
        else:
            low = middle + 1
    for operation in operations[:low]:  # what takes no mixed input may follow one that mixes
        if any(word in operation.name for word in PLAIN_MIXERS) and _leak(operation.result, entry) > 1e-5:
            return operation
    return operations[low]
