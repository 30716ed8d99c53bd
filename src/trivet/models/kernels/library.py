"""The compiled kernels: built once with the system's C compiler, kept in the user's cache, loaded into this process.

OpenMP is compiled in but not linked: its symbols are found in the library that torch has loaded, so that the kernels run
on torch's own threads and no second pool of them waits beside it.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch  # noqa: F401  loads the OpenMP library, whose symbols the kernels need

SWITCH = "TRIVET_KERNELS"
"""Environment variable: 0 keeps PyTorch's operators."""

_FOLDER = Path(__file__).parent
_FLAGS = (
    *("-O3", "-march=native", "-std=c11", "-fPIC", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),  # none changes what nan and inf do
    *("--param", "vect-epilogues-nomask=0"),  # a third less to compile
    "-fno-thread-jumps",  # a clamp stays two selections instead of three branches
)
_COMPILE_SECONDS = 120.0

_INT, _LONG, _FLOAT, _DOUBLE, _POINTER = (
    ctypes.c_int,
    ctypes.c_long,
    ctypes.c_float,
    ctypes.c_double,
    ctypes.c_void_p,
)
_SIGNATURES = {
    "trivet_moments": (_POINTER, _LONG, _LONG, _POINTER, _INT),
    "trivet_settle": (_POINTER, _LONG, _LONG, _POINTER, _DOUBLE, _DOUBLE, _POINTER, _POINTER, _POINTER),
    "trivet_apply": (_POINTER, _POINTER, _POINTER, _LONG, _INT),
    "trivet_pool": (_POINTER, _LONG, _POINTER, _INT),
    "trivet_norm_sums": (_POINTER, _POINTER, _LONG, _POINTER, _INT),
    "trivet_norm_gradients": (_POINTER, _POINTER, _LONG, _LONG, _POINTER, _POINTER, _POINTER),
    "trivet_norm_backward": (_POINTER, _POINTER, _INT, _LONG, _POINTER, _INT),
    "trivet_depthwise": (*(_POINTER,) * 5, _INT),
    "trivet_depthwise_backward": (*(_POINTER,) * 8, _INT),
    "trivet_focal": (_POINTER, _POINTER, _LONG, _FLOAT, _FLOAT, _POINTER, _INT),
    "trivet_fuse": (*(_POINTER,) * 4, _INT, _FLOAT, _INT),
    "trivet_fuse_backward": (*(_POINTER,) * 6, _INT, _FLOAT, _INT),
    "trivet_normalise": (*(_POINTER,) * 4, _LONG, _LONG, _INT),
    "trivet_count_above": (_POINTER, _LONG, _FLOAT, _POINTER, _INT),
    "trivet_find_above": (_POINTER, _LONG, _FLOAT, _POINTER, _POINTER),
    "trivet_has_infinite": (_POINTER, _LONG, _INT),
    "trivet_lanes": (),
    "trivet_pack": (_POINTER, _LONG, _LONG, _POINTER),
    "trivet_turn": (_POINTER, _LONG, _LONG, _POINTER),
    "trivet_evaluate": (_POINTER, _LONG, _POINTER, _POINTER, _LONG, _POINTER, _POINTER, _LONG, _LONG, _INT),
    "trivet_pointwise": (*(_POINTER,) * 4, _LONG, _LONG, _POINTER, _INT),
    "trivet_pointwise_backward": (*(_POINTER,) * 4, _LONG, *(_POINTER,) * 5, _INT),
}


class _UnavailableError(Exception):
    """Why there are no kernels, as the end of a sentence."""


@dataclass(frozen=True)
class _Loaded:
    """The library, or why there is none."""

    functions: ctypes.CDLL | None
    status: str


class Nothing:
    """Stands in for the library where tensors have no values: every kernel returns at once, without an error."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        """Return a kernel."""
        return lambda *_: 0


STAND_IN: ContextVar[Nothing | None] = ContextVar("STAND_IN", default=None)
"""What takes the library's place, see `planned`."""


def kernels() -> Any:
    """Return the compiled kernels, built if need be, or `None` where PyTorch's operators must do."""
    return STAND_IN.get() or _load_once().functions


def kernels_status() -> str:
    """Say in one sentence whether training on a CPU uses the compiled kernels, and if not, why."""
    return _load_once().status


@functools.cache
def _load_once() -> _Loaded:
    try:
        return _Loaded(_load(), "Training on a CPU uses Trivet's compiled kernels.")
    except _UnavailableError as reason:
        return _Loaded(None, f"Training on a CPU uses PyTorch's own operators: {reason}.")


def _load() -> ctypes.CDLL:
    if os.environ.get(SWITCH, "1") == "0":
        raise _UnavailableError(f"{SWITCH}=0 is set")
    if not sys.platform.startswith("linux"):
        raise _UnavailableError(f"the compiled kernels are for Linux, not {platform.system()}")
    compiler = _compiler()
    folder = _cache_folder()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="trivet-kernels-") as private:
            return _open(_build(compiler, Path(private) / "kernels.so"))
    file = folder / f"kernels-{_key(compiler)}.so"
    if _is_whole(file):
        try:
            return _open(file)
        except _UnavailableError:
            pass  # built for another loader: build it again
    return _open(_build(compiler, file))


def _compiler() -> str:
    for name in (os.environ.get("CC", ""), "gcc", "cc"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise _UnavailableError("there is no C compiler (gcc or cc)")


def cache_folder() -> Path:
    """Return where built kernels are kept: `$XDG_CACHE_HOME/trivet/kernels`, else `~/.cache/trivet/kernels`."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "trivet" / "kernels"


def _cache_folder() -> Path | None:
    """Return the cache folder if this user alone can write there."""
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a user without a home
        return None
    return folder if _is_ours_alone(folder) and os.access(folder, os.W_OK) else None


def _is_ours_alone(path: Path) -> bool:
    facts = path.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022


def _sources() -> list[Path]:
    return sorted(_FOLDER.glob("*.c"))


def _key(compiler: str) -> str:
    """Return a name for what the built file depends on: the sources, the flags, the compiler and the processor."""
    digest = hashlib.sha256()
    for source in (*_sources(), *sorted(_FOLDER.glob("*.h"))):
        digest.update(source.read_bytes())
    version = _run([compiler, "--version"])
    digest.update(repr((_FLAGS, compiler, version, platform.machine(), _processor())).encode())
    return digest.hexdigest()[:24]


def _processor() -> str:
    """Return what `-march=native` looks at: the processor's model and features."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return platform.processor()
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted) and "MHz" not in line)


def _build(compiler: str, file: Path) -> Path:
    """Compile into a folder of our own beside `file` and move the result there in one step."""
    try:
        with tempfile.TemporaryDirectory(prefix="build-", dir=file.parent) as work:
            with ThreadPoolExecutor() as side_by_side:
                objects = list(side_by_side.map(partial(_compile, compiler, Path(work)), _sources()))
            built = Path(work) / "kernels.so"
            _run([compiler, "-shared", "-o", str(built), *objects, "-lm"])
            checksum = Path(work) / "checksum"
            checksum.write_text(hashlib.sha256(built.read_bytes()).hexdigest())
            checksum.replace(_checksum_of(file))
            built.chmod(0o700)
            built.replace(file)
    except OSError as fault:
        raise _UnavailableError(f"they could not be written to {file.parent} ({fault.strerror})") from fault
    return file


def _compile(compiler: str, work: Path, source: Path) -> str:
    result = str(work / f"{source.stem}.o")
    _run([compiler, *_FLAGS, "-c", str(source), "-o", result])
    return result


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise _UnavailableError(f"{command[0]} does not run ({type(fault).__name__})") from fault
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _UnavailableError(f"{command[0]} cannot build them ({last})")
    return done.stdout


def _checksum_of(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _is_whole(file: Path) -> bool:
    """Tell whether `file` is ours and as it was built: loading a file cut short would crash the process."""
    try:
        return (
            _is_ours_alone(file)
            and hashlib.sha256(file.read_bytes()).hexdigest() == _checksum_of(file).read_text()
        )
    except OSError:
        return False


def _open(file: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(file), mode=os.RTLD_NOW)
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = list(arguments), _INT
    except (OSError, AttributeError) as fault:
        raise _UnavailableError(f"the built file does not load ({fault})") from fault
    return library
