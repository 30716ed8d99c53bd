"""The picture of a memory plan: what is alive along the step, stacked by what it is for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from trivet.memory import ledger as kinds
from trivet.memory.plan import GIB, MIB, MemoryPlan

COLOURS = {
    kinds.WEIGHTS: "#0072b2",
    kinds.AVERAGE: "#56b4e9",
    kinds.OPTIMIZER: "#7a5195",
    kinds.GRADIENTS: "#009e73",
    kinds.INPUT: "#b8a000",
    kinds.COPIES: "#9ccfe7",
    kinds.SAVED: "#e69f00",
    kinds.FORWARD: "#f3d08a",
    kinds.LOSS: "#cc79a7",
    kinds.BACKWARD: "#d55e00",
    kinds.UPDATE: "#8c8c8c",
}
PHASE_NAMES = {"forward": "forward", "loss": "loss", "backward": "backward", "optimizer": "optimizer"}
WIDTHS = {"forward": 3.0, "loss": 1.5, "backward": 4.0, "optimizer": 1.5}
"""How wide the phases are beside each other, however many allocations each makes."""
_NARROW = 0.06  # share of the width below which a phase's name would not fit


def draw_memory(plan: MemoryPlan, batch: int, path: Path, *, title: str, memory: int | None = None) -> None:
    """Write the picture of a plan as SVG, PNG or PDF, by the file's ending.

    Args:
        plan: The plan.
        batch: Images in a batch.
        path: The file.
        title: What stands above it.
        memory: Bytes there are: a line.
    """
    lines = {kind: line.numpy() for kind, line in plan.curve.by_kind(batch).items()}
    shown = {kind: line for kind, line in lines.items() if line.max() >= 0.002 * plan.alive(batch)}
    unit, name = (GIB, "GiB") if plan.total(batch) >= GIB else (MIB, "MiB")
    base = np.full_like(next(iter(lines.values())), float(plan.context))
    figure = Figure(figsize=(9.6, 5.2), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    time = _spread(plan.curve.ledger.phases, len(base))
    axes.stackplot(
        time,
        base / unit,
        *(line / unit for line in shown.values()),
        colors=["#d9dde2", *(COLOURS[kind] for kind in shown)],
        labels=["context" if plan.device == "cuda" else "program", *shown],
        step="post",
        linewidth=0,
    )
    top = max(plan.with_margin(batch), memory or 0) / unit
    axes.axhline(plan.total(batch) / unit, color="#0b0c0d", linewidth=1.1, linestyle="--")
    told = f"process {plan.total(batch) / unit:.2f} {name} with what the allocator keeps"
    axes.annotate(told, (0.01, plan.total(batch) / unit), xycoords=("axes fraction", "data"),
                  xytext=(0, 3), textcoords="offset points", fontsize=9.5, color="#0b0c0d")  # fmt: skip
    if memory is not None:
        axes.axhline(memory / unit, color="#c1121f", linewidth=1.4)
        axes.annotate(f"{memory / unit:.1f} {name} there are", (0.99, memory / unit),
                      xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
                      ha="right", fontsize=9.5, color="#c1121f",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})  # fmt: skip
    _mark_phases(axes, plan, time)
    axes.set(xlim=(0, 1), ylim=(0, top * 1.12), ylabel=name)
    axes.set_title(title, loc="left", fontsize=12)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xticks([])
    axes.set_xlabel("allocations and releases of one training step, in order", labelpad=18)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=9.5)
    figure.savefig(path, dpi=130, facecolor="white")


def _spread(phases: Sequence[tuple[int, str]], length: int) -> np.ndarray:
    """Return where each moment lies in 0-1: even steps within a phase, and the phases as wide as `WIDTHS` says."""
    begins = [0, *(begin for begin, _ in phases[1:])]
    ends = [*begins[1:], max(length - 1, 1)]
    widths = [
        WIDTHS[name] if end > begin else 0.0
        for (_, name), begin, end in zip(phases, begins, ends, strict=True)
    ]
    places = np.concatenate([[0.0], np.cumsum(widths)]) / max(sum(widths), 1e-9)
    return np.interp(np.arange(length), [*begins, ends[-1]], places)


def _mark_phases(axes: Axes, plan: MemoryPlan, time: np.ndarray) -> None:
    """Write below the axis where each phase begins, as far as there is room."""
    phases = plan.curve.ledger.phases
    last = -1.0
    for number, (begin, name) in enumerate(phases):
        end = phases[number + 1][0] if number + 1 < len(phases) else len(time) - 1
        left, right = (float(time[min(at, len(time) - 1)]) for at in (begin, end))
        axes.axvline(left, color="#0b0c0d", linewidth=0.5, alpha=0.5)
        middle = (left + right) / 2
        if right - left >= _NARROW / 2 and middle - last >= _NARROW:
            axes.annotate(PHASE_NAMES[name], (middle, 0), xycoords="axes fraction", xytext=(0, -14),
                          textcoords="offset points", ha="center", fontsize=9.5)  # fmt: skip
            last = middle
