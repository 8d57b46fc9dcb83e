"""Looking ahead in a window of text, for the scanner: where quotes close and where a record ends.

Where every line is bad, every line looks ahead, and may have to look far: ``a","b`` on each line is one well-formed
record without an end to who begins inside quotes. So each search keeps what it has passed, and one that begins
within goes on from there; all of them together take linear time.
"""

from __future__ import annotations

from collections.abc import Callable

from etl.readers.csv.grammar import LINE_END, Grammar, end_of


class Incomplete(Exception):
    """The text ends before the decision can be made."""


class Lookahead:
    """Searches in one window of text. Each raises Incomplete when more text may change what it finds."""

    def __init__(self, grammar: Grammar, data: bytes, is_complete: bool) -> None:
        self._grammar = grammar
        self._data = data
        self._is_complete = is_complete
        # Of each search: where it began, and how far it came.
        self._quoted = (0, -1)
        self._fields = (0, -1)
        self._lines = (0, -1)
        self._counted = (0, 0)  # a place in the fields that were passed, and the number of quotes before it

    def settled(self, end: int) -> int:
        """Return the end of a match, which more text might move when it is the end of the window."""
        if end == len(self._data) and not self._is_complete:
            raise Incomplete
        return end

    def close_behind(self, place: int, limit: int) -> int | None:
        """Return the place behind the next quote that is not a doubled one; ``place`` begins a line."""
        since, reached = self._quoted
        if not since <= place <= reached:
            since = reached = place
        reached = end_of(self._grammar.quoted_body, self._data, reached, max(limit, reached))
        self._quoted = (since, reached)
        if reached + 1 >= limit:
            return None
        close = self.settled(min(reached + 1, len(self._data)))
        return close if reached < len(self._data) else None

    def record_end(self, place: int, limit: int) -> int | None:
        """Return where the record ends that is well-formed behind ``place``, the end of one of its fields."""
        end = self._fields_end(place, limit)
        if self._is_unclosed(end):
            if limit > len(self._data):
                self.settled(len(self._data))
            return None
        found = LINE_END.match(self._data, end, limit)
        if found is None and self.settled(end) < len(self._data):
            return None
        end = self.settled(found.end() if found else end)
        return end if end < limit else None

    def _fields_end(self, place: int, limit: int) -> int:
        """Return the end of the last field that is well-formed, or the delimiter before one that does not close."""
        since, reached = self._fields
        goes_on = since <= place <= reached and self._is_outside_quotes(place)
        start = reached if goes_on else place
        end = end_of(self._grammar.following, self._data, start, max(limit, start))
        if end > start and self._is_unclosed(end - 1):
            end -= 1
        if end > reached:
            self._fields = (since if goes_on else place, end)
            if not goes_on:
                self._counted = (place, 0)
        return end

    def _is_outside_quotes(self, place: int) -> bool:
        """Say whether a place among the fields that were passed is behind an even number of quotes."""
        counted, quotes = self._counted
        if place < counted:
            counted, quotes = self._fields[0], 0
        quotes += self._data.count(self._grammar.quote, counted, place) if self._grammar.quote else 0
        self._counted = (place, quotes)
        return quotes % 2 == 0

    def _is_unclosed(self, place: int) -> bool:
        """Say whether the delimiter at ``place``, behind the last well-formed field, has an opening quote behind it."""
        opening = self._grammar.delimiter + self._grammar.quote
        return bool(self._grammar.quote) and self._data[place : place + 2] == opening

    def first_line(self, begins: Callable[[int], bool], place: int, limit: int) -> int | None:
        """Return the first line start between ``place`` and ``limit`` of which ``begins`` is true.

        ``begins`` is the same at each call.
        """
        since, reached = self._lines
        if not since <= place < reached:
            since = reached = place
        elif begins(reached):
            return reached if reached < limit else None
        for found in LINE_END.finditer(self._data, reached, limit):
            # At the limit an LF may follow a CR, and the record is over anyway.
            if found.end() >= limit:
                break
            reached = self.settled(found.end())
            self._lines = (since, reached)
            if begins(reached):
                return reached
        return None
