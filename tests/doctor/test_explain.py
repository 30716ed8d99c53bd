"""One page a finding, kept equal to the table."""

from pathlib import Path

import pytest
import torch

from trivet.doctor.__main__ import MISUSED, main
from trivet.doctor.checks import CHECKS
from trivet.doctor.explain import explain, snippet, write_pages
from trivet.doctor.explanations import EXPLANATIONS
from trivet.doctor.outputs import MisuseError

PAGES = Path(__file__).resolve().parents[2] / "docs" / "doctor"


def test_every_finding_has_its_page():
    found = {page.stem: page.read_text() for page in PAGES.glob("*.md")}
    wanted = {name: f"{explain(name)}\n" for name in CHECKS}
    stale = sorted({name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)})
    assert not stale, f"run: python -m trivet.doctor explain --write docs/doctor  (stale: {stale})"


def test_a_page_has_its_parts():
    page = explain("parameter-not-in-optimizer")
    heads = [line for line in page.splitlines() if line.startswith("#")]
    assert heads[:6] == [
        "# parameter-not-in-optimizer",
        "## What is seen",
        "## Why it hurts",
        "## Example",
        "## What to write instead",
        "## What to do",
    ]
    assert "optimizer = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)" in page


def test_pages_of_findings_that_are_no_more_are_removed(tmp_path):
    (tmp_path / "no-such-finding.md").write_text("old")
    assert {page.stem for page in write_pages(tmp_path)} == {page.stem for page in tmp_path.iterdir()}


def test_an_unknown_finding_is_refused_with_the_nearest():
    with pytest.raises(MisuseError, match="did you mean 'missing-zero-grad'"):
        explain("mising-zero-grad")


def test_a_name_and_a_folder_do_not_go_together(tmp_path, capsys):
    assert main(["explain"]) == MISUSED
    assert main(["explain", "non-finite", "--write", str(tmp_path)]) == MISUSED
    assert "either the NAME of a finding or --write FOLDER" in capsys.readouterr().err
    assert main(["explain", "non-finite"]) == 0
    assert capsys.readouterr().out.startswith("# non-finite\n")


SETTING = """
import numpy as np, torch, torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
model = nn.Sequential()
model.encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
model.head = nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
images, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % 4
dataset = TensorDataset(images, labels)
loader = val_loader = [(images[:4], labels[:4]), (images[4:], labels[4:])]
"""
RAISE = {"inplace-on-saved-tensor", "loss-detached", "label-out-of-range"}


@pytest.mark.parametrize("name", [name for name in EXPLANATIONS if EXPLANATIONS[name].wrong])
@pytest.mark.filterwarnings("ignore")
def test_examples_run(name):
    """The right lines run; the wrong ones do as well, but for those whose fault is an exception."""
    torch.manual_seed(0)
    for lines in (EXPLANATIONS[name].wrong, EXPLANATIONS[name].right):
        scope = {}
        exec(SETTING, scope)
        if lines is EXPLANATIONS[name].wrong and name in RAISE:
            with pytest.raises((RuntimeError, IndexError)):
                exec(snippet(lines), scope)
        else:
            exec(snippet(lines), scope)


def test_explanations_are_whole():
    for name, told in EXPLANATIONS.items():
        assert told.why.endswith("."), name
        assert told.do.endswith("."), name
        assert bool(told.wrong) == bool(told.right), name
        assert told.wrong != told.right or not told.wrong, name
        assert max(map(len, [*told.wrong.splitlines(), *told.right.splitlines(), ""])) <= 130, name
