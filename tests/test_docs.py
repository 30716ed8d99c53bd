"""What the documents say is what the tables hold."""

from pathlib import Path

import pytest

from trivet.data.problems import PROBLEMS
from trivet.data.sources import SOURCES
from trivet.recipe.recipe import known_keys

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_fault_of_a_data_set_is_described(name):
    kind = PROBLEMS[name]
    line = f"| `{name}` | {kind.meaning} | {kind.action} | {'refused' if kind.stops else 'the same'} |"
    assert line in (DOCS / "data.md").read_text()


def test_every_format_is_described():
    text = (DOCS / "data.md").read_text()
    assert all(f"| `{name}` |" in text for name in SOURCES)


def test_every_recipe_key_in_the_documents_exists():
    words = {word for page in DOCS.glob("*.md") for word in page.read_text().split("`")}
    sections = {key.split(".")[0] for key in known_keys()}
    named = {
        w.split(" ")[0].split("=")[0] for w in words if w.split(".")[0] in sections and w.count(".") == 1
    }
    keys = {
        w for w in named if w.replace(".", "").replace("_", "").isalpha() and not w.endswith((".py", ".md"))
    }
    assert keys <= known_keys().keys()
    assert len(keys) >= 4
