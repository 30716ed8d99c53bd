"""Models side by side: one table, and one picture of what accuracy costs."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from rich.table import Table

from trivet.errors import UsageError
from trivet.report.naming import plain_label
from trivet.report.palette import ACCENT, INK, series_colour
from trivet.report.svg import SETTINGS
from trivet.structures import TaskName

ACCURACY: dict[TaskName, str] = {"detection": "AP", "segmentation": "mIoU", "classification": "top-1"}

MOST_TICKS = 6


@dataclass(frozen=True)
class ComparedModel:
    """What is known of one model; `None` is what was not measured or published.

    Args:
        name: A published model, or a run folder.
        task: What it is for.
        size_hw: Its input, pixels.
        parameters: Count.
        macs: Multiply-adds of one image.
        memory: Planned bytes of training on a GPU, context and allocator included.
        step_seconds: Measured seconds of one training step on this machine.
        image_seconds: Measured seconds of one image through the network on this machine.
        published: COCO AP or ImageNet top-1, per cent, as its authors say.
        own: The same of a run, on its own data, per cent.
        why_not: Why something was not measured.
    """

    name: str
    task: TaskName
    size_hw: tuple[int, int]
    parameters: int
    macs: int
    memory: int | None = None
    step_seconds: float | None = None
    image_seconds: float | None = None
    published: float | None = None
    own: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Comparison:
    """Models side by side.

    Args:
        models: In the order they were asked for.
        batch: Images of a step, for memory and time.
        precision: Of the planned memory, as recipes name it.
        threads: With which was measured.
    """

    models: tuple[ComparedModel, ...]
    batch: int
    precision: str
    threads: int

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def comparison_table(found: Comparison) -> Table:
    """Return the table for a terminal."""
    measures = {ACCURACY[model.task] for model in found.models}
    accuracy = measures.pop() if len(measures) == 1 else "accuracy"
    table = Table(
        caption=f"memory: planned, one GPU, a training step of {found.batch}, precision {found.precision}; "
        f"step of {found.batch} and image: measured here on the CPU, {found.threads} threads; 1 MAC = 2 FLOPs",
        caption_justify="left",
    )
    table.add_column("model", no_wrap=True)
    for head in (
        "size",
        "parameters",
        "GMACs",
        "GPU memory",
        "step",
        "image",
        f"published {accuracy}",
        f"own {accuracy}",
    ):
        table.add_column(head, justify="right")
    for model, name in zip(found.models, _short_names(found.models), strict=True):
        height, width = model.size_hw
        table.add_row(
            name,
            str(height) if height == width else f"{height}x{width}",
            f"{model.parameters / 1e6:.2f} M",
            f"{model.macs / 1e9:.2f}",
            "-" if model.memory is None else f"{model.memory / 2**30:.2f} GiB",
            _time(model.step_seconds),
            _time(model.image_seconds),
            "-" if model.published is None else f"{model.published:.1f}",
            "-" if model.own is None else f"{model.own:.1f}",
        )
    return table


def _short_names(models: Sequence[ComparedModel]) -> list[str]:
    """Return the models' names, of run folders without the way to them where that is enough to tell them apart."""
    last = [Path(model.name).name or model.name for model in models]
    return [name if last.count(name) == 1 else model.name for name, model in zip(last, models, strict=True)]


def draw_comparison(found: Comparison, path: Path) -> None:
    """Draw accuracy against time and against memory, with a line through the published figures.

    Args:
        found: The models; those without an accuracy are left out.
        path: A `.png` or `.svg` file.

    Raises:
        UsageError: If the file cannot be written, or no model has both an accuracy and a cost.
    """
    check_picture(path)
    panels = (
        ("image_seconds", 1e3, f"time of an image on this CPU, {found.threads} threads (ms)"),
        ("memory", 2**-30, f"planned GPU memory of training, batch {found.batch} (GiB)"),
    )
    drawn = [[_point(model, cost, factor) for model in found.models] for cost, factor, _ in panels]
    if not any(point is not None for points in drawn for point in points):
        raise UsageError(
            "there is nothing to draw: no model has both an accuracy and a measured cost",
            "compare models that were published with an AP, or run folders",
        )
    names = _short([model.name for model in found.models])
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(11, 4.4), dpi=110, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        for axes, points, (_, _, label) in zip(figure.subplots(1, 2), drawn, panels, strict=True):
            _paint(axes, names, points, label)
        try:
            figure.savefig(path)
        except OSError as fault:
            raise UsageError(
                f"cannot write {path}: {fault.strerror}", "give --picture another path"
            ) from fault


def check_picture(path: Path) -> None:
    """Refuse a file that is no picture, before anything is measured for it.

    Raises:
        UsageError: If its name has another ending, or its folder is not there.
    """
    if path.suffix.lower() not in (".png", ".svg") or not path.parent.is_dir():
        raise UsageError(
            f"a picture is a .png or .svg file in a folder that is there, got {path}", "compare.png"
        )


Point: TypeAlias = tuple[float, float, bool]


def _point(model: ComparedModel, cost: str, factor: float) -> Point | None:
    value, own = getattr(model, cost), model.own is not None
    accuracy = model.own if own else model.published
    return None if value is None or accuracy is None else (value * factor, accuracy, own)


def _paint(axes: Axes, names: Sequence[str], points: Sequence[Point | None], label: str) -> None:
    there = [(name, point) for name, point in zip(names, points, strict=True) if point is not None]
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy (%)")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    published = sorted((x, y) for _, (x, y, own) in there if not own)
    if published:
        axes.plot(*zip(*published, strict=True), color=ACCENT, linewidth=1.2)
    for own, colour, word in ((False, ACCENT, "published"), (True, series_colour(1), "own, on own data")):
        mine = [(x, y) for _, (x, y, which) in there if which == own]
        if mine:
            axes.plot(*zip(*mine, strict=True), "o", color=colour, markersize=6, label=word)
    for name, (x, y, _) in there:
        axes.annotate(
            plain_label(name), (x, y), xytext=(6, -12), textcoords="offset points", color=INK, fontsize=10
        )
    if any(own for _, (_, _, own) in there):
        axes.legend(loc="lower right")
    if there:
        axes.margins(y=0.12)  # room for the lowest name below its point
        costs = [x for _, (x, _, _) in there]
        axes.set_xlim(min(costs) / 1.25, max(costs) * 1.6)
        axes.set_xticks(_round_numbers(min(costs) / 1.25, max(costs) * 1.6))


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten in a range; 1 and 3 times where those would be too many to read."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for heads in ((1, 2, 5), (1, 3)):
        numbers = [head * 10.0**power for power in powers for head in heads]
        inside = [number for number in numbers if low <= number <= high]
        if len(inside) <= MOST_TICKS:
            break
    return inside


def _short(names: Sequence[str]) -> list[str]:
    """Return names without the word they all begin with: `d0` of `efficientdet_d0`."""
    words = {name.rsplit("_", 1)[0] for name in names}
    if len(names) > 1 and len(words) == 1 and all("_" in name for name in names):
        return [name.rsplit("_", 1)[1] for name in names]
    return [Path(name).name for name in names]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
