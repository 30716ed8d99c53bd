"""Runs programs under a doctor in forks of one interpreter that has loaded the large packages already.

`python warm.py DOCTOR` reads lines of JSON, `{"program": PATH, "out": PATH, "seconds": LIMIT}`, and answers each with
`{"exit": CODE, "seconds": PROCESSOR_SECONDS, "tail": TEXT}`. Each program has a process, a folder and standard streams
of its own, as when it is started from a shell; only the packages are there already.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent


PACKAGES = (
    "numpy", "PIL.Image", "sklearn.datasets", "sklearn.model_selection", "torch.utils.data", "torchvision.models",
    "torchvision.transforms.v2",
)  # fmt: skip


def load_packages() -> None:
    """Import what most programs import."""
    for name in PACKAGES:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


def work(doctor: str, program: str, out: str) -> int:
    """Run a program under a doctor, or under none, in this process; returns the exit code."""
    if doctor == "none":
        sys.argv = [program]
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
        return 0
    if doctor == "trivet":
        from trivet.doctor.run import Options, run_script

        return run_script(program, [], Options(quiet=True, json=out))
    sys.argv = [str(HERE / "peer_run.py"), doctor, out, program]
    sys.path.insert(0, str(HERE))
    import peer_run

    peer_run.main()
    return 0


def in_fork(doctor: str, program: str, out: str, limit: float) -> tuple[int, float, str]:
    """Run a program in a fork; returns exit code, processor seconds and the end of its standard error."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            os.chdir(folder)
            told, errors = (os.open(Path(folder, name), os.O_CREAT | os.O_RDWR) for name in ("out", "err"))
            os.dup2(told, 1)
            os.dup2(errors, 2)
            code = 1
            try:
                code = work(doctor, program, out)
            except SystemExit as leave:
                code = leave.code if isinstance(leave.code, int) else bool(leave.code)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        until = time.monotonic() + limit
        ended, status, usage = os.wait4(child, os.WNOHANG)
        while not ended:
            if time.monotonic() > until:
                os.killpg(child, signal.SIGKILL)
                ended, status, usage = os.wait4(child, 0)
                break
            time.sleep(0.1)
            ended, status, usage = os.wait4(child, os.WNOHANG)
        tail = Path(folder, "err").read_text(errors="replace")[-400:]
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, tail


def main() -> None:
    load_packages()
    for line in sys.stdin:
        asked = json.loads(line)
        code, seconds, tail = in_fork(sys.argv[1], asked["program"], asked["out"], asked["seconds"])
        print(json.dumps({"exit": code, "seconds": seconds, "tail": tail}), flush=True)


if __name__ == "__main__":
    main()
