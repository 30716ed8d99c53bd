"""Charts of scores and of data sets, for one class as for eighty."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from trivet.evaluate.scores import ErrorShare, PrCurves
from trivet.report.naming import plain_label
from trivet.report.palette import ACCENT, GRID, INK, series_colour
from trivet.report.svg import draw_svg, put_legend

MOST_NAMED = 7  # curves told apart by colour
MOST_CELLS = 14  # classes a confusion matrix shows one by one
MOST_BARS = 24


def pr_chart(curves: PrCurves, names: Sequence[str], *, key: str = "pr") -> str:
    """Draw precision against recall at IoU .5: each class, or with many the weakest, and their mean."""
    area = np.array([row.mean() for row in curves.precision])
    known = np.flatnonzero(np.isfinite(area))
    named = (
        known if len(known) <= MOST_NAMED else known[np.argsort(area[known], kind="stable")][: MOST_NAMED - 2]
    )

    def paint(axes: Axes) -> None:
        for i in np.setdiff1d(known, named):
            axes.plot(curves.recall, curves.precision[i], color=GRID, linewidth=0.7)
        for place, i in enumerate(named):
            colour = series_colour(int(i) if len(known) <= MOST_NAMED else place)
            axes.plot(curves.recall, curves.precision[i], color=colour, label=plain_label(names[i], 14))
        if len(known) > 1:
            mean = curves.precision[known].mean(axis=0)
            axes.plot(curves.recall, mean, color=INK, linewidth=2.4, label="mean")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        put_legend(axes)

    told = ", ".join(f"{names[i]} {area[i]:.2f}" for i in named)
    return draw_svg(
        paint,
        key=key,
        title="Precision against recall at IoU 0.5",
        description=f"Area under the curve of {'each class' if len(named) == len(known) else 'the weakest classes'}: {told or 'none'}.",
        size_hw=(300, 400),
    )


def confusion_chart(
    confusion: Int64[np.ndarray, "rows columns"],
    names: Sequence[str],
    *,
    percent: bool = False,
    key: str = "confusion",
) -> str:
    """Draw the confusion matrix, shaded by the share of each row.

    Args:
        confusion: Rows are truth, columns predictions; a detector's has one row and column more than there are
            classes, for background.
        names: Class names, in label order.
        percent: Whether cells show their share of the row rather than their count.
        key: See `draw_svg`. With many classes the most confused are shown and the rest added up.
    """
    counts, labels = most_confused(confusion, [plain_label(name, 12) for name in names])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side, longest = len(labels), max(len(label) for label in labels)
    cell = 24 if side > 6 else 52  # px, with room around for the names
    wide = max(280, 40 + 6 * longest + cell * side)

    def paint(axes: Axes) -> None:
        for row, column in zip(*np.nonzero(shares >= 0.005 if percent else counts), strict=True):
            share = float(shares[row, column])
            axes.add_patch(
                Rectangle((column, row), 1, 1, facecolor=ACCENT, alpha=0.06 + 0.94 * share, linewidth=0)
            )
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{100 * share:.0f}" if percent else _count(int(counts[row, column])),
                ha="center",
                va="center",
                fontsize=11 if side <= 6 else 8.5,
                color="#ffffff" if share > 0.72 else INK,
            )
        middles = np.arange(side) + 0.5
        axes.set(xlim=(0, side), ylim=(side, 0), xlabel="predicted", ylabel="truth", aspect="equal")
        axes.set_xticks(middles, labels, rotation=90 if 7 * longest > cell else 0)
        axes.set_yticks(middles, labels)
        axes.tick_params(length=0)
        axes.grid(visible=False)

    told = _confusion_words(confusion, background=len(confusion) > len(names), percent=percent)
    return draw_svg(paint, key=key, title="Confusion matrix", description=told, size_hw=(wide, wide))


def error_chart(errors: Sequence[ErrorShare], *, key: str = "errors") -> str:
    """Draw the AP50 lost to each kind of mistake."""
    told = "; ".join(f"{error.name} {error.ap_lost:.3f}" for error in errors)
    return _bars(
        [error.name for error in errors],
        [error.ap_lost for error in errors],
        [f"{error.ap_lost:.3f}" for error in errors],
        key=key,
        title="AP50 lost to each kind of mistake",
        description=f"{told or 'None'}.",
    )


def count_chart(
    counts: Mapping[str, Sequence[int]],
    names: Sequence[str],
    *,
    counted: str = "objects",
    key: str = "counts",
) -> str:
    """Draw how much there is of each class, all splits together; with many classes the rest is added up.

    Args:
        counts: Split -> how much there is of each class.
        names: Class names, in label order.
        counted: What is counted; pixels are shown as shares.
        key: See `draw_svg`.
    """
    totals = (
        np.sum([np.asarray(split) for split in counts.values()], axis=0) if counts else np.zeros(len(names))
    )
    order = np.argsort(-totals, kind="stable")
    shown, rest = (
        (order, order[:0]) if len(order) <= MOST_BARS else (order[: MOST_BARS - 1], order[MOST_BARS - 1 :])
    )
    everything = max(float(np.sum(totals)), 1.0)

    def words(amount: float) -> str:
        return f"{amount / everything:.2%}" if counted == "pixels" else f"{amount:,.0f}"

    values, told = [float(totals[i]) for i in shown], [words(float(totals[i])) for i in shown]
    labels = [plain_label(names[i]) for i in shown]
    if len(rest):  # no bar: it would dwarf the others
        labels, values = [*labels, f"{len(rest)} more"], [*values, 0.0]
        told.append(f"{words(float(totals[rest].sum()))} together")
    return _bars(
        labels,
        values,
        told,
        key=key,
        title=f"{counted.capitalize()} of each class",
        description=f"{int(np.sum(totals)):,} {counted} in {len(names)} classes.",
    )


def size_chart(sides_px: Float[np.ndarray, " n"], *, key: str = "sizes") -> str:
    """Draw how large the boxes are: the square root of the area, in pixels of the network's input."""
    sides = sides_px[np.isfinite(sides_px) & (sides_px > 0)]
    middle = f"half of {len(sides):,} boxes are under {np.median(sides):.0f} px" if len(sides) else "no boxes"

    def paint(axes: Axes) -> None:
        if len(sides):
            low, high = np.log2(max(sides.min(), 1.0)), np.log2(max(sides.max(), 2.0))
            edges = 2 ** np.linspace(np.floor(low), np.ceil(max(high, low + 1)), 25)
            axes.hist(np.maximum(sides, edges[0]), bins=edges.tolist(), color=ACCENT, rwidth=0.92)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set(xlabel="side of the box, px", ylabel="boxes")

    return draw_svg(
        paint, key=key, title="Box sizes", description=f"{middle.capitalize()}.", size_hw=(240, 400)
    )


def _bars(
    labels: Sequence[str],
    values: Sequence[float],
    told: Sequence[str],
    *,
    key: str,
    title: str,
    description: str,
) -> str:
    """Draw one horizontal bar a label, first on top, with its figure at the end."""

    def paint(axes: Axes) -> None:
        places = np.arange(len(labels))
        bars = axes.barh(places, np.nan_to_num(np.asarray(values, dtype=float)), color=ACCENT, height=0.66)
        axes.bar_label(bars, told, padding=4, fontsize=10.5)
        axes.set_yticks(places, list(labels))
        axes.set_ylim(max(len(labels) - 0.4, 1.6), -0.6)
        axes.margins(x=0.16)
        axes.set_xlim(left=0)
        axes.tick_params(length=0, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
        axes.grid(visible=False)

    return draw_svg(
        paint, key=key, title=title, description=description, size_hw=(40 + 24 * max(len(labels), 2), 400)
    )


def most_confused(
    confusion: Int64[np.ndarray, "rows columns"], names: list[str]
) -> tuple[Float64[np.ndarray, "rows2 columns2"], list[str]]:
    """Keep the classes with most mistakes and add up the others; sums over rows and columns stay."""
    classes = len(names)
    background = ["background"] * (len(confusion) - classes)
    if classes <= MOST_CELLS:
        return confusion.astype(float), [*names, *background]
    wrong = confusion - np.diag(np.diag(confusion))
    busiest = np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1))[:classes], kind="stable")
    kept = np.sort(busiest[: MOST_CELLS - 1])
    group = np.full(len(confusion), len(kept))
    group[kept] = np.arange(len(kept))
    group[classes:] = len(kept) + 1
    merge = np.eye(len(kept) + 1 + len(background))[group]
    return merge.T @ confusion @ merge, [*(names[i] for i in kept), "others", *background]


def _confusion_words(confusion: Int64[np.ndarray, "rows columns"], *, background: bool, percent: bool) -> str:
    if background:
        right = int(np.trace(confusion[:-1, :-1]))
        return f"{right} right, {int(confusion[:-1, -1].sum())} missed, {int(confusion[-1].sum())} false predictions."
    right, everything = int(np.trace(confusion)), int(confusion.sum())
    if percent:
        return f"{right / max(everything, 1):.1%} on the diagonal."
    return f"{right} right of {everything}."


def _count(number: int) -> str:
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"
