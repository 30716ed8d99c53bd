"""What a finding means: from its check and the table of explanations, as text and as a page."""

import difflib
import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path

from trivet.doctor.causes import CAUSES
from trivet.doctor.checks import CHECKS
from trivet.doctor.explanations import EXPLANATIONS
from trivet.doctor.fixes import FIXES
from trivet.doctor.outputs import MisuseError


def explain(name: str) -> str:
    """Return what is seen, why it hurts, and what to do: the page of a finding.

    Raises:
        MisuseError: If no finding has this name; the message names the nearest.
    """
    if name not in CHECKS:
        near = difflib.get_close_matches(name, CHECKS, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(CHECKS))}"
        raise MisuseError(f"unknown finding {name!r}{guess}")
    told = EXPLANATIONS[name]
    causes = [cause for cause, followed in CAUSES.items() if name in followed]
    parts = [
        f"# {name}",
        f"## What is seen\n\n{inspect.getdoc(CHECKS[name]) or ''}",
        f"## Why it hurts\n\n{told.why}",
    ]
    if told.wrong:
        parts.append(f"## Example\n\n```python\n{snippet(told.wrong)}\n```")
    if told.right:
        parts.append(f"## What to write instead\n\n```python\n{snippet(told.right)}\n```")
    if told.do:
        parts.append(f"## What to do\n\n{told.do}")
    if name in FIXES:
        parts.append(
            "`trivet doctor run --prove` tests the remedy by training again with and without it, on copies."
        )
    if CAUSES.get(name):
        parts.append(f"## What follows from it\n\n{_links(CAUSES[name])}")
    if causes:
        parts.append(f"## What it may follow from\n\n{_links(causes)}")
    return "\n\n".join(parts)


def write_pages(folder: str | Path) -> list[Path]:
    """Write a page for each finding, `NAME.md`, and remove those of findings that are no more."""
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    for page in home.glob("*.md"):
        if page.stem not in CHECKS:
            page.unlink()
    pages = [home / f"{name}.md" for name in CHECKS]
    for page in pages:
        page.write_text(f"{explain(page.stem)}\n", encoding="utf-8")
    return pages


def snippet(text: str) -> str:
    """Return an example without the indentation of the table."""
    return textwrap.dedent(text).strip()


def _links(names: Iterable[str]) -> str:
    return "\n".join(f"- [{name}]({name}.md)" for name in names)
