"""Where a diagnosis goes: text, JSON, SARIF, the trace, and pictures of experiments."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trivet.doctor.diagnosis import Diagnosis
from trivet.doctor.finding import Finding
from trivet.doctor.plot import experiment_svg
from trivet.doctor.sarif import to_sarif
from trivet.doctor.source import short_path
from trivet.doctor.text import wants_colour, write_text
from trivet.doctor.trace import Trace

StopOn = Literal["error", "warning"]


class MisuseError(ValueError):
    """What was asked for cannot be done; the message says why."""


@dataclass(frozen=True)
class Options:
    """How to run, and where to write.

    Args:
        json, sarif, trace: Paths to write to; `-` stands for standard output (of `json` alone).
        stop_on: Severity of a finding that ends the script early.
        steps: Optimizer steps after which the script is ended.
        quiet: Write no text.
        verbose: Name every check that could not be made.
        prove: Judge findings by paired re-training after the script.
        prove_seconds: Budget of time for that.
    """

    json: str | None = None
    sarif: str | None = None
    trace: str | None = None
    stop_on: StopOn | None = None
    steps: int | None = None
    quiet: bool = False
    verbose: bool = False
    prove: bool = False
    prove_seconds: float = 60.0


def checked(options: Options) -> Options:
    """Refuse, before anything runs, what could not be carried out after it.

    Returns:
        The options with absolute paths, since a script may change the working folder.

    Raises:
        MisuseError: If a number makes no sense or a path cannot be written to.
    """
    if options.steps is not None and options.steps < 1:
        raise MisuseError(f"--steps must be at least 1, not {options.steps}")
    if not options.prove_seconds > 0:
        raise MisuseError(f"--prove-seconds must be above 0, not {options.prove_seconds:g}")
    if options.quiet and options.verbose:
        raise MisuseError("--quiet and --verbose exclude each other")
    for name, path in (("json", options.json), ("sarif", options.sarif), ("trace", options.trace)):
        if path is None or (path == "-" and name == "json"):
            continue
        folder = Path(path).parent
        if not folder.is_dir() or Path(path).is_dir() or not os.access(folder, os.W_OK):
            raise MisuseError(f"--{name} {path}: {folder} is no folder that can be written to")
    return replace(
        options,
        json=options.json if options.json == "-" else _absolute(options.json),
        sarif=_absolute(options.sarif),
        trace=_absolute(options.trace),
    )


def write_results(diagnosis: Diagnosis, options: Options, trace: Trace | None = None) -> None:
    """Write the diagnosis: text to standard error, and files where they were asked for."""
    if options.prove:
        diagnosis = replace(diagnosis, findings=[_drawn(finding, options) for finding in diagnosis.findings])
    if not options.quiet:
        text = write_text(diagnosis, verbose=options.verbose, colour=wants_colour(sys.stderr))
        print(f"\n{text}", file=sys.stderr)  # noqa: T201
    if options.json is not None:
        text = json.dumps(diagnosis.to_json(), indent=1, default=str)
        if options.json == "-":
            print(text)  # noqa: T201
        else:
            write_file(options.json, f"{text}\n")
    if options.sarif is not None:
        write_file(options.sarif, json.dumps(to_sarif(diagnosis), indent=1, default=str) + "\n")
    if options.trace is not None and trace is not None:
        trace.write(options.trace)


def write_file(path: str | Path, text: str) -> None:
    """Write a file whole or not at all."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _drawn(finding: Finding, options: Options) -> Finding:
    """Draw the experiment of a finding, beside the files that were asked for, else in the working folder."""
    told = finding.evidence.get("experiment")
    if not isinstance(told, Mapping):
        return finding
    written = next(
        (path for path in (options.json, options.sarif, options.trace) if path not in (None, "-")), "."
    )
    folder = Path(str(written)).parent if written != "." else Path()
    path = folder / f"{finding.name}.proof.svg"
    write_file(path, experiment_svg(told))
    experiment: dict[str, Any] = {**told, "plot": short_path(str(path))}
    return replace(finding, evidence={**finding.evidence, "experiment": experiment})
