"""What a finding means: from its check."""

import difflib
import inspect

from trivet.doctor.checks import CHECKS
from trivet.doctor.explanations import EXPLANATIONS
from trivet.doctor.run import MisuseError


def explain(name: str) -> str:
    """Return what is seen, why it hurts, and what to do.

    Raises:
        MisuseError: If no finding has this name; the message names the nearest.
    """
    if name not in CHECKS:
        near = difflib.get_close_matches(name, CHECKS, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(CHECKS))}"
        raise MisuseError(f"unknown finding {name!r}{guess}")
    seen = inspect.getdoc(CHECKS[name]) or ""
    why, wrong, right = EXPLANATIONS[name]
    return f"{name}\n\n{seen}\n\nwhy it hurts\n  {why}\n\nexample\n  {wrong}\n\ninstead\n  {right}"
