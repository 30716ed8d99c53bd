"""From a ledger to what the process takes: the allocator's rounding and splitting, and what is there besides."""

from trivet.memory.caching_allocator import Block, CachingAllocator
from trivet.memory.ledger import ALWAYS, GRADIENTS, OPTIMIZER, Curve

STEPS = 2
"""How often the step is replayed; the second time the optimizer's state lies among the segments."""


def reserved(curve: Curve, batch: int) -> int:
    """Return the bytes that the caching allocator takes from the device for training at a batch size."""
    sizes = [max(0, int(size)) for size in curve.sizes(batch).tolist()]
    storages = curve.ledger.storages
    allocator = CachingAllocator()
    blocks: dict[int, Block] = {}
    later = [place for place, storage in enumerate(storages) if storage.kind in (OPTIMIZER, GRADIENTS)]
    first = set(range(len(storages))) - set(later)
    for place in sorted(first):
        if storages[place].birth == ALWAYS:
            blocks[place] = allocator.allocate(sizes[place])
    for _ in range(STEPS):
        for _, place, born in curve.events:
            if born and place not in blocks:
                blocks[place] = allocator.allocate(sizes[place])
            elif not born and place in blocks:
                allocator.release(blocks.pop(place))
        for place in later:
            if storages[place].birth == ALWAYS and storages[place].death is None and place not in blocks:
                blocks[place] = allocator.allocate(sizes[place])
    return allocator.reserved
