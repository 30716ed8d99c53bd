"""What a person reads in the terminal: scores, findings and choices, with rich where there is a terminal."""

import io
import math
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trivet.doctor.finding import Finding, Where
from trivet.evaluate.scores import DetectionScores, Interval
from trivet.report.contents import Choice
from trivet.report.naming import plain_label
from trivet.report.sentences import advice, learnt

BAR = 20  # characters of a whole bar
STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}


def score_text(scores: DetectionScores, names: Sequence[str]) -> RenderableType:
    """Lay out a detector's scores: the sentence, the main figures, each class, what the mistakes cost."""
    parts: list[RenderableType] = [
        Text(learnt(scores, names)),
        Text(),
        _main_figures(scores),
        Text(),
        _class_table(scores),
    ]
    if scores.errors:
        parts += [Text(), _error_table(scores)]
    return Group(*parts)


def finding_text(findings: Sequence[Finding]) -> RenderableType:
    """Lay out findings as a list, in the order given: severity, fault, place, cause, remedy."""
    if not findings:
        return Text("No findings.")
    return Group(*(part for finding in findings for part in (*_finding(finding), Text())))


def choice_text(choices: Sequence[Choice]) -> RenderableType:
    """Lay out what was chosen: what, its value, by whom, why."""
    table = _table("what", "value", "by", "why")
    for choice in choices:
        table.add_row(
            *(Text(plain_label(cell, 400)) for cell in (choice.what, choice.value, choice.by, choice.why))
        )
    return table


def plain_text(content: RenderableType, *, width: int = 100) -> str:
    """Return what a terminal would show as text without colours, lines of at most `width` characters."""
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, highlight=False
    )
    with console.capture() as captured:
        console.print(content)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _main_figures(scores: DetectionScores) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in (("mAP50", scores.map50), ("mAP", scores.map), ("mAP75", scores.map75)):
        interval = scores.interval95.get(name.lower())
        table.add_row(Text(name, style="bold"), Text(_figure(value), style="bold"), _range(interval))
    sizes = ", ".join(f"{size} {_figure(value)}" for size, value in scores.by_size.items())
    table.add_row(Text("by size"), Text(""), Text(sizes))
    table.add_row(Text("scored"), Text(""), Text(f"{scores.images:,} images, {scores.boxes:,} objects"))
    return table


def _range(interval: Interval | None) -> Text:
    return Text(
        "" if interval is None else f"95% interval {interval.low:.3f} to {interval.high:.3f}", style="dim"
    )


def _class_table(scores: DetectionScores) -> Table:
    table = _table("class", "AP", "", "AP50", "AP75", "recall", "objects", right=(1, 3, 4, 5, 6))
    for row in scores.per_class:
        figures = (_figure(value) for value in (row.ap50, row.ap75, row.ar100))
        table.add_row(
            Text(plain_label(row.name, 32)),
            _figure(row.ap),
            Text(_bar(row.ap), style="blue"),
            *figures,
            f"{row.truths:,}",
        )
    return table


def _error_table(scores: DetectionScores) -> Table:
    table = _table("mistake", "AP50 lost", "count", "what helps", right=(1, 2))
    for error in scores.errors:
        remedy = advice(error)[1] if error.count else ""
        table.add_row(error.name, _figure(error.ap_lost), f"{error.count:,}", remedy)
    return table


def _finding(finding: Finding) -> list[RenderableType]:
    head = Text.assemble(
        (finding.severity, STYLES[finding.severity]), " ", (plain_label(finding.title, 400), "bold")
    )
    told = [_place(finding.where), finding.cause, finding.remedy and f"Do: {finding.remedy}"]
    tail = f"{finding.name}, {finding.verdict.replace('-', ' ')}"
    return [
        head,
        *(Padding(Text(plain_label(line, 2000)), (0, 0, 0, 2)) for line in told if line),
        Padding(Text(tail, style="dim"), (0, 0, 0, 2)),
    ]


def _place(where: Where) -> str:
    line = f"{where.file}:{where.line}" if where.file and where.line else where.file
    return ", ".join(part for part in (line, where.object) if part)


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in right else "left", overflow="fold")
    return table


def _bar(share: float) -> str:
    """Return a bar of blocks, an eighth of a character exact."""
    eighths = round(8 * BAR * min(max(share, 0.0), 1.0)) if math.isfinite(share) else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _figure(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
