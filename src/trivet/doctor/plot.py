"""A picture of an experiment as SVG, by hand: the doctor needs torch and the standard library only."""

from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 110, 56, 44
COLOURS = {"base": "#777777", "placebo": "#c47f00", "fix": "#0a6b3d"}
DASHES = {"base": "", "placebo": "5 4", "fix": ""}


def experiment_svg(told: Mapping[str, Any]) -> str:
    """Draw the held-out score of each arm at its best learning rate, by steps; bands reach over the seeds.

    Args:
        told: An experiment as plain data (`Experiment.to_json`).
    """
    values = [value for curves in told["curves"].values() for curve in curves for value in curve]
    values = [value for value in values if value - value == 0]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.1
    low, high = low - margin, high + margin
    looks = told["looks"]
    last = looks[-1]

    def at(step: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(value, low), high)) / (high - low)
        return f"{x:.1f},{y:.1f}"

    parts = [_frame(told), *_ticks(low, high, last)]
    ends = []
    for arm in ("base", "placebo", "fix"):
        curves = told["curves"][arm]
        columns = [[curve[i] for curve in curves if i < len(curve)] for i in range(len(looks))]
        known = [(step, column) for step, column in zip(map(float, looks), columns, strict=True) if column]
        upper = [at(step, max(column)) for step, column in known]
        lower = [at(step, min(column)) for step, column in reversed(known)]
        means = [at(step, sum(column) / len(column)) for step, column in known]
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{COLOURS[arm]}" opacity="0.15"/>')
        parts.append(
            f'<polyline points="{" ".join(means)}" fill="none" stroke="{COLOURS[arm]}" stroke-width="2" '
            f'stroke-dasharray="{DASHES[arm]}"/>'
        )
        ends.append((float(means[-1].split(",")[1]), arm))
    parts += _labels(sorted(ends), told["best_rate_factor"])
    return f"{_HEAD}{''.join(parts)}</svg>\n"


_HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
    f'font-family="sans-serif" font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
)


def _frame(told: Mapping[str, Any]) -> str:
    low, high = told["interval95"]
    about = (
        f"{told['result'].replace('-', ' ')}: with the remedy {told['gain']:+.3f} [{low:+.3f}, {high:+.3f}], "
        f"{told['seeds']} seeds, {told['held_out_samples']} held-out samples"
    )
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    return (
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(told["name"])}</text>'
        f'<text x="{LEFT}" y="38" fill="#444444">{escape(about)}</text>'
        f'<path d="M{LEFT},{TOP} V{bottom} H{right}" fill="none" stroke="#333333"/>'
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">training step</text>'
        f'<text transform="translate(14,{(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">held-out score</text>'
    )


def _ticks(low: float, high: float, last: int) -> list[str]:
    marks = []
    for i in range(5):
        y = TOP + (HEIGHT - TOP - BOTTOM) * i / 4
        value = high - (high - low) * i / 4
        marks.append(f'<path d="M{LEFT},{y:.1f} H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        marks.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        x = LEFT + (WIDTH - LEFT - RIGHT) * i / 4
        marks.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{last * i / 4:.0f}</text>'
        )
    return marks


def _labels(ends: list[tuple[float, str]], rates: dict[str, float]) -> list[str]:
    """Name each curve at its end, at least a line apart."""
    labels, below = [], 0.0
    for y, arm in ends:
        below = max(y + 4, below + 14)
        rate = "" if abs(rates[arm] - 1) < 1e-9 else f", lr &#215; {rates[arm]:.2g}"
        labels.append(
            f'<text x="{WIDTH - RIGHT + 6}" y="{below:.1f}" fill="{COLOURS[arm]}">{arm}{rate}</text>'
        )
    return labels
