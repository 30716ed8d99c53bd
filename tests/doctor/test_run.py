"""The ways in: the command line, its outputs and exit codes, early ends, workers and compiled models."""

import json
import subprocess
import sys

import pytest

from tests.doctor.programs import ADAM, HEAD, LOOP
from tests.doctor.test_faults import diagnose_source
from trivet.doctor.__main__ import main
from trivet.doctor.outputs import MisuseError, Options
from trivet.doctor.run import FAILED, FINE, record_script, run_script
from trivet.doctor.trace import read_trace

HEALTHY = HEAD + ADAM + LOOP
FAULTY = HEALTHY.replace("model.parameters()", "model.encoder.parameters()")


@pytest.fixture
def script(tmp_path):
    def write(source):
        path = tmp_path / "train.py"
        path.write_text(source)
        return str(path)

    return write


def test_exit_code_is_that_of_the_findings(script, capsys):
    assert main(["run", "--quiet", "--steps", "6", script(HEALTHY)]) == FINE
    assert main(["run", "--quiet", "--steps", "6", script(FAULTY)]) == FAILED
    assert capsys.readouterr().err == ""


def test_a_failing_script_fails(script, capsys):
    assert main(["run", script("raise ValueError('no such folder')")]) == FAILED
    assert "error[script-failed] the script ended with ValueError: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "nowhere.py"],
        ["run", "--steps", "0", __file__],
        ["replay", __file__],
        ["replay", "nowhere"],
    ],
)
def test_misuse(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_arguments_are_those_of_the_script(script, capsys):
    path = script("import sys\nprint(sys.argv[1:], __name__)")
    assert main(["run", "--quiet", path, "--steps", "7", "-x"]) == FINE
    assert capsys.readouterr().out == "['--steps', '7', '-x'] __main__\n"


def test_a_module_runs_by_its_name(tmp_path, capsys, monkeypatch):
    (tmp_path / "lone_module.py").write_text("import sys\nprint(__name__, sys.argv[1:])")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["run", "--quiet", "-m", "lone_module", "a"]) == FINE
    assert capsys.readouterr().out == "__main__ ['a']\n"


def test_json_tells_all(script, tmp_path, capsys):
    assert main(["run", "--quiet", "--json", "-", "--steps", "8", script(FAULTY)]) == FAILED
    told = json.loads(capsys.readouterr().out)
    (finding,) = told["findings"]
    assert finding["name"] == "parameter-not-in-optimizer"
    assert finding["where"]["file"] == str(tmp_path / "train.py")
    assert told["steps"] == 8
    assert all(entry["reason"] for entry in told["not_checked"])


def test_sarif_holds_what_hosts_ask_for(script, tmp_path):
    out = tmp_path / "out.sarif"
    run_script(script(FAULTY), [], Options(sarif=str(out), steps=8, quiet=True))
    log = json.loads(out.read_text())
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert isinstance(driver["name"], str)
    rules = [rule["id"] for rule in driver["rules"]]
    assert len(set(rules)) == len(rules)
    for result in run["results"]:
        assert result["ruleId"] in rules
        assert result["level"] in ("error", "warning", "note", "none")
        assert result["message"]["text"]
        for location in result["locations"]:
            physical = location["physicalLocation"]
            assert physical["region"]["startLine"] >= 1
            assert "\\" not in physical["artifactLocation"]["uri"]


def test_a_trace_gives_the_same_findings_again(script, tmp_path):
    path = tmp_path / "trace.json"
    trace, _ = record_script(script(FAULTY), [], Options(steps=8))
    trace.write(path)
    assert read_trace(path) == trace
    assert main(["replay", "--quiet", str(path)]) == FAILED


def test_steps_ends_the_script(script, capsys):
    trace, code = record_script(script(HEALTHY + "\nprint('whole')"), [], Options(steps=5))
    assert (trace.steps, trace.ended, code) == (5, "steps", 0)
    assert "whole" not in capsys.readouterr().out


@pytest.mark.parametrize(("source", "ended", "steps"), [(FAULTY, "stopped", 20), (HEALTHY, "whole", 40)])
def test_stop_on_error_ends_a_doomed_run(script, source, ended, steps):
    trace, _ = record_script(script(source.replace("batches()", "batches(10)")), [], Options(stop_on="error"))
    assert (trace.ended, trace.steps) == (ended, steps)


def test_a_script_that_is_not_there():
    with pytest.raises(MisuseError, match="there is no script"):
        run_script("nowhere.py")


SPAWNED = """
def main():
    model = Net()
    optimizer = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(x, y), 16, num_workers=1, multiprocessing_context="spawn")
    for images, target in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_spawned_workers_do_not_train_again(script):
    done = subprocess.run(
        [sys.executable, "-m", "trivet.doctor", "run", "--json", "-", script(HEAD + SPAWNED)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    assert [finding["name"] for finding in told["findings"]] == ["parameter-not-in-optimizer"]
    assert (done.returncode, told["steps"]) == (FAILED, 4)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["model", "model.encoder"])
def test_a_compiled_model(part, tmp_path):
    source = f"model = Net()\noptimizer = torch.optim.Adam({part}.parameters(), lr=1e-3)\n"
    source += 'fast = torch.compile(model, backend="eager")\n' + LOOP.replace("model(images)", "fast(images)")
    found = [f.name for f in diagnose_source(HEAD + source, tmp_path).findings if f.severity != "note"]
    assert found == (["parameter-not-in-optimizer"] if part == "model.encoder" else [])


def test_scripted_functions_compile_under_the_probe(tmp_path):
    source = """
@torch.jit.script
def act(h: torch.Tensor):
    return F.dropout(F.relu(h), 0.1, False)
print(act(torch.ones(2, 2)).sum())
"""
    diagnosis = diagnose_source(
        HEAD + "import warnings; warnings.simplefilter('ignore')\n" + source, tmp_path
    )
    assert diagnosis.errors == []
