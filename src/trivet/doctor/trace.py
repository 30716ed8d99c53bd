"""The trace of a training: plain numbers and strings that the probe records and the checks read.

A trace can be written to JSON, sent, and diagnosed elsewhere, without the script, its data or its weights.
To add a signal: a field with a default here, the line that fills it in `probe/`, and the check that reads it.
"""

import json
import math
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from trivet.doctor.signals import KeptGraphTrace, LayerTrace, OrderTrace, RandomTrace, ReluTrace, RiskTrace
from trivet.doctor.source import Place
from trivet.doctor.trace_data import DataTrace
from trivet.doctor.trace_model import BatchNormTrace, ModelTrace, ParameterTrace

VERSION = 1
T = TypeVar("T")


@dataclass
class OptimizerTrace:
    """An optimizer, and the loop around it.

    Args:
        tensors: Count of tensors it holds.
        steps: How often it stepped.
        stale, judged: Steps for which the gradients of the step before were still there when the next backward
            began, of those where this was looked at.
        whole_windows: Windows between two steps in which all backward passes were looked at.
        windows, cancelled: Windows between two steps with several backward passes; of these the ones in which
            gradients were cleared between the passes.
        steps_foreign: Recorded steps at which it held tensors that their model had given up.
        emptied: Recorded steps before which gradients that a backward had made were cleared again.
        empty_steps: Steps at which no tensor had a gradient.
        rate_first, rate_max, rate_last: Learning rate of the first group.
        steps_starved: Steps, after the highest rate, at less than a hundredth of it.
        skipped: Steps that a gradient scaler left out.
        rate_place: Where the user's code changes the learning rate by hand.
    """

    kind: str
    place: Place | None = None
    name: str = ""
    tensors: int = 0
    steps: int = 0
    step_place: Place | None = None
    clear_place: Place | None = None
    stale: int = 0
    judged: int = 0
    whole_windows: int = 0
    windows: int = 0
    cancelled: int = 0
    emptied: int = 0
    steps_foreign: int = 0
    empty_steps: int = 0
    weight_decay: float = 0.0
    rate_first: float = 0.0
    rate_max: float = 0.0
    rate_last: float = 0.0
    steps_starved: int = 0
    skipped: int = 0
    rate_place: Place | None = None


@dataclass
class StepTrace:
    """A recorded step: index over all optimizers, which one, learning rate, norms before the update.

    Args:
        update_ratio: Median over weights (not biases) of the norm of the update over that of the weight.
    """

    step: int
    optimizer: int
    rate: float
    gradient_norm: float | None = None
    weight_norm: float | None = None
    finite: bool = True
    update_ratio: float | None = None


@dataclass
class LossTrace:
    """A loss function called at a line of the user's code; the facts are of calls that were looked at.

    Args:
        function: Name in `torch.nn.functional`.
        trained: Calls whose input requires a gradient.
        examined: Calls that were looked into.
        probabilities: Calls whose input lies on the simplex over the classes.
        squashed: Calls whose input lies within 0-1 everywhere.
        spread: Calls that broadcast both sides into a larger tensor.
        all_ignored: Calls all of whose targets are the ignored value.
        outside: Calls with targets outside what the loss accepts.
        overfull: Calls with targets a class whose shares add up to more than 1, and the largest sum.
        produced_by: The operation that made the input, and its line in the user's code.
    """

    function: str
    place: Place | None
    calls: int = 0
    trained: int = 0
    examined: int = 0
    input_shape: list[int] = field(default_factory=list)
    target_shape: list[int] = field(default_factory=list)
    input_dtype: str = ""
    target_dtype: str = ""
    classes: int | None = None
    ignore_index: int | None = None
    input_min: float = math.inf
    input_max: float = -math.inf
    target_min: float = math.inf
    target_max: float = -math.inf
    probabilities: int = 0
    squashed: int = 0
    spread: int = 0
    all_ignored: int = 0
    outside: int = 0
    overfull: int = 0
    largest_sum: float = 0.0
    produced_by: str = ""
    produced_at: Place | None = None


@dataclass
class InputTrace:
    """What the first layer with weights of a model was given: kind of the layer, and the range of its input.

    Args:
        inner_std, inner_range: Of pictures: root mean square of the deviations within channels, widest range of one.
        scaled_at: Where the user's code computes what it calls the model with, between the loader and the call.
    """

    model: str
    layer: str
    kind: str
    place: Place | None
    shape: list[int]
    batches: int
    mean: float
    std: float
    low: float
    high: float
    normalised_next: bool = False
    inner_std: float = 0.0
    inner_range: float = 0.0
    scaled_at: Place | None = None


@dataclass
class SchedulerTrace:
    """A learning-rate scheduler: how often the script stepped it, and whether another one steps it.

    Args:
        period: Its length in its own steps, where it has one.
        mode, metrics: Of one that follows a number: whether it is to fall ("min") or to rise ("max"), and the numbers.
        idle: How often it was stepped although its optimizer had not stepped since, while training went on.
        seen_steps: Steps of its optimizer when it was stepped last.
    """

    kind: str
    place: Place | None
    optimizer: int | None
    steps: int = 0
    step_place: Place | None = None
    inside_another: bool = False
    idle: int = 0
    seen_steps: int = 0
    period: int | None = None
    mode: str = ""
    metrics: list[float] = field(default_factory=list)


@dataclass
class LoadTrace:
    """A call of `load_state_dict` before training: keys given, found in the model, and really brought from outside.

    Args:
        weights: Parameters of two or more dimensions that were loaded.
        refilled: How many of them a function of `torch.nn.init` has filled afterwards, before the training.
        refilled_at: The line that did so.
    """

    model: str
    place: Place | None
    strict: bool
    given: int
    matched: int
    own: int
    wanted: int
    example_given: str = ""
    example_wanted: str = ""
    weights: int = 0
    refilled: int = 0
    refilled_at: Place | None = None


@dataclass
class ScalerTrace:
    """Gradient clipping while a scaler is in use: calls on scaled gradients, of all calls."""

    clips: int = 0
    clips_scaled: int = 0
    place: Place | None = None
    scale: float = 0.0


@dataclass
class ConstantTermTrace:
    """A term that was added to a loss, though it has lost its graph: where it lost it, where it is added.

    Args:
        steps: Backward passes in which it was seen.
        share: The largest share that it had of the loss.
    """

    place: Place | None
    added_at: Place | None
    steps: int = 0
    share: float = 0.0


@dataclass
class BackwardTrace:
    """The backward passes: how many, from where, how many parameters and saturating nodes the walked graphs reached.

    Args:
        foreign_leaves: Walked graphs with a leaf that is no parameter, as the input of an adversarial attack.
        sizes: Step and count of nodes of the walked graphs.
        leaves: How many leaves each of these graphs has.
        stale, stale_step: Operations of earlier steps in the graph last walked, and the step of that walk.
        stale_place: The line that made what is carried over from an earlier step.
        overtaken: Where an optimizer has moved weights of the graph last walked after its loss was made.
    """

    calls: int = 0
    place: Place | None = None
    walked: int = 0
    reached_parameters: int = 0
    nodes: int = 0
    squashing: int = 0
    foreign_leaves: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    stale: int = 0
    stale_step: int = 0
    stale_place: Place | None = None
    overtaken: Place | None = None
    not_finite: int = 0
    first_not_finite: int | None = None
    weights_finite_then: bool = True
    loss_operations: list[str] = field(default_factory=list)
    cuts: dict[str, Place] = field(default_factory=dict)
    constant_terms: list[ConstantTermTrace] = field(default_factory=list)
    kept: KeptGraphTrace = field(default_factory=KeptGraphTrace)
    risks: list[RiskTrace] = field(default_factory=list)
    broken_module: str = ""
    broken_at: Place | None = None


@dataclass
class FailureTrace:
    """A layer of torch whose forward raised: its text, shapes and types of what it was given, where it is made."""

    layer: str
    given: str = ""
    place: Place | None = None


@dataclass
class ExceptionTrace:
    """What ended the script: type, message, the user's lines (innermost first) and what is known besides.

    Args:
        forward: The user's lines of the forward operation whose backward failed.
        failed: The innermost layer of torch that raised it.
        in_place: Lines of the user's code that change a tensor in place, those on the failing path first.
    """

    kind: str
    message: str
    places: list[Place] = field(default_factory=list)
    forward: list[Place] = field(default_factory=list)
    in_place: list[Place] = field(default_factory=list)
    failed: FailureTrace | None = None


@dataclass
class Cost:
    """The probe's own time, and its share of the time between the first and the last step."""

    seconds: float = 0.0
    share: float = 0.0
    watched_seconds: float = 0.0


@dataclass
class Trace:
    """All that was recorded of a training; `faults` are those of the probe itself."""

    version: int = VERSION
    script: str = ""
    steps: int = 0
    epochs: int = 0
    ended: str = "whole"
    torch: str = ""
    compiled: bool = False
    parameters: list[ParameterTrace] = field(default_factory=list)
    models: list[ModelTrace] = field(default_factory=list)
    batch_norms: list[BatchNormTrace] = field(default_factory=list)
    optimizers: list[OptimizerTrace] = field(default_factory=list)
    recorded: list[StepTrace] = field(default_factory=list)
    loss_curve: list[tuple[int, float]] = field(default_factory=list)
    backward: BackwardTrace = field(default_factory=BackwardTrace)
    losses: list[LossTrace] = field(default_factory=list)
    inputs: list[InputTrace] = field(default_factory=list)
    schedulers: list[SchedulerTrace] = field(default_factory=list)
    loads: list[LoadTrace] = field(default_factory=list)
    scaler: ScalerTrace = field(default_factory=ScalerTrace)
    relus: list[ReluTrace] = field(default_factory=list)
    layers: list[LayerTrace] = field(default_factory=list)
    random: list[RandomTrace] = field(default_factory=list)
    orders: list[OrderTrace] = field(default_factory=list)
    data: DataTrace = field(default_factory=DataTrace)
    exception: ExceptionTrace | None = None
    poisoned: bool = False
    state_freeze: Place | None = None
    faults: list[str] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)

    def write(self, path: str | Path) -> None:
        """Write the trace as JSON."""
        Path(path).write_text(json.dumps(_plain(asdict(self)), indent=1), encoding="utf-8")


def read_trace(path: str | Path) -> Trace:
    """Read a trace that `Trace.write` wrote.

    Raises:
        ValueError: If the file is not such a trace, or of another version; the message says where.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise ValueError(f"{path}: cannot be read as a trace: {fault}") from fault
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise ValueError(f"{path}: not a trace of version {VERSION}")
    try:
        return _typed(Trace, values, "trace")
    except RecursionError as fault:
        raise ValueError(f"{path}: not a trace: nested too deeply") from fault


def _plain(value: Any) -> Any:
    """Replace numbers that JSON has no form for by their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Build a value of an annotated type from JSON, refusing whatever does not fit."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in parts:
            return None
        return _typed(next(part for part in parts if part is not type(None)), value, where)
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: an object is wanted, not {value!r:.40}")
        hints = typing.get_type_hints(kind)
        unknown = value.keys() - {item.name for item in fields(kind)}
        if unknown:
            raise ValueError(f"{where}: unknown key {min(unknown)!r}")
        try:
            return kind(  # type: ignore[operator]
                **{key: _typed(hints[key], item, f"{where}.{key}") for key, item in value.items()}
            )
        except TypeError as fault:
            raise ValueError(f"{where}: {fault}") from fault
    if origin is dict and isinstance(value, dict):
        return {str(key): _typed(parts[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [_typed(parts[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return tuple(_typed(part, item, where) for part, item in zip(parts, value, strict=True))
    if kind is float and (isinstance(value, (int, float)) or value in ("nan", "inf", "-inf")):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise ValueError(f"{where}: {getattr(kind, '__name__', kind)} is wanted, not {value!r:.40}")
