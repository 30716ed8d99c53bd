"""The one exception type for users' mistakes, and builders of its messages.

Every message says what was given, what is wanted and what to do: the first line is the fault, `hint` the
way out. The command line prints them as `error:` and `hint:`.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UsageError(ValueError):
    """Something the user gave cannot be used.

    Args:
        message: What was given and what is wanted, with the offending value.
        hint: What to do about it, or `None` when the message says it already.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint


class DataError(UsageError):
    """A file of a data set cannot be used; the message names the file."""


class StorageError(RuntimeError):
    """A file cannot be written: the disk is full, say, or the folder is read-only.

    Args:
        message: The file, and the system's reason.
        hint: What to do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint


class TrainingError(RuntimeError):
    """Training cannot go on, though what the user gave was well formed (a loss that is not finite, say).

    Args:
        message: What happened, with its numbers.
        hint: What to do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n{hint}")
        self.message = message
        self.hint = hint


class ExportError(TrainingError):
    """An exported file does not say what the model says, or has lost more than it may."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or `None` when none is close."""
    matches = difflib.get_close_matches(name.lower(), {item.lower(): item for item in known}, n=1, cutoff=0.5)
    if not matches:
        return None
    return next(item for item in known if item.lower() == matches[0])


def unknown_name(kind: str, name: str, known: Iterable[str], *, most: int = 40) -> UsageError:
    """Build the error for a name that is in no table: the nearest name, then the list.

    Args:
        kind: What the name stands for, as a noun: `neck`, `recipe key`.
        name: What was given.
        known: The names there are.
        most: How many names the list shows before it is cut.

    Example:
        >>> print(unknown_name("neck", "bifnp", ["bifpn", "fpn"]))
        unknown neck 'bifnp'; did you mean 'bifpn'?
        known: bifpn, fpn
    """
    known = sorted(known)
    near = nearest(name, known)
    shown = ", ".join(known[:most]) + (f", ... ({len(known)} in all)" if len(known) > most else "")
    question = f"; did you mean {near!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}{question}", f"known: {shown}")


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return what a table has under a name.

    Raises:
        UsageError: If it has no such name; see `unknown_name`.
    """
    if name not in table:
        raise unknown_name(kind, name, table)
    return table[name]
