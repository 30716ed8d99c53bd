"""What checks share: the reason a check could not be made, and names of groups of parameters."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from statistics import median

from trivet.doctor.finding import Finding, Where
from trivet.doctor.source import Place
from trivet.doctor.trace import Trace
from trivet.doctor.trace_model import ParameterTrace

Check = Callable[[Trace], Iterable[Finding]]
NARROW = 0.1
"""Growth of a signal by a weight below which it all but ends there; usual initialisations make 0.58 to 1.41."""


class NotCheckedError(Exception):
    """Raised by a check that lacks what it needs; its message is the reason."""


def where(place: Place | None, name: str | None = None) -> Where:
    """Return a finding's place."""
    return Where(place.file if place else None, place.line if place else None, name)


def need_steps(trace: Trace, steps: int) -> None:
    """Refuse to judge a trace of fewer optimizer steps."""
    if trace.steps < steps:
        raise NotCheckedError(f"{trace.steps} optimizer steps were seen, {steps} are needed")


def parts_of(parameters: Sequence[ParameterTrace], among: Sequence[ParameterTrace]) -> list[str]:
    """Return the shortest module paths that hold just these parameters: `model.decoder`, not its forty weights."""
    wanted = {p.name for p in parameters}
    others = [p.name for p in among if p.name not in wanted]
    found: list[str] = []
    for name in sorted(wanted):
        words = name.split(".")
        for length in range(1, len(words) + 1):
            part = ".".join(words[:length])
            if length == len(words) or not any(other.startswith(f"{part}.") for other in others):
                if part not in found:
                    found.append(part)
                break
    return found


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names as a phrase: `a`, `b` and 3 more."""
    shown = [f"`{name}`" for name in names[:most]]
    rest = len(names) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def count_text(count: int) -> str:
    """Return a count of parameters for people: 117.6 M."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def falls(trace: Trace, by: float = 0.02) -> bool:
    """Whether the loss ended lower than it began: by a share, and by more than its noise from step to step explains.

    The medians of a fifth at either end are compared; the noise is the median change between neighbours.
    """
    values = [value for _, value in trace.loss_curve]
    if len(values) < 5:
        return True
    part = max(1, len(values) // 5)
    fall = median(values[:part]) - median(values[-part:])
    noise = median(abs(b - a) for a, b in pairwise(values)) / (0.6745 * 2**0.5)
    return fall > by * abs(median(values[:part])) and fall > 3 * noise * (2 / part) ** 0.5


def knows_nothing(trace: Trace) -> bool:
    """Whether classes are answered no better, late in training, than by always giving the share of each."""
    told = [item for item in trace.data.classes if item.late_calls >= 5 and item.late_constant > 0.05]
    return bool(told) and all(is_no_better(item.late_loss, item.late_constant) for item in told)


def is_no_better(loss: float, constant: float) -> bool:
    """Whether a loss is at least 0.97 of what the best constant answer would make: nothing was learnt of the input."""
    return loss >= 0.97 * constant


def gain_of(p: ParameterTrace) -> float:
    """By how much a weight makes a signal larger: its deviation against what keeps the size of a sum of its inputs."""
    if len(p.shape) < 2 or not p.weight_norms or p.owner == "Embedding":
        return 0.0
    inputs = (
        p.count / max(1, p.shape[0]) if p.model else p.count / min(p.shape)
    )  # either way round, of a bare tensor
    return p.weight_norms[0] / max(1, p.count) ** 0.5 * inputs**0.5


def part_made_at(trace: Trace, *parts: str) -> Place | None:
    """Where the user's code makes a part of the samples of training; the first of several parts that is known."""
    for part in parts:
        places = {loader.parts[part] for loader in trace.data.loaders if part in loader.parts}
        if len(places) == 1:
            return places.pop()
        if part in trace.data.keyed and not places:
            return trace.data.keyed[part]
    return None


def fed_at(trace: Trace, model: str) -> Place | None:
    """Where the user's code makes what a model is given, when no loader feeds the training."""
    found = next((seen for seen in trace.models if seen.name == model), None)
    return found.fed_at if found is not None and not trace.data.loaders else None


def samples_made_at(trace: Trace) -> Place | None:
    """Where the user's code makes the samples of training, when one loader feeds it."""
    places = {loader.sample_place for loader in trace.data.loaders}
    return places.pop() if len(places) == 1 else None
