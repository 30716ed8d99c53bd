"""The allocator's rules, worked out by hand from CUDACachingAllocator.cpp."""

from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.memory.caching_allocator import MIB, CachingAllocator


def test_segments_of_each_size():
    for size, segment in (
        (1, 2),
        (MIB, 2),
        (MIB + 1, 20),
        (10 * MIB - 512, 20),
        (10 * MIB, 10),
        (10 * MIB + 1, 12),
    ):
        allocator = CachingAllocator()
        allocator.allocate(size)
        assert allocator.reserved == segment * MIB, size


def test_small_allocations_share_a_segment():
    allocator = CachingAllocator()
    for _ in range(4096):
        allocator.allocate(512)
    assert allocator.reserved == 2 * MIB
    allocator.allocate(1)
    assert allocator.reserved == 4 * MIB


def test_what_is_released_serves_again_where_it_is_large_enough():
    allocator = CachingAllocator()
    block = allocator.allocate(30 * MIB)
    allocator.release(block)
    allocator.allocate(25 * MIB)
    allocator.allocate(5 * MIB)  # the rest of the segment
    assert allocator.reserved == 30 * MIB
    allocator.allocate(2 * MIB)
    assert allocator.reserved == 50 * MIB


def test_fragments_do_not_serve_a_larger_allocation():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(6 * MIB) for _ in range(3)]  # of one segment of 20
    allocator.release(blocks[0])
    allocator.release(blocks[2])
    allocator.allocate(9 * MIB)
    assert allocator.reserved == 40 * MIB
    allocator.release(blocks[1])  # joins its neighbours: 20 MiB in one piece
    allocator.allocate(20 * MIB)
    assert allocator.reserved == 40 * MIB


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40 * MIB), st.booleans()), max_size=60))
def test_reserved_covers_what_is_alive_and_never_shrinks(steps):
    allocator, alive, before = CachingAllocator(), [], 0
    for size, release in steps:
        if release and alive:
            allocator.release(alive.pop(len(alive) // 2)[0])
        else:
            alive.append((allocator.allocate(size), size))
        assert allocator.reserved >= max(before, sum(size for _, size in alive))
        assert all(block.size >= size for block, size in alive)
        before = allocator.reserved
    for block, _ in alive:
        allocator.release(block)
    kept = allocator.reserved
    whole = sum(size for size, _ in allocator._free[True]) + sum(size for size, _ in allocator._free[False])
    assert whole == kept
