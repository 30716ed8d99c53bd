"""Images that are the same, or nearly: without comparing every pair."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from trivet.data.fingerprints import Fingerprints

MOST_BITS = 7
"""Of the 128 bits of their hashes this many may differ: 8 bands of 16 bits cannot all be hit by 7 changes."""

MOST_LEVELS = 6.0
"""And the thumbnails this many of 256 levels, as a mean over their pixels."""

_BANDS = MOST_BITS + 1  # of two bytes each
_BITS = np.array([i.bit_count() for i in range(2**16)], np.uint8)


@dataclass(frozen=True)
class Groups:
    """Sets of images that are the same.

    Args:
        exact: Positions of images with the same bytes, each set ascending, two or more.
        near: Positions of images that look the same without being all exact, each set ascending.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]


def find_duplicates(prints: Fingerprints) -> Groups:
    """Find the images with the same bytes, and those that look the same (scaled, compressed again, lightened).

    A pair looks the same when its hashes differ in at most `MOST_BITS` and its thumbnails in at most
    `MOST_LEVELS`. Only pairs that share a band of their hashes are looked at, so n images cost about n looks
    rather than n^2.
    """
    exact = _equal_rows(prints.digests)
    readable = np.array([i for i in range(len(prints)) if i not in prints.faults], np.int64)
    pairs = [pair for pair in _candidates(prints.hashes, readable) if _look_alike(prints, *pair)]
    joined = _joined([*pairs, *((group[0], other) for group in exact for other in group[1:])])
    same = set(exact)
    return Groups(exact, tuple(group for group in joined if group not in same))


def _equal_rows(rows: np.ndarray) -> tuple[tuple[int, ...], ...]:
    places: dict[bytes, list[int]] = {}
    for position, row in enumerate(rows):
        places.setdefault(row.tobytes(), []).append(position)
    return tuple(tuple(group) for group in places.values() if len(group) > 1)


def _candidates(hashes: np.ndarray, readable: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose hashes differ in few bits, perhaps several times."""
    first: dict[bytes, int] = {}
    for position in readable.tolist():
        other = first.setdefault(hashes[position].tobytes(), position)
        if other != position:
            yield other, position
    unique = np.array(sorted(first.values()), np.int64)
    words = hashes[unique].view(np.uint16).reshape(-1, _BANDS)
    for band in range(_BANDS):
        for group in _equal_rows(words[:, band : band + 1]):
            for place, member in enumerate(group[:-1]):
                rest = np.array(group[place + 1 :])
                new = np.all(
                    words[rest, :band] != words[member, :band], axis=1
                )  # no earlier band showed the pair
                rest = rest[new]
                close = _BITS[words[rest] ^ words[member]].sum(axis=1, dtype=np.uint8) <= MOST_BITS
                yield from ((int(unique[member]), int(unique[other])) for other in rest[close])


def _look_alike(prints: Fingerprints, one: int, other: int) -> bool:
    difference = prints.thumbnails[one].astype(np.int16) - prints.thumbnails[other]
    return float(np.abs(difference - np.median(difference)).mean()) <= MOST_LEVELS


def _joined(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Join pairs that share a member into groups."""
    parent: dict[int, int] = {}

    def root(item: int) -> int:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for item in sorted(parent):
        groups.setdefault(root(item), []).append(item)
    return [tuple(group) for group in groups.values()]
