"""Reading ahead on another thread, while the one that took the last batch waits for the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

AHEAD = 2  # batches: enough to even out, few enough to stay small


def prefetched(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """The same items in the same order, up to ``ahead`` of them made on another thread before they are asked for.

    What making an item raises is raised where the item would have been. Closing the generator ends the thread.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="etl-reader")
    try:
        pending: deque[Future[list[Item]]] = deque(pool.submit(_next, source) for _ in range(ahead))
        while made := pending.popleft().result():
            pending.append(pool.submit(_next, source))
            yield made[0]
    finally:
        pool.shutdown(cancel_futures=True)


def _next(source: Iterator[Item]) -> list[Item]:
    """A list of the next item, or an empty one: StopIteration does not pass through a Future."""
    for item in source:
        return [item]
    return []
