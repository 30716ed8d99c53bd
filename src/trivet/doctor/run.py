"""Runs a script unchanged under the probe, and says what is wrong with its training."""

import importlib.util
import io
import os
import runpy
import sys
import traceback
import types
from collections.abc import Sequence
from pathlib import Path

from trivet.doctor.catch import Catch
from trivet.doctor.diagnosis import diagnose_trace
from trivet.doctor.outputs import MisuseError, Options, checked, write_results
from trivet.doctor.probe import Probe
from trivet.doctor.proof import prove_findings
from trivet.doctor.trace import Trace, read_trace

FINE, FAILED = 0, 1
CERTAIN_AFTER = 20
"""Steps before a run may be ended early by a finding; it is looked at again after half as many more each time."""
RANK = {"error": 0, "warning": 1, "note": 2}


class _Stop(BaseException):
    """Ends the script; not an `Exception`, so that the script does not catch it."""


def run_script(
    target: str, arguments: Sequence[str] = (), options: Options | None = None, *, module: bool = False
) -> int:
    """Run a script (or a module) under the doctor; returns the exit code: 0, or 1 for an error or a failed script.

    The script sees its own `sys.argv`, `__name__ == "__main__"`, and its folder first in `sys.path`.

    Raises:
        MisuseError: If there is no such script, or an option makes no sense.
    """
    options = checked(options or Options())
    probe = Probe(poison=True)
    catch = Catch(probe) if options.prove else None
    code = _record(probe, target, arguments, options, module)
    trace = probe.trace()
    diagnosis = diagnose_trace(trace)
    if catch is not None:
        diagnosis = prove_findings(
            diagnosis, catch, options.prove_seconds, tell=None if options.quiet else _tell
        )
    write_results(diagnosis, options, trace)
    return FAILED if diagnosis.errors or code else FINE


def record_script(
    target: str, arguments: Sequence[str] = (), options: Options | None = None, *, module: bool = False
) -> tuple[Trace, int]:
    """Run a script under the probe; returns the trace and the script's own exit code.

    Raises:
        MisuseError: As `run_script` does.
    """
    probe = Probe(poison=True)
    code = _record(probe, target, arguments, checked(options or Options()), module)
    return probe.trace(), code


def replay(path: str, options: Options | None = None) -> int:
    """Diagnose a recorded trace; returns the exit code.

    Raises:
        MisuseError: If the file is not a trace.
    """
    options = checked(options or Options())
    try:
        trace = read_trace(path)
    except ValueError as fault:
        raise MisuseError(str(fault)) from fault
    diagnosis = diagnose_trace(trace)
    write_results(diagnosis, options, trace)
    return FAILED if diagnosis.errors else FINE


def _record(probe: Probe, target: str, arguments: Sequence[str], options: Options, module: bool) -> int:
    """Run a script under a probe; returns its exit code."""
    if not module and not Path(target).is_file():
        raise MisuseError(f"there is no script {target!r}")
    if module and not _is_module(target):
        raise MisuseError(f"there is no module {target!r}")
    probe.script = target
    code, fault = _run(probe, target, arguments, options, module)
    if fault is not None:
        traceback.print_exception(_without_own_frames(fault))
    return code


def _is_module(name: str) -> bool:
    """Whether a module can be run by its name, from the working folder as with `python -m`."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
    finally:
        del sys.path[0]


def _without_own_frames(fault: BaseException) -> BaseException:
    """Drop the doctor's frames at the top of a traceback: it is to begin in the script."""
    step = fault.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename == __file__:
        step = step.tb_next
    return fault.with_traceback(step or fault.__traceback__)


def _run(
    probe: Probe, target: str, arguments: Sequence[str], options: Options, module: bool
) -> tuple[int, BaseException | None]:
    """Run under the probe; returns the script's exit code and what it died of."""
    argv, path, folder = sys.argv, list(sys.path), Path.cwd()
    main = sys.modules.get("__main__")
    sys.argv = [target, *arguments]
    probe.install()
    ending = _Ending(probe, options)
    probe.training.after_step.append(lambda *_: ending.maybe_stop())
    try:
        if module:
            sys.path.insert(0, str(folder))
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
        os.chdir(folder)
        if main is not None:
            sys.modules["__main__"] = main
    return 0, None


def _run_file(target: str) -> None:
    """Run a file as `__main__`, in a module of that name so that its classes can be pickled."""
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=target, __builtins__=__builtins__)
    sys.modules["__main__"] = module
    with io.open_code(str(Path(target).resolve())) as file:
        code = compile(file.read(), str(Path(target).resolve()), "exec")
    exec(code, module.__dict__)


class _Ending:
    """Ends a script after a number of steps, or when a finding is certain."""

    def __init__(self, probe: Probe, options: Options) -> None:
        self._probe, self._options = probe, options
        self._next = CERTAIN_AFTER

    def maybe_stop(self) -> None:
        """After a step; raises `_Stop` to end the script."""
        probe, options, steps = self._probe, self._options, self._probe.session.steps
        if options.steps is not None and steps >= options.steps:
            probe.ended = "steps"
            raise _Stop
        if options.stop_on is None or steps < self._next:
            return
        self._next = steps + max(CERTAIN_AFTER, steps // 2)
        probe.ended = "stopped"
        with probe.session.measured():
            found = diagnose_trace(probe.trace()).findings
        if any(RANK[finding.severity] <= RANK[options.stop_on] for finding in found):
            raise _Stop
        probe.ended = "whole"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _exit_code(leave: SystemExit) -> int:
    if leave.code is None:
        return 0
    if isinstance(leave.code, int):
        return leave.code
    print(leave.code, file=sys.stderr)  # noqa: T201
    return FAILED
