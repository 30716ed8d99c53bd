"""What happened, as JSON lines: one row an epoch."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from trivet.errors import StorageError, UsageError
from trivet.storage import whole_file

Row = dict[str, float | int | str]


class History:
    """Rows kept in memory and appended to a file.

    Args:
        path: The file, or `None` to keep rows in memory only.
        until_step: Rows of later steps are dropped: a resumed run writes them again.
    """

    def __init__(self, path: Path | None = None, *, until_step: int = 0) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path is not None and path.exists() and until_step:
            self.rows = [row for row in read_history(path) if int(row["step"]) <= until_step]
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as unfinished:
                unfinished.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, row: Mapping[str, float | int | str]) -> None:
        """Append a row and flush it to the disk.

        Raises:
            StorageError: If it cannot be written.
        """
        self.rows.append(dict(row))
        if self.path is not None:
            try:
                with self.path.open("a") as file:
                    file.write(json.dumps(dict(row)) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as fault:
                raise StorageError(
                    f"cannot write {self.path}: {fault.strerror}", "make room there, then go on with --resume"
                ) from fault


def read_history(path: Path) -> list[Row]:
    """Read a history file; a last line cut off by a kill is left out.

    Raises:
        UsageError: If a line before the last is not JSON.
    """
    lines = path.read_text().splitlines()
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as fault:
            if number < len(lines):
                raise UsageError(
                    f"{path} line {number} is not JSON: {line[:80]!r}", "the file was edited"
                ) from fault
    return rows
