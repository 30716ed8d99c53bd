"""One page a finding, kept equal to the table."""

from pathlib import Path

import pytest

from trivet.doctor.__main__ import MISUSED, main
from trivet.doctor.checks import CHECKS
from trivet.doctor.explain import explain, write_pages
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
    assert heads[:4] == [
        "# parameter-not-in-optimizer",
        "## What is seen",
        "## Why it hurts",
        "## Example",
    ]
    assert "opt = Adam(model.encoder.parameters())" in page


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
