"""What PyTorch's caching allocator takes from a CUDA device for a series of allocations and releases.

The process holds more than is alive: memory comes in segments that are split and kept. The rules are those of
`c10/cuda/CUDACachingAllocator.cpp` with its default settings.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import count

MIB = 1 << 20
ROUND = 512
"""Sizes are rounded up to a multiple of this many bytes."""
SMALL = MIB
"""Up to this size an allocation comes from the pool of small ones, whose segments have `SMALL_SEGMENT` bytes."""
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
"""The segment for an allocation below `LARGE`; larger ones get their own, rounded up to `ROUND_LARGE`."""
LARGE = 10 * MIB
ROUND_LARGE = 2 * MIB


@dataclass(eq=False, slots=True)
class Block:
    """A part of a segment."""

    size: int
    small: bool
    number: int
    free: bool = False
    before: "Block | None" = None
    after: "Block | None" = None


@dataclass
class CachingAllocator:
    """Takes segments and never gives them back, as the real one does until memory runs out.

    Attributes:
        reserved: Bytes of all segments so far.
    """

    reserved: int = 0
    _free: dict[bool, list[tuple[int, int]]] = field(default_factory=lambda: {True: [], False: []})
    _blocks: dict[int, Block] = field(default_factory=dict)
    _numbers: count = field(default_factory=count)

    def allocate(self, size: int) -> Block:
        """Return a block of at least this many bytes: the smallest free one that will do, else a new segment."""
        wanted = max(ROUND, -(-size // ROUND) * ROUND)
        small = wanted <= SMALL
        block = self._take(wanted, small) or self._segment(wanted, small)
        left = block.size - wanted
        if left >= (ROUND if small else SMALL + 1):
            rest = Block(left, small, next(self._numbers), before=block, after=block.after)
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, wanted
            self._give(rest)
        return block

    def release(self, block: Block) -> None:
        """Return a block, joined with free neighbours."""
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._remove(neighbour)
                if neighbour is block.before:
                    block.before = neighbour.before
                    if block.before is not None:
                        block.before.after = block
                else:
                    block.after = neighbour.after
                    if block.after is not None:
                        block.after.before = block
                block.size += neighbour.size
        self._give(block)

    def _segment(self, wanted: int, small: bool) -> Block:
        if small:
            size = SMALL_SEGMENT
        else:
            size = LARGE_SEGMENT if wanted < LARGE else -(-wanted // ROUND_LARGE) * ROUND_LARGE
        self.reserved += size
        return Block(size, small, next(self._numbers))

    def _take(self, wanted: int, small: bool) -> Block | None:
        free = self._free[small]
        place = bisect_left(free, (wanted, -1))
        if place == len(free):
            return None
        block = self._blocks[free[place][1]]
        self._remove(block)
        return block

    def _give(self, block: Block) -> None:
        block.free = True
        insort(self._free[block.small], (block.size, block.number))
        self._blocks[block.number] = block

    def _remove(self, block: Block) -> None:
        free = self._free[block.small]
        del free[bisect_left(free, (block.size, block.number))]
        del self._blocks[block.number]
        block.free = False
