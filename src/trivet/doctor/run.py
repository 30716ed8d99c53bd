"""Runs a script unchanged under the probe, and says what is wrong with its training."""

import io
import json
import runpy
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trivet.doctor.diagnosis import Diagnosis, diagnose_trace
from trivet.doctor.probe import Probe
from trivet.doctor.sarif import to_sarif
from trivet.doctor.text import write_text
from trivet.doctor.trace import Trace, read_trace

FINE, FAILED = 0, 1
CERTAIN_AFTER = 20
"""Steps before a run may be ended early by a finding."""
RANK = {"error": 0, "warning": 1, "note": 2}

StopOn = Literal["error", "warning"]


class MisuseError(ValueError):
    """What was asked for cannot be done; the message says why."""


class _Stop(BaseException):
    """Ends the script; not an `Exception`, so that the script does not catch it."""


@dataclass(frozen=True)
class Options:
    """How to run, and where to write.

    Args:
        json, sarif, trace: Paths to write to; `-` stands for standard output (of `json` alone).
        stop_on: Severity of a finding that ends the script early.
        steps: Optimizer steps after which the script is ended.
        quiet: Write no text.
    """

    json: str | None = None
    sarif: str | None = None
    trace: str | None = None
    stop_on: StopOn | None = None
    steps: int | None = None
    quiet: bool = False


def run_script(
    target: str, arguments: Sequence[str] = (), options: Options | None = None, *, module: bool = False
) -> int:
    """Run a script (or a module) under the doctor; returns the exit code: 0, or 1 for an error or a failed script.

    The script sees its own `sys.argv`, `__name__ == "__main__"`, and its folder first in `sys.path`.

    Raises:
        MisuseError: If there is no such script, or an option makes no sense.
    """
    options = options or Options()
    trace, code = record_script(target, arguments, options, module=module)
    diagnosis = diagnose_trace(trace)
    write_results(diagnosis, trace, options)
    return FAILED if diagnosis.errors or code else FINE


def record_script(
    target: str, arguments: Sequence[str] = (), options: Options | None = None, *, module: bool = False
) -> tuple[Trace, int]:
    """Run a script under the probe; returns the trace and the script's own exit code.

    Raises:
        MisuseError: As `run_script` does.
    """
    options = options or Options()
    if not module and not Path(target).is_file():
        raise MisuseError(f"there is no script {target!r}")
    if options.steps is not None and options.steps < 1:
        raise MisuseError(f"--steps must be at least 1, not {options.steps}")
    probe = Probe(poison=True)
    probe.script = target
    code, fault = _run(probe, target, arguments, options, module)
    if fault is not None:
        traceback.print_exception(fault)
    return probe.trace(), code


def replay(path: str, options: Options | None = None) -> int:
    """Diagnose a recorded trace; returns the exit code.

    Raises:
        MisuseError: If the file is not a trace.
    """
    try:
        trace = read_trace(path)
    except ValueError as fault:
        raise MisuseError(str(fault)) from fault
    diagnosis = diagnose_trace(trace)
    write_results(diagnosis, trace, options or Options())
    return FAILED if diagnosis.errors else FINE


def write_results(diagnosis: Diagnosis, trace: Trace, options: Options) -> None:
    """Write the diagnosis: text to standard error, and files where they were asked for."""
    if not options.quiet:
        print(f"\n{write_text(diagnosis)}", file=sys.stderr)  # noqa: T201
    if options.json is not None:
        text = json.dumps(diagnosis.to_json(), indent=1, default=str)
        if options.json == "-":
            print(text)  # noqa: T201
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.sarif is not None:
        Path(options.sarif).write_text(
            json.dumps(to_sarif(diagnosis), indent=1, default=str), encoding="utf-8"
        )
    if options.trace is not None:
        trace.write(options.trace)


def _run(
    probe: Probe, target: str, arguments: Sequence[str], options: Options, module: bool
) -> tuple[int, BaseException | None]:
    """Run under the probe; returns the script's exit code and what it died of."""
    argv, path = sys.argv, list(sys.path)
    main = sys.modules.get("__main__")
    sys.argv = [target, *arguments]
    probe.install()
    probe.training.after_step.append(lambda *_: _maybe_stop(probe, options))
    try:
        if module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(target).resolve().parent))
            _run_file(target)
    except _Stop:
        return 0, None
    except SystemExit as leave:
        return _exit_code(leave), None
    except KeyboardInterrupt:
        probe.ended = "interrupted"
        return FAILED, None
    except BaseException as fault:
        probe.exception = fault
        return FAILED, fault
    finally:
        probe.remove()
        sys.argv, sys.path[:] = argv, path
        if main is not None:
            sys.modules["__main__"] = main
    return 0, None


def _run_file(target: str) -> None:
    """Run a file as `__main__`, in a module of that name so that its classes can be pickled."""
    import types

    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=target, __builtins__=__builtins__)
    sys.modules["__main__"] = module
    with io.open_code(str(Path(target).resolve())) as file:
        code = compile(file.read(), str(Path(target).resolve()), "exec")
    exec(code, module.__dict__)


def _maybe_stop(probe: Probe, options: Options) -> None:
    steps = probe.session.steps
    if options.steps is not None and steps >= options.steps:
        probe.ended = "steps"
        raise _Stop
    if options.stop_on is None or steps < CERTAIN_AFTER or steps % CERTAIN_AFTER:
        return
    probe.ended = "stopped"
    found = diagnose_trace(probe.trace()).findings
    if any(RANK[finding.severity] <= RANK[options.stop_on] for finding in found):
        raise _Stop
    probe.ended = "whole"


def _exit_code(leave: SystemExit) -> int:
    if leave.code is None:
        return 0
    if isinstance(leave.code, int):
        return leave.code
    print(leave.code, file=sys.stderr)  # noqa: T201
    return FAILED
