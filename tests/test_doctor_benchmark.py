"""The doctor's benchmark describes its programs truly and judges what a doctor says rightly."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "doctor"


@pytest.fixture
def benchmark(monkeypatch):
    """The modules corpus, doctors and score."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return [importlib.import_module(name) for name in ("corpus", "doctors", "score")]


def test_description_is_true(benchmark):
    corpus = benchmark[0]
    programs = corpus.load()
    assert list(corpus.problems(programs)) == []
    kinds = [program.kind for program in programs]
    assert kinds.count("faulty") == kinds.count("fixed") >= 60
    assert kinds.count("healthy") >= 40
    assert {"plain", "lightning", "accelerate"} <= {program.loop for program in programs}


def test_a_moved_line_is_noticed(benchmark):
    corpus = benchmark[0]
    program = next(program for program in corpus.load() if program.kind == "faulty")
    text = program.path.read_text()
    assert list(corpus.faulty_problems(program, text)) == []
    assert any("is not" in problem for problem in corpus.faulty_problems(program, "\n\n\n" + text))


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ([], (False, False, False)),
        ([("cause", 10)], (True, True, True)),
        ([("cause", 14)], (True, True, False)),
        ([("cause", None)], (True, True, False)),
        ([("other", 10), ("cause", 13)], (True, False, True)),
        ([("synonym", 7)], (True, True, True)),
        ([("other", 10)], (False, False, False)),
    ],
)
def test_verdicts(benchmark, said, verdict):
    corpus, doctors, score = benchmark
    program = corpus.Program(
        name="p",
        kind="faulty",
        path=Path("p.py"),
        about="",
        task="",
        loop="",
        expect="cause",
        accept=("synonym",),
        structural=True,
        places=(corpus.Place(10, ""),),
    )
    findings = [doctors.Said((name,), "error", "somewhere/p.py", line) for name, line in said]
    judged = score.judge(program, findings)
    assert (judged.found, judged.first, judged.line) == verdict


def test_a_line_of_another_file_does_not_count(benchmark):
    corpus, doctors, score = benchmark
    program = next(program for program in corpus.load() if program.kind == "faulty" and program.structural)
    finding = doctors.Said((program.expect,), "error", "elsewhere.py", program.places[0].line)
    assert score.judge(program, [finding]) == score.Verdict(found=True, first=True, line=False)


def test_what_peers_say_is_translated_into_our_names(benchmark):
    corpus, doctors, _ = benchmark
    ours = {name for program in corpus.load() for name in program.names if name}
    for doctor in doctors.DOCTORS.values():
        for names in (doctor.meaning or {}).values():
            assert set(names) <= ours
