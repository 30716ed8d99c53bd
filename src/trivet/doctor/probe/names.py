"""How the user's code calls things: the variable that holds a model or an optimizer."""

from collections.abc import Iterable
from typing import Any

from trivet.doctor.source import user_frames


def variables_that_hold(things: Iterable[Any]) -> dict[int, str]:
    """Return, by id, the name under which the frames that lead here hold each thing.

    Locals come before globals, and an attribute of a held object (`self.model`) comes last.
    """
    wanted = {id(thing) for thing in things}
    found: dict[int, str] = {}
    for frame in user_frames():
        for scope in (frame.f_locals, frame.f_globals):
            for name, value in list(scope.items()):
                if id(value) in wanted and not name.startswith("_") and name != "self":
                    found.setdefault(id(value), name)
        holder = frame.f_locals.get("self")
        for name, value in list(getattr(holder, "__dict__", {}).items()):
            if id(value) in wanted:
                found.setdefault(id(value), name)
        if len(found) == len(wanted):
            break
    return found
