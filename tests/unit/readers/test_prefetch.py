"""Working ahead: two items at most, one while a large one is in work, and in the order of the source."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from etl.readers.prefetch import prefetching

PATIENCE = 10  # seconds


class Source:
    """The numbers from 1, and how many of them were asked for."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._asked = threading.Condition()
        self.made = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(1, self._count + 1):
            with self._asked:
                self.made = number
                self._asked.notify()
            yield number

    def wait_for(self, made: int) -> None:
        with self._asked:
            assert self._asked.wait_for(lambda: self.made >= made, PATIENCE)


def test_all_items_come_in_order():
    with prefetching(range(1_000)) as items:
        assert list(items) == list(range(1_000))


def test_two_items_are_made_before_they_are_asked_for():
    source = Source(9)

    with prefetching(source) as items:
        for number in items:
            source.wait_for(min(number + 2, 9))
            assert source.made <= number + 2


def test_one_item_is_made_while_a_large_one_is_in_work():
    source = Source(9)

    with prefetching(source, is_large=lambda number: number in (3, 4, 5)) as items:
        for number in items:
            is_large = number in (3, 4, 5)
            # Two were ahead already when the first large one came.
            source.wait_for(min(number + (1 if is_large else 2), 9))
            assert source.made <= number + (1 if number in (4, 5) else 2)


def test_an_error_is_raised_where_the_item_would_have_been():
    def failing() -> Iterator[int]:
        yield from (1, 2, 3)
        raise LookupError

    with prefetching(failing()) as items:
        assert [next(items), next(items), next(items)] == [1, 2, 3]
        with pytest.raises(LookupError):
            next(items)
