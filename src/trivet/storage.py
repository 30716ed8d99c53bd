"""Files that are there whole or not at all, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from trivet.errors import StorageError

UNFINISHED = ".unfinished"
"""Ending of a file that is being written; one left by a kill is overwritten by the next writing."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give the block a neighbour of `path` to write, and put it in the place of `path` once it is on the disk.

    If the block fails, or the process is killed, what was at `path` before is still there, unchanged.

    Args:
        path: The file; its folder exists.

    Raises:
        StorageError: If the disk is full, or the file cannot be written for another reason of the system's.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "figures.txt"
        >>> with whole_file(target) as unfinished:
        ...     _ = unfinished.write_text("0.91")
        >>> target.read_text()
        '0.91'
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        yield unfinished
        _to_disk(unfinished)
        unfinished.replace(path)
        _to_disk(path.parent)
    except (OSError, SafetensorError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        kept = "; the file that was there is unchanged" if path.exists() else ""
        raise StorageError(
            f"cannot write {path}: {reason}{kept}", "make room there or give a folder that can be written to"
        ) from fault
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk and not only in the system's memory."""
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
