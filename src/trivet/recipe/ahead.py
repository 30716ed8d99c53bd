"""Work that threads do ahead of whoever needs its results, never much."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int = 1, waiting: int = 1
) -> Iterator[Result]:
    """Yield the results of `work` in order, computed by threads before they are asked for.

    What `work` raises comes out where its result would. When the caller stops early, what has not begun is dropped.

    Args:
        work: What is done with each item.
        items: Drawn only as fast as their results are taken.
        workers: Threads.
        waiting: Results, done or being worked on, that stand ready beside the one in the caller's hands.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > waiting:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Behind:
    """Work that threads do after the caller has gone on, with a bound on what waits.

    Leaving the block waits for the rest and raises the first error.

    Args:
        workers: Threads.
        waiting: Calls that may be unfinished before the caller has to wait.
    """

    def __init__(self, *, workers: int = 1, waiting: int = 8) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers)
        self._pending: deque[Future[None]] = deque()
        self._waiting = waiting

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._pending:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def do(self, work: Callable[[], None]) -> None:
        """Have something done.

        Raises:
            Exception: What an earlier call raised.
        """
        while self._pending and (len(self._pending) >= self._waiting or self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(work))
