"""The records of text whose quotes are not sound: one at a time by the grammar, bad ones cut out.

Where a bad record ends has no right answer, only a likely one: the one with which the records behind it can
be read. ``_Scan._end_of_bad_record`` gives the rules. What is decided never depends on how the text was
divided into blocks: a decision that would need more text than there is ends the scan before its record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from etl.readers.csv.framing import MOST_RECORDS, Flaw, Frames, find_breaks, make_frames
from etl.readers.csv.grammar import BLANK_LINES, CR, LF, LINE_END, Grammar, count_line_ends, end_of
from etl.readers.csv.text import Text
from etl.records import Reason

_STRAY = Flaw(Reason.QUOTE, "a quote inside a field that does not begin with one")
_TEXT_AFTER = Flaw(Reason.QUOTE, "text after a closing quote")
_NEVER_CLOSED = Flaw(Reason.QUOTE, "a quote that is never closed")


class Incomplete(Exception):
    """The text ends before the decision can be made."""


class _TooLong(Exception):
    """A record is longer than may be. ``within_quotes``: its end cannot be told by the next line end."""

    def __init__(self, within_quotes: bool) -> None:
        self.within_quotes = within_quotes


@dataclass(frozen=True, slots=True)
class Scanned:
    """Frames by the scanner. ``cut_short``: the last record goes on; ``skip_record`` passes the rest."""

    frames: Frames
    cut_short: bool = False
    within_quotes: bool = False


@dataclass(frozen=True, slots=True)
class Scanner:
    """Scans text whose records should have ``fields`` fields and at most ``most_bytes`` bytes."""

    grammar: Grammar
    fields: int
    most_bytes: int
    expected: re.Pattern[bytes]
    no_records: re.Pattern[bytes]

    @classmethod
    def make(cls, grammar: Grammar, fields: int, most_bytes: int) -> Scanner:
        return cls(grammar, fields, most_bytes, grammar.record_of(fields), grammar.lines_without(fields))

    def scan(self, text: Text, size: int) -> Scanned:
        """Return the records that begin in the next ``size`` bytes, as far as they can be decided."""
        return _Scan(self, text.data, text.is_complete).run(text.at, text.at + size)

    def skip_record(self, text: Text, size: int, within_quotes: bool) -> tuple[int, int]:
        """Pass the rest of a record that was cut short: the bytes and the line ends in it.

        It ends with its physical line, or, ``within_quotes``, before the first line where a record begins.
        Reads ``size`` bytes at a time and keeps none of what it has passed.
        """
        passed = lines = 0
        while True:
            # A fill copies what is left: only when that can be no line end, or the CR that stays.
            if text.left < 2:
                text.fill(size + 1)
            found = LINE_END.search(text.data, text.at)
            end = found.end() if found else len(text.data)
            # A CR stays: with an LF behind it, it is one line end.
            is_split = end == len(text.data) and not text.is_complete and text.data.endswith(b"\r")
            end -= is_split
            passed += end - text.at
            lines += found is not None and not is_split
            text.at = end
            if text.is_complete and not text.left:
                return passed, lines
            if found and not is_split:
                if not within_quotes or self._record_begins(text, size):
                    return passed, lines
                end = end_of(self.no_records, text.data, text.at)
                if end == text.at:
                    continue
                lines += count_line_ends(text.data[text.at : end])
                passed += end - text.at
                text.at = end
                if self._record_begins(text, size):
                    return passed, lines

    def _record_begins(self, text: Text, size: int) -> bool:
        while True:
            try:
                return _Scan(self, text.data, text.is_complete).record_begins(text.at)
            except Incomplete:
                size *= 2
                text.fill(size)


class _Scan:
    """One pass over one window of text."""

    def __init__(self, scanner: Scanner, data: bytes, is_complete: bool) -> None:
        self._grammar = scanner.grammar
        self._fields = scanner.fields
        self._most_bytes = scanner.most_bytes
        self._expected = scanner.expected
        self._data = data
        self._is_complete = is_complete
        # Where the last search for a closing quote began and how far it came: one from between comes as far.
        self._searched = (0, -1)

    def run(self, start: int, stop: int) -> Scanned:
        starts: list[int] = []
        ends: list[int] = []
        flaws: dict[int, Flaw] = {}
        place = start
        try:
            while place < min(stop, len(self._data)) and len(starts) < MOST_RECORDS:
                end, flaw = self._next_record(place)
                if flaw is not None:
                    flaws[len(starts)] = flaw
                if not self._is_blank(place):
                    starts.append(place)
                    ends.append(end)
                place = end
        except Incomplete:
            pass
        except _TooLong as error:
            flaws[len(starts)] = Flaw(Reason.TOO_LONG, f"longer than {self._most_bytes:,} bytes (max_record_bytes)")
            end = self._before_line_end(place + self._most_bytes)
            starts.append(place)
            ends.append(end)
            return Scanned(self._frames(start, end, starts, ends, flaws), True, error.within_quotes)
        return Scanned(self._frames(start, place, starts, ends, flaws))

    def _frames(self, start: int, end: int, starts: list[int], ends: list[int], flaws: dict[int, Flaw]) -> Frames:
        text = self._data[start:end]
        breaks = find_breaks(text, is_final=True)
        return make_frames(text, np.array(starts, np.int64) - start, np.array(ends, np.int64) - start, breaks, flaws)

    def _before_line_end(self, place: int) -> int:
        """Return ``place``, or the one before when it would part a CR LF."""
        return place - 1 if self._data[place - 1] == CR else place

    def _is_blank(self, place: int) -> bool:
        return self._fields > 1 and self._data[place] in (LF, CR)

    def _next_record(self, place: int) -> tuple[int, Flaw | None]:
        """Return where the record that begins at ``place`` ends, and its flaw if its quotes are not sound."""
        found = self._grammar.record.match(self._data, place, place + self._most_bytes + 1)
        if found is None:
            return self._end_of_bad_record(place)
        end = self._settled(found.end())
        if end - place > self._most_bytes:
            raise _TooLong(within_quotes=False)
        return end, None

    def _settled(self, end: int) -> int:
        """Return the end of a match, which more text might move when it is the end of the window."""
        if end == len(self._data) and not self._is_complete:
            raise Incomplete
        return end

    def _end_of_bad_record(self, place: int) -> tuple[int, Flaw]:
        """Return where a record with unsound quotes ends, and its flaw.

        1. A stray quote in a bare field, or text after a closing quote on the line where the field began:
           with the physical line. But when no record begins behind that, and with the flaw taken for text a
           record with the expected fields goes on over more lines, and one begins behind it: with those.
        2. Text after a closing quote on a later line, or a quote never closed: before the first physical line
           behind the opening quote at which a record with the expected fields begins. When there is none,
           with the physical line of the false closing quote, or at the text's end.
        """
        limit = place + self._most_bytes + 1
        field = end_of(self._grammar.leading, self._data, place, limit)
        flaw_at = self._flaw_at(field, limit)
        if flaw_at is None:
            return self._end_of_never_closed(place, field, limit)
        if not self._opens(field):
            return self._end_on_line(place, field, flaw_at), _STRAY
        if LINE_END.search(self._data, field, flaw_at) is None:
            return self._end_on_line(place, field, flaw_at), _TEXT_AFTER
        end = self._first_record_behind(field, flaw_at)
        return (self._line_end(flaw_at, place) if end is None else end), _TEXT_AFTER

    def _opens(self, place: int) -> bool:
        return self._data[place : place + 1] == self._grammar.quote != b""

    def _flaw_at(self, field: int, limit: int) -> int | None:
        """Return where the field that begins at ``field`` stops to be well-formed; None: it never closes."""
        if not self._opens(field):
            return end_of(self._grammar.field, self._data, field, limit)
        quoted = self._grammar.quoted.match(self._data, field, limit)
        if quoted is not None:
            return quoted.end()
        if limit > len(self._data):
            self._settled(len(self._data))
        return None

    def _end_of_never_closed(self, place: int, field: int, limit: int) -> tuple[int, Flaw]:
        end = self._first_record_behind(field, limit)
        if end is not None:
            return end, _NEVER_CLOSED
        if limit <= len(self._data):
            raise _TooLong(within_quotes=True)
        return len(self._data), _NEVER_CLOSED

    def _first_record_behind(self, field: int, limit: int) -> int | None:
        """Return the first line start between ``field`` and ``limit`` at which a record begins."""
        for found in LINE_END.finditer(self._data, field, limit):
            # At the limit an LF may follow a CR, and the record is over anyway.
            if found.end() < limit and self.record_begins(self._settled(found.end())):
                return found.end()
        return None

    def _line_end(self, place: int, record: int) -> int:
        """Return the end of the physical line around ``place``."""
        limit = record + self._most_bytes + 1
        found = LINE_END.search(self._data, place, limit)
        end = self._settled(found.end() if found else min(limit, len(self._data)))
        if end >= limit:
            raise _TooLong(within_quotes=False)
        return end

    def record_begins(self, place: int) -> bool:
        """Say whether a well-formed record with the expected fields begins there, or nothing follows."""
        if self._settled(place) < len(self._data) and self._is_blank(place):
            place = end_of(BLANK_LINES, self._data, place, place + self._most_bytes + 1)
        if self._settled(place) == len(self._data):
            return True
        limit = place + self._most_bytes + 1
        found = self._expected.match(self._data, place, limit)
        if found is not None:
            return self._settled(found.end()) < limit
        if self._is_complete:
            return False
        self._check_is_decided(place, limit)
        return False

    def _check_is_decided(self, place: int, limit: int) -> None:
        """Raise Incomplete when more text may make well-formed fields of those that begin at ``place``."""
        flaw_at = self._flaw_at(end_of(self._grammar.leading, self._data, place, limit), limit)
        if flaw_at is not None:
            self._settled(flaw_at)

    def _end_on_line(self, place: int, field: int, flaw_at: int) -> int:
        line_end = self._line_end(flaw_at, place)
        if not self._opens(field) and self._data.find(self._grammar.quote, flaw_at + 1, line_end) < 0:
            return line_end  # No later field of the line opens quotes, so none goes on over more lines.
        if self.record_begins(line_end):
            return line_end
        limit = place + self._most_bytes + 1
        plain_end = end_of(self._grammar.plain, self._data, field, limit)
        end = self._end_behind(place, field, plain_end, line_end)
        if end is None and self._opens(field):
            end = self._end_as_quoted(place, field, flaw_at, line_end)
        return line_end if end is None else end

    def _end_as_quoted(self, place: int, field: int, flaw_at: int, line_end: int) -> int | None:
        """Return the record's end when the false closing quote is text and the next quote closes."""
        close = self._close_behind(flaw_at, place + self._most_bytes + 1)
        end = None if close is None else self._end_behind(place, field, close, line_end)
        if end is None or self._first_record_behind(flaw_at, end) is not None:
            return None
        return end

    def _close_behind(self, place: int, limit: int) -> int | None:
        """Return the place behind the next quote that is not a doubled one."""
        since, reached = self._searched
        if not since <= place <= reached:
            since = reached = place
        # Going on from there keeps the scan linear where every line makes this search.
        reached = end_of(self._grammar.quoted_body, self._data, reached, max(limit, reached))
        self._searched = (since, reached)
        if reached + 1 >= limit:
            return None
        close = self._settled(min(reached + 1, len(self._data)))
        return close if reached < len(self._data) else None

    def _end_behind(self, place: int, field: int, field_end: int, line_end: int) -> int | None:
        """Return the end of a record, behind ``line_end``, whose bad field is ``field`` to ``field_end``.

        It is one when it has the expected fields and another record begins behind it.
        """
        limit = place + self._most_bytes + 1
        found = self._grammar.rest.match(self._data, field_end, limit)
        if found is None:
            self._check_is_decided(field_end, limit)
            return None
        end = self._settled(found.end())
        if end <= line_end or end >= limit:
            return None
        fields = self._count(place, field) + 1 + self._count(field_end, end)
        return end if fields == self._fields and self.record_begins(end) else None

    def _count(self, start: int, end: int) -> int:
        """Return the number of delimiters between fields in a well-formed part of a record."""
        return len(self._grammar.split(self._data[start:end])) - 1
