"""A small piece of memory that the forked workers of a loader share with the process that trains."""

import hashlib
import mmap
import os
import struct
from collections.abc import Iterator

SLOTS, SLOT = 128, 8192
_HEAD = struct.Struct("<IIQI")  # bytes used, process, loader, pass
_ENTRY = struct.Struct("<B40sqq")  # kind or worker, name, two values


class Board:
    """Entries of workers: each process writes to a slot of its own, and never reads another's.

    The pages are made by the kernel when they are first written to; a process that was not forked from this one sees
    nothing, and writes nothing.
    """

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = mmap.mmap(-1, SLOTS * SLOT) if hasattr(os, "fork") else None
        self._loader, self._pass = 0, 0
        self._claimed: tuple[int, int] | None = None
        self._used = 0
        self._parent = os.getpid()
        self._kept: list[tuple[int, int, int, str, int, int]] = []

    @property
    def usable(self) -> bool:
        """Whether this process can write."""
        return self._memory is not None

    def announce(self, loader: int, number: int) -> None:
        """In the parent, before workers are started: for which loader and pass they will write."""
        self._loader, self._pass = loader, number
        self._kept += self._take()

    def write(self, worker: int, name: str, state: int, moved: int) -> None:
        """In a worker: add an entry; dropped when the slot is full."""
        memory = self._memory
        if memory is None:
            return
        process = os.getpid()
        if self._claimed is None or self._claimed[1] != process:
            self._claimed = (process % SLOTS, process)
            self._used = _HEAD.size
        start = self._claimed[0] * SLOT
        if self._used + _ENTRY.size > SLOT:
            return
        place = start + self._used
        memory[place : place + _ENTRY.size] = _ENTRY.pack(
            worker & 255, name.encode()[-40:], state, int(moved)
        )
        self._used += _ENTRY.size
        memory[start : start + _HEAD.size] = _HEAD.pack(self._used, process, self._loader, self._pass)

    def read(self) -> Iterator[tuple[int, int, int, str, int, int]]:
        """In the parent: yield (loader, pass, worker, name, state, moved) of all entries so far."""
        self._kept += self._take()
        yield from self._kept

    def close(self) -> None:
        """Read what is there for the last time, and give the memory back."""
        if self._memory is not None and os.getpid() == self._parent:
            self._kept += self._take()
            self._memory.close()
            self._memory = None

    def _take(self) -> list[tuple[int, int, int, str, int, int]]:
        """Return the entries of all slots and empty these, unless they are still being written to."""
        memory, found = self._memory, []
        if memory is None:
            return []
        for slot in range(SLOTS):
            start = slot * SLOT
            used, _, loader, number = _HEAD.unpack(memory[start : start + _HEAD.size])
            if not used:
                continue
            for place in range(start + _HEAD.size, start + min(used, SLOT - _ENTRY.size + 1), _ENTRY.size):
                worker, name, state, moved = _ENTRY.unpack(memory[place : place + _ENTRY.size])
                entry = (loader, number, worker, name.rstrip(b"\0").decode(errors="replace"), state, moved)
                found.append(entry)
        if len(self._kept) > 20_000:
            return []
        known = set(self._kept)
        return [entry for entry in dict.fromkeys(found) if entry not in known]


def digest_text(text: str | bytes) -> int:
    """Return a digest of 63 bits, never 0."""
    data = text.encode() if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1 or 1
