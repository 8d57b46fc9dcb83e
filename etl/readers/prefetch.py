"""Working ahead on another thread, while the one that takes what it makes waits for the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from etl.threads import OneThread

Item = TypeVar("Item")

AHEAD = 2  # items: enough to even out, few enough to stay small


@contextmanager
def prefetching(
    items: Iterable[Item], *, is_large: Callable[[Item], bool] = lambda _: False
) -> Iterator[Iterator[Item]]:
    """The same items in the same order, up to ``AHEAD`` of them made on another thread, from now on, before they are
    asked for; one fewer while one is in work that ``is_large``.

    What making an item raises is raised where the item would have been. The thread ends with the ``with``, but is not
    waited for where a signal ends it: what it is at may take long.
    """
    source = iter(items)
    pool = OneThread("etl-ahead")
    pending = deque(pool.begin(_next, source) for _ in range(AHEAD))
    try:
        yield _taken(pool, pending, source, is_large)
    except BaseException as error:
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown(cancel_futures=True)


def _taken(
    pool: OneThread, pending: deque[Future[list[Item]]], source: Iterator[Item], is_large: Callable[[Item], bool]
) -> Iterator[Item]:
    while made := pending.popleft().result():
        item = made.pop()
        if is_large(item):
            yield item
            pending.append(pool.begin(_next, source))
        else:
            pending.append(pool.begin(_next, source))
            yield item


def _next(source: Iterator[Item]) -> list[Item]:
    """A list of the next item, or an empty one: StopIteration does not pass through a Future."""
    for item in source:
        return [item]
    return []
