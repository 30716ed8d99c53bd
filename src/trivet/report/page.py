"""Contents -> one HTML file that opens anywhere: no network, no scripts, pictures and styles inside.

A page is a headline and sections. A section is one key of `TITLES`, the macro of that name in the task's own
`<task>.html.jinja` or else in `sections.html.jinja`, and the data the macro is called with; a section without
data is left out.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trivet.data.problems import PROBLEMS, Problem
from trivet.doctor.plot import experiment_svg
from trivet.report import charts, curves
from trivet.report.contents import AuditContents, DataFacts, History, Picture, ReportContents
from trivet.report.pictures import DrawnPicture, drawn, marked
from trivet.report.score_sections import score_sections, swatches
from trivet.report.sentences import audited, learnt
from trivet.storage import whole_file

TITLES = {
    "score": "Score",
    "findings": "Findings",
    "mistakes": "What the mistakes cost",
    "classes": "Class by class",
    "calibration": "How far to trust its scores",
    "history": "Training",
    "gallery": "Pictures",
    "choices": "What was chosen, and why",
    "data": "The data",
    "checks": "What was checked",
    "environment": "How to run it again",
}
GALLERY_BYTES = 2_600_000
PICTURE_BYTES = 240_000


def write_report(path: Path | str, contents: ReportContents) -> Path:
    """Write the page of a run and return its path; what was there before stays whole until the page is ready."""
    scores, names = contents.scores, contents.names
    own = score_sections(scores, names) if scores else {}
    sections = {
        "score": own.get("score"),
        "findings": contents.findings,
        "mistakes": own.get("mistakes"),
        "classes": own.get("classes"),
        "calibration": own.get("calibration"),
        "history": _history(contents.history),
        "gallery": _gallery(contents.gallery, names),
        "choices": contents.choices,
        "data": _data(contents.facts, names, contents.problems),
        "environment": _environment(contents),
    }
    sentence = contents.sentence or learnt(scores, names, contents.task)
    return _write(
        Path(path), contents.title, f"{contents.task} report", sentence, sections, own=contents.task
    )


def write_audit_page(path: Path | str, contents: AuditContents) -> Path:
    """Write the page of a data set's audit and return its path, as atomically as `write_report`."""
    sections = {
        "findings": contents.findings,
        "data": _data(contents.facts, contents.names, contents.problems),
        "checks": contents.checks,
        "environment": _environment(contents),
    }
    sentence = contents.sentence or audited(contents.findings, len(contents.problems))
    return _write(Path(path), contents.title, "data set audit", sentence, sections)


def _history(history: History) -> list[Markup]:
    if not history:
        return []
    found = [curves.loss_chart(history)]
    if any(name in row for row in history for name in curves.METRIC_NAMES):
        found.append(curves.metric_chart(history))
    if any("lr" in row for row in history):
        found.append(curves.rate_chart(history))
    return [Markup(chart) for chart in found]


def _gallery(pictures: Sequence[Picture], names: Sequence[str]) -> dict[str, list[DrawnPicture]]:
    most_bytes = min(PICTURE_BYTES, GALLERY_BYTES // max(len(pictures), 1))
    shown = [drawn(picture, names, most_bytes=most_bytes) for picture in pictures]
    kinds = dict.fromkeys(picture.kind for picture in shown)
    return {kind: [picture for picture in shown if picture.kind == kind] for kind in kinds}


def _data(facts: DataFacts, names: Sequence[str], problems: Sequence[Problem]) -> dict[str, Any] | None:
    found = [charts.count_chart(facts.counts, names, counted=facts.counted)] if facts.counts else []
    found += [charts.size_chart(facts.sides_px)] if len(facts.sides_px) else []
    if not (found or facts.rows or facts.order_dependent or problems):
        return None
    return {
        "rows": facts.rows,
        "counts": facts.counts,
        "counted": facts.counted,
        "totals": {split: max(sum(counts), 1) for split, counts in facts.counts.items()},
        "order_dependent": sorted(facts.order_dependent.items(), key=lambda pair: -pair[1]),
        "contested": [marked(one.image, one.caption) for one in facts.contested],
        "names": names,
        "swatches": swatches(names),
        "charts": [Markup(chart) for chart in found],
        "problems": _by_name(problems),
    }


def _by_name(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return the problems grouped by their name, the most frequent first."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.name, []).append(problem)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        {"name": name, "meaning": PROBLEMS[name].meaning if name in PROBLEMS else "", "rows": rows}
        for name, rows in ordered
    ]


def _evidence(told: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a finding without those of its experiment, which are drawn."""
    return {name: value for name, value in told.items() if name != "experiment"}


def _experiment(told: Mapping[str, Any]) -> Markup:
    """The arms of the experiment that judged a finding."""
    return Markup(experiment_svg(told))


def _environment(contents: ReportContents | AuditContents) -> dict[str, Any] | None:
    if not (contents.environment or contents.command):
        return None
    return {"rows": contents.environment, "command": contents.command}


def _write(
    path: Path, title: str, kind: str, sentence: str, sections: Mapping[str, Any], *, own: str | None = None
) -> Path:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "evidence": _evidence,
        "experiment": _experiment,
        "figure": _figure,
        "percent": _percent,
        "sentence": _sentence,
    }
    text = pages.get_template("page.html.jinja").render(
        title=title,
        kind=kind,
        sentence=sentence,
        titles=TITLES,
        own_macros=f"{own}.html.jinja" if own else "sections.html.jinja",
        sections={name: data for name, data in sections.items() if data},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="replace")
    return path


def _figure(value: float, digits: int = 3) -> str:
    """Return a figure with fixed digits, a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "\N{EN DASH}"


def _percent(value: float) -> str:
    """Return a share (0-1) as a CSS length; none where there is no figure."""
    return f"{100 * min(max(value, 0), 1):.1f}%" if math.isfinite(value) else "0%"


def _sentence(text: str, end: str = ".") -> str:
    """Return words with a capital first letter and a full stop."""
    return text[:1].upper() + text[1:] + end
