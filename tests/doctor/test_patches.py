"""Patches apply to the user's file as `patch` applies them, and mend it."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.doctor.programs import PROGRAMS
from tests.doctor.programs_signals import SIGNAL_PROGRAMS
from tests.doctor.test_faults import diagnose_source
from trivet.doctor import patches
from trivet.doctor.source import Place

PATCHED = {
    "parameter-not-in-optimizer",
    "parameter-without-gradient",
    "unregistered-module",
    "repeated-module",
    "uninitialised-parameter",
    "frozen-part-changes",
    "fake-freeze",
    "inplace-on-saved-tensor",
    "missing-zero-grad",
    "probabilities-into-cross-entropy",
    "sigmoid-before-bce-with-logits",
    "loss-broadcast",
    "batchnorm-momentum",
    "graph-retained",
    "random-in-eval",
}
"""Findings whose programs here are mended by the patch that is offered."""

FORMS = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = [nn.Linear(width, width) for _ in range(3)]
        self.norm = nn.BatchNorm1d(
            width,
            momentum=0.99,  # as in the paper
        )

    def forward(self, x):
        return self.norm(x).softmax(dim=1), nn.Softmax(dim=1)
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "script.py"
    file.write_text(text)
    return file


def applied(folder: Path, patch: str, script: Path) -> str:
    """The text of the script after `patch -p1` in its folder."""
    name = str(script).lstrip("/")
    patch = patch.replace(f"a/{name}", f"a/{script.name}").replace(f"b/{name}", f"b/{script.name}")
    done = subprocess.run(
        ["patch", "-p1", "--fuzz=0"], cwd=folder, input=patch, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return script.read_text()


def place(file: Path, text: str) -> Place:
    line = next(i for i, row in enumerate(file.read_text().splitlines(), 1) if text in row)
    return Place(str(file), line, text)


def test_a_keyword_inside_a_statement_of_several_lines_is_replaced_alone(tmp_path):
    file = written(tmp_path, FORMS)
    patch = patches.replace_keyword(place(file, "nn.BatchNorm1d("), "momentum", 0.99, "0.01")
    assert patch is not None
    assert applied(tmp_path, patch, file) == FORMS.replace("0.99,", "0.01,")


def test_a_call_gives_way_to_its_object_and_a_layer_to_identity(tmp_path):
    file = written(tmp_path, FORMS)
    here = place(file, "return self.norm")
    patch = patches.replace_expression(here, patches.without_call("softmax"))
    assert patch is not None
    assert "return (self.norm(x), nn.Softmax(dim=1))" not in patch
    assert "return self.norm(x), nn.Softmax(dim=1)" in applied(tmp_path, patch, file)
    file = written(tmp_path, FORMS)
    patch = patches.replace_expression(here, patches.without_layer("Softmax"))
    assert patch is not None
    assert "self.norm(x).softmax(dim=1), nn.Identity()" in applied(tmp_path, patch, file)


def test_numbers_keep_the_spelling_of_the_file_and_new_ones_their_own(tmp_path):
    text = "1e-3 * 7\noptimizer = SGD(part(0x10), lr=1e-3)\n"

    def edit(node):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SGD":
            node.args[0] = ast.parse("0.25 + whole(16)", mode="eval").body
            return node
        return None

    file = written(tmp_path, text)
    patch = patches.replace_expression(place(file, "optimizer ="), edit)
    assert applied(tmp_path, patch, file) == "1e-3 * 7\noptimizer = SGD(0.25 + whole(16), lr=1e-3)\n"


def test_a_line_is_inserted_before_the_whole_statement(tmp_path):
    file = written(tmp_path, FORMS)
    patch = patches.insert_line(place(file, "momentum=0.99"), "width = 2 * width")
    assert patch is not None
    lines = applied(tmp_path, patch, file).splitlines()
    at = lines.index("        self.norm = nn.BatchNorm1d(")
    assert lines[at - 1] == "        width = 2 * width"


@pytest.mark.parametrize(
    ("name", "known"), [("nn", False), ("width", True), ("x", False), ("Net", False), ("self", True)]
)
def test_variables_of_the_place_are_known(tmp_path, name, known):
    file = written(tmp_path, FORMS)
    assert patches.is_bound(place(file, "self.layers"), name) is known


def test_nothing_is_patched_where_there_is_nothing(tmp_path):
    gone = Place(str(tmp_path / "gone.py"), 3, "x")
    assert patches.replace_statement(gone, "pass") is None
    assert patches.insert_line(None, "pass") is None
    file = written(tmp_path, FORMS)
    assert patches.replace_keyword(place(file, "nn.BatchNorm1d("), "momentum", 0.5, "0.1") is None
    assert patches.replace_statement(place(file, "self.layers"), "this is no statement") is None


@pytest.mark.parametrize(
    ("line", "alias"),
    [
        ("from torch import nn", "nn"),
        ("import torch.nn as n", "n"),
        ("import torch.nn", "torch.nn"),
        ("import torch as t", "t.nn"),
        ("import math", None),
    ],
)
def test_the_name_of_torch_nn_is_found(tmp_path, line, alias):
    assert patches.alias_of_nn(str(written(tmp_path, f"{line}\nx = 1\n"))) == alias


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len([*PROGRAMS, *SIGNAL_PROGRAMS])))
def test_a_patched_program_has_the_fault_no_longer(index, tmp_path):
    program = [*PROGRAMS, *SIGNAL_PROGRAMS][index]
    found = diagnose_source(program.faulty, tmp_path).findings[0]
    if found.patch is None:
        pytest.skip("no patch is offered")
    text = applied(tmp_path, found.patch, tmp_path / "script.py")
    again = diagnose_source(text, tmp_path).findings
    assert program.finding not in {finding.name for finding in again if finding.severity != "note"}


@pytest.mark.slow
def test_the_findings_that_are_patched(tmp_path):
    offered = set()
    for program in [*PROGRAMS, *SIGNAL_PROGRAMS]:
        if program.finding in PATCHED - offered:
            found = diagnose_source(program.faulty, tmp_path).findings[0]
            offered |= {found.name} if found.patch else set()
    assert offered == PATCHED
