"""A diagnosis as text for a terminal."""

import textwrap

from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.finding import Finding
from trivet.doctor.source import short_path

WIDTH = 100


def write_text(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as text, most important finding first."""
    if not diagnosis.findings:
        head = f"doctor: no fault found in {diagnosis.steps} optimizer steps"
    else:
        count = len(diagnosis.findings)
        head = f"doctor: {count} finding{'s' if count > 1 else ''} in {diagnosis.steps} optimizer steps"
    parts = [head, *(_finding(finding) for finding in diagnosis.findings)]
    if diagnosis.not_checked:
        reasons: dict[str, list[str]] = {}
        for name, reason in diagnosis.not_checked.items():
            reasons.setdefault(reason, []).append(name)
        lines = [_wrapped(f"{', '.join(names)}: {reason}", "  ") for reason, names in reasons.items()]
        parts.append("\n".join(["not checked", *lines]))
    parts.append(
        f"cost of watching: {diagnosis.cost.seconds:.2f} s ({diagnosis.cost.share:.1%} of the steps' time)"
    )
    return "\n\n".join(parts)


def _finding(finding: Finding) -> str:
    place = finding.where
    spot = f"{short_path(place.file)}:{place.line}" if place.file else ""
    told = " ".join(part for part in (spot, f"({place.object})" if place.object else "") if part)
    lines = [f"{finding.severity}[{finding.name}] {finding.title}"]
    if told:
        lines.append(f"  at      {told}")
    if finding.cause:
        lines.append(_wrapped(finding.cause, "  cause   "))
    if finding.remedy:
        lines.append(_wrapped(finding.remedy, "  remedy  "))
    for item in finding.evidence.get("consequences", ()):  # type: ignore[attr-defined]
        lines.append(_wrapped(f"{item['name']}: {item['title']}", "  so      "))
    lines.append(f"  verdict {finding.verdict}")
    if finding.patch:
        lines.append(textwrap.indent(finding.patch.rstrip("\n"), "  "))
    return "\n".join(lines)


def _wrapped(text: str, head: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
