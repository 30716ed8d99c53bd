"""A diagnosis as text for a terminal: most important first, short, in colour where there is a terminal."""

import linecache
import os
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from trivet.doctor.checks import CHECKS
from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.finding import Finding
from trivet.doctor.fixes import FIXES
from trivet.doctor.source import short_path

WIDTH, LABEL = 100, 12
COLOURS = {
    "error": "1;31",
    "warning": "1;33",
    "note": "1;36",
    "good": "1;32",
    "label": "2",
    "-": "31",
    "+": "32",
}
VERDICTS = {
    "proven": "proven by structure",
    "confirmed": "confirmed by experiment",
    "no-effect-seen": "a real defect, but no effect of it was seen in the experiment",
    "suspected": "suspected",
}
SHOWN = 3
"""Consequences that are listed under a cause."""
_TOO_SHORT = re.compile(r"\d+ .*were seen, \d+ are needed|too few|too short|often enough")


def write_text(diagnosis: Diagnosis, *, verbose: bool = False, colour: bool = False) -> str:
    """Return the diagnosis as text, most important finding first.

    Args:
        diagnosis: What to tell.
        verbose: Name every check that could not be made, with its reason, instead of counting them.
        colour: Mark severities and patches by terminal colours.
    """
    paint = _Paint(colour)
    steps = f"{diagnosis.steps} optimizer step{'' if diagnosis.steps == 1 else 's'}"
    if diagnosis.findings:
        count = len(diagnosis.findings)
        head = paint(
            f"doctor: {count} finding{'s' if count > 1 else ''} in {steps}", diagnosis.findings[0].severity
        )
    else:
        head = paint(f"doctor: no fault found in {steps}", "good")
    blocks = [head, *("\n".join(_finding(finding, paint)) for finding in diagnosis.findings)]
    blocks.append("\n".join([*_not_checked(diagnosis, paint, verbose), *_cost(diagnosis, paint)]))
    return "\n\n".join(blocks)


def wants_colour(stream: Any) -> bool:
    """Whether a stream is a terminal that shows colours; `NO_COLOR` (no-color.org) turns them off."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Paint:
    """Colours text, or leaves it alone."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, name: str) -> str:
        return f"\033[{COLOURS[name]}m{text}\033[0m" if self._colour else text

    def labelled(self, label: str, text: str) -> str:
        """Return text beside a label, its further lines aligned."""
        lines = textwrap.wrap(text, WIDTH - LABEL, break_long_words=False, break_on_hyphens=False) or [""]
        head = "  " + self(label, "label") + " " * (LABEL - 2 - len(label))
        return head + f"\n{' ' * LABEL}".join(lines)


def _finding(finding: Finding, paint: _Paint) -> Iterator[str]:
    head = f"{finding.severity}[{finding.name}]"
    lines = textwrap.wrap(f"{head} {finding.title}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    yield "\n".join(lines).replace(head, paint(head, finding.severity), 1)
    yield from _place(finding, paint)
    if finding.cause:
        yield paint.labelled("cause", finding.cause)
    if finding.remedy:
        yield paint.labelled("remedy", finding.remedy)
    followed = list(finding.evidence.get("consequences", ()))  # type: ignore[call-overload]
    for item in followed[:SHOWN]:
        yield paint.labelled(
            "hence", textwrap.shorten(f"{item['name']}: {item['title']}", 160, placeholder=" ...")
        )
    if len(followed) > SHOWN:
        yield paint.labelled("hence", f"and {len(followed) - SHOWN} more")
    yield from _verdict(finding, paint)
    if finding.patch:
        for line in finding.patch.rstrip("\n").splitlines():
            yield "  " + (paint(line, line[0]) if line[:1] in ("-", "+") else line)


def _place(finding: Finding, paint: _Paint) -> Iterator[str]:
    place = finding.where
    if place.file is None:
        if place.object:
            yield paint.labelled("at", place.object)
        return
    about = f" ({place.object})" if place.object else ""
    yield paint.labelled("at", f"{short_path(place.file)}:{place.line}{about}")
    code = linecache.getline(place.file, place.line or 0).strip()
    patched = finding.patch is not None and f"-{code}" in finding.patch.replace(" ", "")
    if code and not patched:
        yield " " * LABEL + paint(
            textwrap.shorten(f"{place.line} | {code}", WIDTH, placeholder=" ..."), "label"
        )


def _verdict(finding: Finding, paint: _Paint) -> Iterator[str]:
    experiment = finding.evidence.get("experiment")
    verdict = VERDICTS[finding.verdict]
    if not isinstance(experiment, dict):
        if finding.verdict == "suspected" and finding.name in FIXES:
            verdict += " (`--prove` puts it to the test)"
        yield paint.labelled("verdict", verdict)
        return
    yield paint.labelled("verdict", f"{verdict}: {experiment['sentence']}")
    if experiment.get("plot"):
        yield paint.labelled("plot", str(experiment["plot"]))


def _not_checked(diagnosis: Diagnosis, paint: _Paint, verbose: bool) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in diagnosis.not_checked.items():
        reasons.setdefault(reason, []).append(name)
    own = {reason: names for reason, names in reasons.items() if verbose or not set(names) <= CHECKS.keys()}
    rest = [(reason, name) for reason, names in reasons.items() if reason not in own for name in names]
    if rest:
        short = sum(bool(_TOO_SHORT.search(reason)) for reason, _ in rest)
        told = [f"{short} want more steps"] if short else []
        told += [f"{len(rest) - short} found nothing of their kind to look at"] if short < len(rest) else []
        yield paint.labelled(
            "unchecked", f"{len(rest)} of {len(CHECKS)} checks: {', '.join(told)} (--verbose names them)"
        )
    for reason, names in own.items():
        yield paint.labelled("unchecked", f"{', '.join(names)}: {reason}")


def _cost(diagnosis: Diagnosis, paint: _Paint) -> Iterator[str]:
    cost = diagnosis.cost
    if cost.seconds:
        share = f", {cost.share:.1%} of the time of the steps" if cost.share else ""
        dense = " (the first ones are recorded one by one, later ones seldom)" if cost.share > 0.02 else ""
        yield paint.labelled("watching", f"took {cost.seconds:.2f} s{share}{dense}")
