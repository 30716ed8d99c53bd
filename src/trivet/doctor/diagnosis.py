"""From a trace to a diagnosis: all checks, their findings in order, and what was not checked."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from trivet.doctor.causes import lead
from trivet.doctor.checks import CHECKS, NotCheckedError
from trivet.doctor.finding import Finding
from trivet.doctor.trace import Cost, Trace


@dataclass(frozen=True)
class Diagnosis:
    """Findings, most important first; the cost of watching; and reasons for what was not checked, by name."""

    findings: list[Finding]
    cost: Cost = field(default_factory=Cost)
    not_checked: dict[str, str] = field(default_factory=dict)
    steps: int = 0

    @property
    def errors(self) -> list[Finding]:
        """The findings of severity error."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def to_json(self) -> dict[str, object]:
        """Return the diagnosis as plain data."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "cost": asdict(self.cost),
            "steps": self.steps,
            "not_checked": [{"name": name, "reason": reason} for name, reason in self.not_checked.items()],
        }


def diagnose_trace(trace: Trace, names: Iterable[str] = CHECKS) -> Diagnosis:
    """Run checks over a trace.

    Args:
        trace: What was recorded.
        names: The checks to run, of the table `CHECKS`.
    """
    findings: list[Finding] = []
    not_checked: dict[str, str] = {}
    for name in names:
        try:
            findings += CHECKS[name](trace)
        except NotCheckedError as reason:
            not_checked[name] = str(reason)
        except Exception as fault:  # a check that fails must not hide what the others found
            not_checked[name] = f"the check itself failed: {type(fault).__name__}: {fault}"
    if trace.faults:
        not_checked["doctor"] = "a part of the doctor itself failed: " + "; ".join(trace.faults)
    return Diagnosis(lead(findings), trace.cost, not_checked, trace.steps)
