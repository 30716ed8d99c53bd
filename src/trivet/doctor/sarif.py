"""A diagnosis in SARIF 2.1.0 (OASIS), which code hosts show beside the lines."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.explanations import EXPLANATIONS
from trivet.doctor.finding import Finding
from trivet.doctor.source import short_path

LEVELS = {"error": "error", "warning": "warning", "note": "note"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(diagnosis: Diagnosis) -> dict[str, object]:
    """Return the diagnosis as a SARIF log of one run."""
    names = sorted({finding.name for finding in diagnosis.findings})
    driver = {"name": "trivet doctor", "rules": [_rule(name) for name in names]}
    results = [_result(finding, names) for finding in diagnosis.findings]
    notes = [
        {"level": "note", "message": {"text": f"{name} was not checked: {reason}"}}
        for name, reason in diagnosis.not_checked.items()
    ]
    invocation = {"executionSuccessful": True, "toolExecutionNotifications": notes}
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str) -> dict[str, object]:
    rule: dict[str, object] = {"id": name}
    if name in EXPLANATIONS:
        rule["shortDescription"] = {"text": name.replace("-", " ")}
        rule["fullDescription"] = {"text": EXPLANATIONS[name].why}
        rule["help"] = {"text": f"`trivet doctor explain {name}` tells more"}
    return rule


def _result(finding: Finding, names: list[str]) -> dict[str, object]:
    told: dict[str, Any] = finding.to_json()
    properties = {"verdict": finding.verdict, "evidence": told["evidence"]}
    if finding.patch is not None:
        properties["patch"] = finding.patch
    result: dict[str, object] = {
        "ruleId": finding.name,
        "ruleIndex": names.index(finding.name),
        "level": LEVELS[finding.severity],
        "message": {"text": _sentences(finding.title, finding.cause, finding.remedy)},
        "properties": properties,
    }
    place = finding.where
    location: dict[str, object] = {}
    if place.file is not None and place.line is not None:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(place.file)},
            "region": {"startLine": max(1, place.line)},
        }
    if place.object:
        location["logicalLocations"] = [{"fullyQualifiedName": place.object}]
    if location:
        result["locations"] = [location]
    return result


def _sentences(*parts: str) -> str:
    return " ".join(f"{part[:1].upper()}{part[1:].rstrip('.')}." for part in parts if part)


def _uri(file: str) -> str:
    path = Path(short_path(file))
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
