"""Options that several verbs share, and how their values are read."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from trivet.errors import UsageError

JsonPath = Annotated[
    str | None,
    typer.Option("--json", metavar="PATH", help="Write the result as JSON; - writes to standard output."),
]


def write_json_option(path: str | None, content: Any) -> None:
    """Write JSON where `--json` says.

    Raises:
        UsageError: If the file cannot be written.
    """
    if path is None:
        return
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text)
    except OSError as fault:
        raise UsageError(f"cannot write {path}: {fault.strerror}", "give --json another path") from fault


def show(content: RenderableType) -> None:
    """Print to standard output, as wide as the terminal, or 100 characters where there is none."""
    width = None if Console().is_terminal else 100
    Console(highlight=False, width=width).print(content)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read `512` (square) or `384x512` (height x width).

    Raises:
        UsageError: If the text is something else.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 32 <= int(part) <= 8192 for part in parts):
        raise UsageError(
            f"--size is a number of pixels from 32 to 8192, got {text!r}", "--size 512 or --size 384x512"
        )
    return int(parts[0]), int(parts[-1])


def parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    """Read `--set train.lr=0.001` pairs; values are JSON, or text where they are not.

    Of a key that is a table one entry can be set: `model.options.width=0.25`.

    Raises:
        UsageError: If a pair has no `=`, or an entry is set of what was given as no table.
    """
    values: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set takes KEY=VALUE, got {pair!r}", "--set train.lr=0.001")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        section, *names = key.strip().split(".", 2)
        if len(names) < 2:
            values[key.strip()] = value
            continue
        table = values.setdefault(f"{section}.{names[0]}", {})
        if not isinstance(table, dict):
            raise UsageError(
                f"--set {pair}: {section}.{names[0]} was given as {table!r}, which has no entries",
                "give the entries alone",
            )
        table[names[1]] = value
    return values


_UNITS = {
    "": 1 << 30,
    "b": 1,
    "kb": 1 << 10,
    "kib": 1 << 10,
    "mb": 1 << 20,
    "mib": 1 << 20,
    "gb": 1 << 30,
    "gib": 1 << 30,
}


def parse_memory(text: str | None) -> int | None:
    """Read `8GB`, `11.5GiB` or `900MB` as bytes; graphics cards are sold in units of 1024, so both spellings mean those.

    Raises:
        UsageError: If the text is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS or float(match[1]) <= 0:
        raise UsageError(f"--memory is a number with a unit, got {text!r}", "--memory 8GB")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_parts(text: str | None) -> tuple[str, ...] | None:
    """Read `backbone,neck,head`."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
