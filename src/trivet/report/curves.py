"""Charts of a run's history: what was lost, what was gained, and the learning rate."""

import math
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from trivet.report.contents import History
from trivet.report.naming import plain_label
from trivet.report.palette import ACCENT, INK, series_colour
from trivet.report.svg import draw_svg, put_legend

LOSSES = ("loss", "class", "box")  # and whatever else validation measures too
METRIC_NAMES = {
    "val_map": "mAP",
    "val_map50": "mAP50",
    "val_miou": "mIoU",
    "val_pixel_accuracy": "pixel accuracy",
    "val_top1": "top-1",
}


def loss_chart(history: History, *, key: str = "loss") -> str:
    """Draw every train loss of the history as means an epoch, and dashed the validation loss where there is one."""
    curves = {name: _points(history, name) for name in _loss_names(history)}
    last = ", ".join(f"{name} {points[-1][1]:.3g}" for name, points in curves.items() if points)

    def paint(axes: Axes) -> None:
        for i, (name, points) in enumerate(curves.items()):
            label = plain_label(name.replace("val_", "validation "))
            if name == "val_loss":
                _curve(axes, points, label=label, color=INK, linestyle="--")
            else:
                _curve(
                    axes,
                    points,
                    label=label,
                    color=series_colour(i),
                    linewidth=2.4 if name == "loss" else 1.4,
                )
        _loss_axis(axes, [value for points in curves.values() for _, value in points])
        _epoch_axis(axes, history)
        put_legend(axes)

    return draw_svg(paint, key=key, title="Losses in training", description=f"Last values: {last or 'none'}.")


def metric_chart(history: History, *, key: str = "metric") -> str:
    """Draw the validation figures over the epochs and mark the best of the first one."""
    curves = {name: _points(history, name) for name in METRIC_NAMES if _points(history, name)}
    best = max(next(iter(curves.values()), []), key=lambda point: point[1], default=None)

    def paint(axes: Axes) -> None:
        for i, (name, points) in enumerate(curves.items()):
            _curve(axes, points, label=METRIC_NAMES[name], color=series_colour(i))
        if best is not None:
            axes.plot(*best, "o", markersize=9, fillstyle="none", color=ACCENT, label="best")
        axes.set_ylim(0, 1)
        axes.set_ylabel("validation score")
        _epoch_axis(axes, history)
        put_legend(axes)

    told = "Not measured." if best is None else f"Best {best[1]:.3f}, in epoch {best[0]:g}."
    return draw_svg(paint, key=key, title="Scores on the validation split", description=told)


def rate_chart(history: History, *, key: str = "rate") -> str:
    """Draw the learning rate over the optimizer steps."""
    points = [
        (float(row["step"]), float(row["lr"])) for row in history if "lr" in row and math.isfinite(row["lr"])
    ]

    def paint(axes: Axes) -> None:
        _curve(axes, _thinned(points), color=ACCENT)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("learning rate")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(_whole_numbers())
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))

    top = max((rate for _, rate in points), default=0.0)
    return draw_svg(
        paint, key=key, title="Learning rate", description=f"Highest {top:.3g}.", size_hw=(200, 400)
    )


def _loss_names(history: History) -> list[str]:
    """Return the history's losses: "loss", the whole, first, then its parts, then the validation's whole."""
    names = {name for row in history for name in row}
    parts = {name for name in names if name in LOSSES or f"val_{name}" in names}
    return sorted(parts, key=lambda name: (name != "loss", name)) + sorted(names & {"val_loss"})


def _points(history: History, name: str) -> list[tuple[float, float]]:
    """Return (epoch, mean of `name` over its rows); with one epoch alone (step, value), thinned."""
    rows = [row for row in history if name in row and math.isfinite(row[name])]
    if not _by_epoch(history):
        return _thinned([(float(row["step"]), float(row[name])) for row in rows])
    epochs: dict[float, list[float]] = {}
    for row in rows:
        epochs.setdefault(float(row["epoch"]), []).append(float(row[name]))
    return [(epoch, sum(values) / len(values)) for epoch, values in sorted(epochs.items())]


def _thinned(points: list[tuple[float, float]], most: int = 300) -> list[tuple[float, float]]:
    """Return means of neighbours where there are more points than a chart can show."""
    group = math.ceil(len(points) / most) or 1
    blocks = [points[i : i + group] for i in range(0, len(points), group)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in blocks]


def _by_epoch(history: History) -> bool:
    return len({row["epoch"] for row in history if "epoch" in row}) > 1


def _curve(axes: Axes, points: list[tuple[float, float]], **style: Any) -> None:
    """Draw a line, with markers where it has so few points that a line alone would not be seen."""
    if points:
        axes.plot(*zip(*points, strict=True), marker="o" if len(points) <= 12 else "", **style)


def _loss_axis(axes: Axes, values: list[float]) -> None:
    """Let the losses start at 0, or be logarithmic where their first values would flatten the rest."""
    axes.set_ylabel("loss")
    if values and min(values) > 0 and max(values) > 20 * median(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=min(0.0, *values, 0.0))


def _epoch_axis(axes: Axes, history: History) -> None:
    axes.set_xlabel("epoch" if _by_epoch(history) else "step")
    axes.xaxis.set_major_locator(_whole_numbers())
    if not axes.lines:
        axes.text(0.5, 0.5, "nothing was measured", ha="center", va="center", transform=axes.transAxes)


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(integer=True, nbins=8, min_n_ticks=1)
