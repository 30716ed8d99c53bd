"""Charts that only one of the tasks has: class frequencies of masks, reliability of probabilities."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from trivet.evaluate.calibration import ReliabilityBin
from trivet.evaluate.segmentation_scores import ClassIou
from trivet.report.naming import plain_label
from trivet.report.palette import ACCENT, GRID, INK
from trivet.report.svg import draw_svg, put_legend

MOST_BARS = 24


def frequency_chart(per_class: Sequence[ClassIou], *, key: str = "frequencies") -> str:
    """Draw each class's share of the pixels, in the truth and as predicted, most frequent first."""
    rows = sorted(per_class, key=lambda row: -row.share)[:MOST_BARS]
    places = np.arange(len(rows))

    def paint(axes: Axes) -> None:
        shares = [100 * row.share for row in rows]
        found = [100 * row.predicted_share for row in rows]
        for offset, values, colour, label in (
            (-0.2, shares, ACCENT, "truth"),
            (0.2, found, GRID, "predicted"),
        ):
            bars = axes.barh(places + offset, values, color=colour, height=0.38, label=label)
            axes.bar_label(bars, [f"{value:.1f}%" for value in values], padding=4, fontsize=9)
        axes.set_yticks(places, [plain_label(row.name) for row in rows])
        axes.set_ylim(max(len(rows) - 0.4, 1.6), -0.6)
        axes.margins(x=0.16)
        axes.set_xlim(left=0)
        axes.tick_params(length=0, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
        axes.grid(visible=False)
        put_legend(axes)

    told = "; ".join(f"{row.name} {row.share:.1%}, predicted {row.predicted_share:.1%}" for row in rows)
    return draw_svg(
        paint,
        key=key,
        title="Share of the pixels of each class",
        description=f"{told or 'None'}.",
        size_hw=(60 + 32 * max(len(rows), 2), 400),
    )


def reliability_chart(bins: Sequence[ReliabilityBin], *, key: str = "reliability") -> str:
    """Draw accuracy against confidence, bin by bin, with the diagonal on which both are equal."""

    def paint(axes: Axes) -> None:
        middles = [(one.low + one.high) / 2 for one in bins]
        width = bins[0].high - bins[0].low if bins else 1.0
        axes.bar(middles, [one.accuracy for one in bins], width=0.9 * width, color=ACCENT, label="accuracy")
        axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.2, label="as sure as right")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        put_legend(axes)

    told = "; ".join(f"{one.confidence:.2f} sure, {one.accuracy:.2f} right" for one in bins)
    return draw_svg(
        paint,
        key=key,
        title="Accuracy against confidence",
        description=f"{told or 'No images'}.",
        size_hw=(320, 400),
    )
