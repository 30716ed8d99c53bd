import ast
from pathlib import Path

import pytest

import trivet.data
from trivet.data.problems import PROBLEMS, problem, refuse
from trivet.errors import DataError


def test_every_kind_says_what_it_means_and_what_is_done():
    for name, kind in PROBLEMS.items():
        assert name == name.lower().replace(" ", "-")
        assert kind.meaning, name
        assert kind.action, name


def test_every_kind_is_reported_somewhere_and_every_report_is_of_a_known_kind():
    literals = set()
    for path in Path(trivet.data.__path__[0]).rglob("*.py"):
        if path.name != "problems.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            literals |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert set(PROBLEMS) <= literals


def test_a_problem_carries_its_kinds_action():
    found = problem("clipped-box", "a.json", "annotation 3")
    assert found.action == "clipped"
    assert str(found) == "clipped-box: a.json: annotation 3 (clipped)"


def test_what_loses_nothing_does_not_stop():
    refuse([])
    refuse([problem(name, "a.json", "x") for name, kind in PROBLEMS.items() if not kind.stops])


def test_what_loses_something_stops_and_the_first_are_named():
    found = [problem("zero-area-box", f"{i}.xml", "object 1") for i in range(12)]
    with pytest.raises(
        DataError,
        match=r"has 12 faults:\n  zero-area-box: 0\.xml: object 1\n(.*\n)*  \.\.\. and 2 more\nmend them",
    ):
        refuse(found)
