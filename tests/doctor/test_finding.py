import json

from trivet.doctor.causes import lead
from trivet.doctor.finding import Finding, Where, by_importance


def finding(severity: str) -> Finding:
    return Finding(name="zero-area-box", severity=severity, title="a box has no area", evidence={"boxes": 2})  # type: ignore[arg-type]


def test_json_has_every_key_of_the_format():
    shown = Finding(
        "n", "error", "t", Where("a.py", 3, "model.fc"), {"share": 0.5}, "c", "r", None, "proven"
    ).to_json()
    assert json.loads(json.dumps(shown)) == {
        "name": "n",
        "severity": "error",
        "title": "t",
        "where": {"file": "a.py", "line": 3, "object": "model.fc"},
        "evidence": {"share": 0.5},
        "cause": "c",
        "remedy": "r",
        "patch": None,
        "verdict": "proven",
    }


def test_most_important_first():
    ordered = by_importance([finding("note"), finding("error"), finding("warning"), finding("error")])
    assert [item.severity for item in ordered] == ["error", "error", "warning", "note"]


def test_a_warning_does_not_lead_an_error_unless_what_follows_shows_its_harm():
    def named(name: str, severity: str) -> Finding:
        return Finding(name=name, severity=severity, title="t")  # type: ignore[arg-type]

    dead = named("dead-relu", "error")
    (led,) = lead([dead, named("input-not-normalised", "warning")])
    assert (led.name, led.severity) == ("input-not-normalised", "error")
    assert led.evidence["consequences"] == [{"name": "dead-relu", "title": "t"}]
    assert next(f.name for f in lead([dead, named("input-not-normalised", "note")])) == "dead-relu"
    assert len(lead([dead, named("lr-too-high", "warning")])) == 2
