"""What the doctor and the data audit say: one `Finding` a fault, the same shape everywhere."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]
Verdict = Literal["proven", "confirmed", "no-effect-seen", "suspected"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Where:
    """The place a finding points at; any part may be unknown."""

    file: str | None = None
    line: int | None = None
    object: str | None = None


@dataclass(frozen=True)
class Finding:
    """One fault, with its proof.

    Args:
        name: Stable name of the kind of fault, such as `parameter-not-in-optimizer`.
        severity: `error` (the result is wrong), `warning` (it is likely worse than it need be) or `note`.
        title: The fault in one sentence, with its main number.
        where: Source file, line and object it is about.
        evidence: The numbers it rests on.
        cause: Why it happens, in one sentence.
        remedy: What to do.
        patch: The remedy as a unified diff, where one can be written.
        verdict: How sure: `proven` by structure, `confirmed` or `no-effect-seen` by experiment, or `suspected`.
    """

    name: str
    severity: Severity
    title: str
    where: Where = field(default_factory=Where)
    evidence: Mapping[str, object] = field(default_factory=dict)
    cause: str = ""
    remedy: str = ""
    patch: str | None = None
    verdict: Verdict = "suspected"

    def to_json(self) -> dict[str, object]:
        """Return the finding as plain data, the form of `findings.json`."""
        return asdict(self) | {"evidence": _plain(dict(self.evidence))}


def _plain(value: object) -> object:
    """Return data that strict JSON can hold: numbers that are not finite become `"nan"`, `"inf"` or `"-inf"`."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def by_importance(findings: list[Finding]) -> list[Finding]:
    """Return the findings with errors first, then warnings, then notes; the order within each is kept."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
