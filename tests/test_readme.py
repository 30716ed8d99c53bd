"""The examples of README, then those of the pages on training and boxes, run as they are printed, in one empty folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
PAGES = (README, *(README.parent / "docs" / name for name in ("training.md", "detection.md")))
EXAMPLES = [
    code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
]


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    assert len(EXAMPLES) >= 8
    for number, code in enumerate(EXAMPLES, 1):
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"example {number}:\n{code}\n{done.stderr}"


def test_readme_stays_short_and_its_links_lead_somewhere():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (README.parent / target).exists(), target
