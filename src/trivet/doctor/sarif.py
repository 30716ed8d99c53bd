"""A diagnosis in SARIF 2.1.0, which code hosts show beside the lines."""

from pathlib import Path

from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.finding import Finding
from trivet.doctor.source import short_path

LEVELS = {"error": "error", "warning": "warning", "note": "note"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(diagnosis: Diagnosis) -> dict[str, object]:
    """Return the diagnosis as a SARIF log of one run."""
    names = sorted({finding.name for finding in diagnosis.findings})
    driver = {"name": "trivet doctor", "rules": [{"id": name} for name in names]}
    results = [_result(finding) for finding in diagnosis.findings]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _result(finding: Finding) -> dict[str, object]:
    text = f"{finding.title}. {finding.cause}. {finding.remedy}."
    result: dict[str, object] = {
        "ruleId": finding.name,
        "level": LEVELS[finding.severity],
        "message": {"text": text},
        "properties": {"verdict": finding.verdict, "evidence": dict(finding.evidence)},
    }
    place = finding.where
    if place.file is not None and place.line is not None:
        location: dict[str, object] = {
            "physicalLocation": {
                "artifactLocation": {"uri": Path(short_path(place.file)).as_posix()},
                "region": {"startLine": place.line},
            }
        }
        if place.object:
            location["logicalLocations"] = [{"fullyQualifiedName": place.object}]
        result["locations"] = [location]
    return result
