"""Every run is watched: the doctor's findings stand in findings.json, and a healthy run has none of severity error."""

import json

from tests.conftest import QUICK
from trivet.doctor.checks import CHECKS
from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.probe.ledger import Ledger
from trivet.doctor.probe.survey import Survey
from trivet.doctor.trace import Cost
from trivet.doctor.watch import is_watching, watch
from trivet.recipe.fit import fit
from trivet.recipe.watched import findings_json


def test_a_healthy_run_has_no_errors(quick_run):
    told = json.loads(quick_run.folder.findings.read_text())
    assert [finding["name"] for finding in told["findings"] if finding["severity"] == "error"] == []
    assert told["cost"].keys() == {"seconds", "share", "audit_seconds"}
    assert told["cost"]["seconds"] > 0
    assert all(item.keys() == {"name", "reason"} for item in told["not_checked"])
    assert "scheduler-never-steps" in {item["name"] for item in told["not_checked"]}
    assert not is_watching()


def test_a_run_inside_a_watched_process_is_left_to_the_one_who_watches(digits, tmp_path):
    with watch(trace_first_step=False) as doctor:
        result = fit(digits, QUICK | {"train.epochs": 1}, out=tmp_path, listeners=())
    assert doctor.diagnose().steps == 3
    assert json.loads(result.folder.findings.read_text())["cost"]["seconds"] == 0


def test_a_doctor_that_fails_does_not_end_a_run(digits, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of the doctor")

    monkeypatch.setattr(Ledger, "observe", fail)
    monkeypatch.setattr(Survey, "note_calls", fail)
    monkeypatch.setitem(CHECKS, "plateau", fail)
    result = fit(digits, QUICK | {"train.epochs": 1}, out=tmp_path, listeners=())
    told = {
        item["name"]: item["reason"] for item in json.loads(result.folder.findings.read_text())["not_checked"]
    }
    assert "of the doctor" in told["plateau"]
    assert "of the doctor" in told["doctor"]
    assert result.folder.best.exists()


def test_what_audit_and_doctor_did_not_check_is_joined():
    audit = {
        "not_checked": [{"check": "blurred", "why": "not asked"}],
        "cost": {"seconds": 1.5},
        "statistics": {},
    }
    watched = Diagnosis([], Cost(0.25, 0.01, 25.0), {"missing-zero-grad": "too short"}, 2)
    assert findings_json(audit, watched) == {
        "statistics": {},
        "cost": {"seconds": 0.25, "share": 0.01, "audit_seconds": 1.5},
        "not_checked": [
            {"name": "blurred", "reason": "not asked"},
            {"name": "missing-zero-grad", "reason": "too short"},
        ],
    }
    assert findings_json({}, None) == {
        "cost": {"seconds": 0.0, "share": 0.0, "audit_seconds": 0.0},
        "not_checked": [],
    }
