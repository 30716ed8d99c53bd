import json

import pytest

from tests.doctor.programs import PROGRAMS
from trivet.doctor.diagnosis import diagnose_trace
from trivet.doctor.run import record_script
from trivet.doctor.trace import Trace, read_trace


@pytest.mark.parametrize("finding", ["batchnorm-momentum", "non-finite", "inplace-on-saved-tensor"])
def test_a_written_trace_is_read_back_whole_and_gives_the_same_findings(finding, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(next(p.faulty for p in PROGRAMS if p.finding == finding))
    trace, _ = record_script(str(script))
    trace.write(tmp_path / "trace.json")
    again = read_trace(tmp_path / "trace.json")
    assert repr(again) == repr(trace)
    assert repr(diagnose_trace(again)) == repr(diagnose_trace(trace))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"steps": "many"},
        {"unheard_of": 1},
        {"parameters": [{"name": "w"}]},
        {"losses": {}},
        {"exception": [1]},
        {"loss_curve": [[1, 2, 3]]},
    ],
)
def test_what_is_not_a_trace_is_refused(change, tmp_path):
    path = tmp_path / "trace.json"
    Trace().write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError):
        read_trace(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00"])
def test_other_text_is_refused(text, tmp_path):
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"trace\.json"):
        read_trace(path)
