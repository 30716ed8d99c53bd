"""What a person reads in the terminal: scores, findings and choices, with rich where there is a terminal."""

import io
import math
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from trivet.doctor.finding import Finding, Where
from trivet.evaluate.board import BoardResult
from trivet.evaluate.classification_scores import ClassificationScores
from trivet.evaluate.segmentation_scores import SegmentationScores
from trivet.report.contents import Choice, Scores
from trivet.report.naming import plain_label
from trivet.report.score_tables import classification_tables, detection_tables, segmentation_tables, table
from trivet.report.sentences import learnt

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}


def score_text(scores: Scores, names: Sequence[str]) -> RenderableType:
    """Lay out a model's scores: the sentence, the main figures, each class, what the mistakes are."""
    match scores:
        case SegmentationScores():
            tables = segmentation_tables(scores, names)
        case ClassificationScores():
            tables = classification_tables(scores, names)
        case _:
            tables = detection_tables(scores)
    spaced = [part for table in tables for part in (Text(), table)]
    return Group(Text(learnt(scores, names)), *spaced)


def finding_text(findings: Sequence[Finding]) -> RenderableType:
    """Lay out findings as a list, in the order given: severity, fault, place, cause, remedy."""
    if not findings:
        return Text("No findings.")
    return Group(*(part for finding in findings for part in (*_finding(finding), Text())))


def board_text(result: BoardResult, *, most: int = 20) -> RenderableType:
    """Lay out what a board would say of a submission: its score, then its faults, at most this many."""
    images = "1 image" if result.scored == 1 else f"{result.scored:,} images"
    score = f"{result.score:.4f}" if math.isfinite(result.score) else "none"
    lines = [Text.assemble((f"{result.metric} {score}", "bold"), f" over {images}")]
    if not result.faults:
        return Group(*lines, Text("No fault: the board would accept it."))
    for fault in result.faults[:most]:
        place = ", ".join(
            [*([f"line {fault.row}"] if fault.row else []), *([fault.image_id] if fault.image_id else [])]
        )
        lines.append(Text(plain_label(f"{place}: {fault.text}" if place else fault.text, 400)))
    if len(result.faults) > most:
        lines.append(Text(f"and {len(result.faults) - most:,} more faults"))
    return Group(*lines)


def choice_text(choices: Sequence[Choice]) -> RenderableType:
    """Lay out what was chosen: what, its value, by whom, why."""
    rows = table("what", "value", "by", "why")
    for choice in choices:
        rows.add_row(
            *(Text(plain_label(cell, 400)) for cell in (choice.what, choice.value, choice.by, choice.why))
        )
    return rows


def plain_text(content: RenderableType, *, width: int = 100) -> str:
    """Return what a terminal would show as text without colours, lines of at most `width` characters."""
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, highlight=False
    )
    with console.capture() as captured:
        console.print(content)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


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
