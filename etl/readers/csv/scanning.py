"""The records of text whose quotes are not sound: one at a time by the grammar, bad ones cut out.

Where a bad record ends has no right answer, only a likely one: the one with which the records behind it can
be read. ``_Scan._end_of_bad_record`` and ``_Scan._begin_of_tail`` give the rules. What is decided never
depends on how the text was divided into blocks: a decision that would need more text than there is ends the
scan before its record, and what a bad line may turn out to belong to is held back (``Scanner.decided``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from etl.readers.csv.framing import MOST_RECORDS, Flaw, Frames, find_breaks, make_frames
from etl.readers.csv.grammar import CR, LF, LINE_END, Grammar, count_line_ends, end_of
from etl.readers.csv.lookahead import Incomplete, Lookahead
from etl.readers.csv.text import Text
from etl.records import Reason

_STRAY = Flaw(Reason.QUOTE, "a quote inside a field that does not begin with one")
_TEXT_AFTER = Flaw(Reason.QUOTE, "text after a closing quote")
_NEVER_CLOSED = Flaw(Reason.QUOTE, "a quote that is never closed")
_OPENED_NOT = Flaw(Reason.QUOTE, "a quoted field over more lines that is not opened, or is closed before its end")
# How many records before a bad line are looked at: the lines of a quoted field of which no more than that are known.
_MOST_RECORDS_BACK = 64


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
    gap: re.Pattern[bytes]

    @classmethod
    def make(cls, grammar: Grammar, fields: int, most_bytes: int) -> Scanner:
        no_records, gap = grammar.lines_without(fields), grammar.gap_of(fields)
        return cls(grammar, fields, most_bytes, grammar.record_of(fields), no_records, gap)

    def scan(self, text: Text, size: int) -> Scanned:
        """Return the records that begin in the next ``size`` bytes, as far as they can be decided."""
        return _Scan(self, text).run(text.at, text.at + size)

    def decided(self, frames: Frames, is_last: bool) -> Frames:
        """Return the frames without the records at their end to which the next line may turn out to belong.

        ``is_last`` says that nothing follows them.
        """
        return frames.first(min(len(frames) - (0 if is_last else self._undecided(frames)), MOST_RECORDS))

    def _undecided(self, frames: Frames) -> int:
        if not self.joins:
            return 0
        count = 0
        for index in range(len(frames) - 1, max(-1, len(frames) - 1 - _MOST_RECORDS_BACK), -1):
            start, end = int(frames.starts[index]), int(frames.ends[index])
            if index in frames.flaws or len(frames.text) - start > self.most_bytes:
                break
            count += 1
            if self.is_expected(frames.text, start, end):
                break
        return count

    @property
    def joins(self) -> bool:
        """Whether a line may belong to a record before it: not without quotes, nor where any line is a record.

        Nor where a quote may be anywhere in a field: then it says nothing of the lines around it.
        """
        return bool(self.grammar.quote) and self.fields > 1 and self.grammar.strict_quotes

    def is_expected(self, text: bytes, start: int, end: int) -> bool:
        """Say whether the well-formed record at ``start`` has the expected fields."""
        found = self.expected.match(text, start, end)
        return found is not None and found.end() == end

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
            passed, lines = passed + end - text.at, lines + count_line_ends(text.raw[text.at : end])
            text.at = end
            if text.is_complete and not text.left:
                return passed, lines
            if found and not is_split:
                if not within_quotes or self._record_begins(text, size):
                    return passed, lines
                end = end_of(self.no_records, text.data, text.at)
                if end == text.at:
                    continue
                lines += count_line_ends(text.raw[text.at : end])
                passed += end - text.at
                text.at = end
                if self._record_begins(text, size):
                    return passed, lines

    def _record_begins(self, text: Text, size: int) -> bool:
        while True:
            try:
                return _Scan(self, text).record_begins(text.at)
            except Incomplete:
                size *= 2
                text.fill(size)


@dataclass(frozen=True, slots=True)
class _Tail:
    """The last line or lines of a record that has a quoted field over more lines: where they end, their fields."""

    end: int
    fields: int


class _Scan:
    """One pass over one window of text."""

    def __init__(self, scanner: Scanner, text: Text) -> None:
        self._scanner = scanner
        self._grammar = scanner.grammar
        self._fields = scanner.fields
        self._most_bytes = scanner.most_bytes
        self._expected = scanner.expected
        self._data = text.data
        self._raw = text.raw
        self._is_complete = text.is_complete
        self._ahead = Lookahead(scanner.grammar, text.data, text.is_complete)

    def run(self, start: int, stop: int) -> Scanned:
        starts: list[int] = []
        ends: list[int] = []
        flaws: dict[int, Flaw] = {}
        place = start
        try:
            while place < min(stop, len(self._data)) and len(starts) < MOST_RECORDS:
                end, flaw = self._next_record(place)
                if flaw is not None:
                    tail = self._begin_of_tail(place, starts, ends, flaws)
                    if tail is not None:
                        first, end = tail
                        place, flaw = starts[first], _OPENED_NOT
                        del starts[first:], ends[first:]
                    flaws[len(starts)] = flaw
                if not self._is_in_gap(place):
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
        is_last = self._is_complete and place == len(self._data)
        return Scanned(self._scanner.decided(self._frames(start, place, starts, ends, flaws), is_last))

    def _frames(self, start: int, end: int, starts: list[int], ends: list[int], flaws: dict[int, Flaw]) -> Frames:
        text = self._data[start:end]
        raw = text if self._raw is self._data else self._raw[start:end]
        breaks = find_breaks(raw, is_final=True)
        return make_frames(
            text, raw, np.array(starts, np.int64) - start, np.array(ends, np.int64) - start, breaks, flaws
        )

    def _before_line_end(self, place: int) -> int:
        """Return ``place``, or the one before when it would part a CR LF."""
        return place - 1 if self._raw[place - 1] == CR else place

    def _is_in_gap(self, place: int) -> bool:
        """Whether the line there is none of a record: it is blank, or a comment."""
        return (self._fields > 1 and self._data[place] in (LF, CR)) or self._is_comment(place)

    def _is_comment(self, place: int) -> bool:
        return self._grammar.comment != b"" and self._raw.startswith(self._grammar.comment, place)

    def _comment_end(self, place: int) -> int:
        limit = place + self._most_bytes + 1
        found = LINE_END.search(self._raw, place, limit)
        end = self._ahead.settled(found.end() if found else min(limit, len(self._raw)))
        if end >= limit:
            raise _TooLong(within_quotes=False)
        return end

    def _next_record(self, place: int) -> tuple[int, Flaw | None]:
        """Return where the record that begins at ``place`` ends, and its flaw if its quotes are not sound."""
        if self._is_comment(place):
            return self._comment_end(place), None
        found = self._grammar.record.match(self._data, place, place + self._most_bytes + 1)
        if found is None:
            return self._end_of_bad_record(place)
        end = self._ahead.settled(found.end())
        if end - place > self._most_bytes:
            raise _TooLong(within_quotes=False)
        return end, None

    def _end_of_bad_record(self, place: int) -> tuple[int, Flaw]:
        """Return where a record with unsound quotes ends, and its flaw.

        1. A stray quote in a bare field, or text after a closing quote on the line where the field began:
           with the physical line. But when no record begins behind that: with the lines over which a record
           with the expected fields goes on if the flaw is taken for text, or else with the tail of a quoted
           field, when one begins there (see ``_tail``), and a record begins behind these lines.
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
        if end is not None:
            return end, _TEXT_AFTER
        line_end = self._line_end(flaw_at, place)
        if not self.record_begins(line_end):
            line_end = self._end_with_tail(place, field, flaw_at, line_end)
        return line_end, _TEXT_AFTER

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
            self._ahead.settled(len(self._data))
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
        return self._ahead.first_line(self.record_begins, field, limit)

    def _line_end(self, place: int, record: int) -> int:
        """Return the end of the physical line around ``place``."""
        limit = record + self._most_bytes + 1
        found = LINE_END.search(self._data, place, limit)
        end = self._ahead.settled(found.end() if found else min(limit, len(self._data)))
        if end >= limit:
            raise _TooLong(within_quotes=False)
        return end

    def record_begins(self, place: int) -> bool:
        """Say whether a well-formed record with the expected fields begins there, or nothing follows."""
        if self._ahead.settled(place) < len(self._data) and self._is_in_gap(place):
            place = end_of(self._scanner.gap, self._raw, place, place + self._most_bytes + 1)
        if self._ahead.settled(place) == len(self._data):
            return True
        limit = place + self._most_bytes + 1
        found = self._expected.match(self._data, place, limit)
        if found is not None:
            return self._ahead.settled(found.end()) < limit
        if self._is_complete:
            return False
        self._check_is_decided(place, limit)
        return False

    def _check_is_decided(self, place: int, limit: int) -> None:
        """Raise Incomplete when more text may make well-formed fields of those that begin at ``place``."""
        flaw_at = self._flaw_at(end_of(self._grammar.leading, self._data, place, limit), limit)
        if flaw_at is not None:
            self._ahead.settled(flaw_at)

    def _end_on_line(self, place: int, field: int, flaw_at: int) -> int:
        line_end = self._line_end(flaw_at, place)
        is_one = not self._opens(field) and self._closes(flaw_at) and not self._has_quote(flaw_at + 1, line_end)
        if is_one or not self._grammar.strict_quotes or self.record_begins(line_end):
            return line_end
        limit = place + self._most_bytes + 1
        plain_end = end_of(self._grammar.plain, self._data, field, limit)
        end = self._end_behind(place, field, plain_end, line_end)
        return self._end_with_tail(place, field, flaw_at, line_end) if end is None else end

    def _end_with_tail(self, place: int, field: int, flaw_at: int, line_end: int) -> int:
        """Return where the lines end that belong to a bad record: ``line_end``, or behind the tail there.

        A stray quote with a delimiter or line end behind it opens nothing. Two neighbours that each have the
        expected fields when quotes are taken for text are two bad records.
        """
        opens = self._opens(field)
        if not self._scanner.joins or (not opens and self._closes(flaw_at)):
            return line_end
        tail = self._tail(line_end, place + self._most_bytes + 1)
        if tail is None:
            return line_end
        is_complete = opens and self._count(place, field) + tail.fields == self._fields
        are_two = self._has_plain_record(place, line_end) and self._has_plain_record(line_end, tail.end)
        if (are_two and not is_complete) or self._first_record_behind(line_end, tail.end) is not None:
            return line_end
        return tail.end

    def _closes(self, quote: int) -> bool:
        """Say whether a delimiter, a line end or nothing is behind a quote."""
        return self._data[quote + 1 : quote + 2] in (self._grammar.delimiter, b"\r", b"\n", b"")

    def _tail(self, place: int, limit: int) -> _Tail | None:
        """Return the tail at ``place`` of a quoted field that was opened before, up to the end of its record.

        None when there is none, it has too many fields, or no record begins behind it.
        """
        close = self._ahead.close_behind(place, limit)
        end = None if close is None else self._ahead.record_end(close, limit)
        if close is None or end is None or not self.record_begins(end):
            return None
        behind = self._count_behind(close, end)
        return _Tail(end, 1 + behind) if behind < self._fields else None

    def _has_plain_record(self, place: int, end: int) -> bool:
        """Say whether a line between has the expected fields when quotes are taken for text."""
        while place < end:
            found = LINE_END.search(self._data, place, end)
            line_end = found.end() if found else end
            if self._data.count(self._grammar.delimiter, place, line_end) == self._fields - 1:
                return True
            place = line_end
        return False

    def _begin_of_tail(
        self, place: int, starts: list[int], ends: list[int], flaws: dict[int, Flaw]
    ) -> tuple[int, int] | None:
        """Return the record before ``place`` that the bad one there belongs to, by its index, and their end.

        A quoted field over more lines whose opening quote is missing, or that a false quote closes on another
        line, leaves lines that look like records, and a tail. They are one bad record when they have the
        expected fields together. Looked for among the records before ``place``, back to the last one with the
        expected fields. That one is left alone when the bad line has as many delimiters as a record: then only
        its own quotes are wrong.
        """
        if not self._scanner.joins or not starts or len(starts) - 1 in flaws:
            return None
        tail = self._tail(place, place + self._most_bytes + 1)
        if tail is None or self._first_record_behind(place, tail.end) is not None:
            return None
        for index in range(len(starts) - 1, max(-1, len(starts) - 1 - _MOST_RECORDS_BACK), -1):
            start, end = starts[index], ends[index]
            if index in flaws or tail.end - start > self._most_bytes:
                return None
            is_expected = self._scanner.is_expected(self._data, start, end)
            if is_expected and self._data.count(self._grammar.delimiter, place, tail.end) >= self._fields - 1:
                return None
            if self._may_go_on(start, end, self._fields - tail.fields):
                return index, tail.end
            if is_expected or self._has_quote(start, end):
                return None
        return None

    def _may_go_on(self, start: int, end: int, field: int) -> bool:
        """Say whether the field of that index may go on behind the well-formed record from ``start`` to ``end``.

        A false quote closes it, or it has lost its opening one; then no quote is behind it in the record.
        """
        if not 0 <= field <= self._count(start, end):
            return False
        for _ in range(field):
            start = end_of(self._grammar.field, self._data, start) + 1
        return not self._has_quote(end_of(self._grammar.field, self._data, start), end)

    def _has_quote(self, start: int, end: int) -> bool:
        return self._data.find(self._grammar.quote, start, end) >= 0

    def _end_behind(self, place: int, field: int, field_end: int, line_end: int) -> int | None:
        """Return the end of a record, behind ``line_end``, whose bad field is ``field`` to ``field_end``.

        It is one when it has the expected fields and another record begins behind it.
        """
        limit = place + self._most_bytes + 1
        end = self._ahead.record_end(field_end, limit)
        if end is None or end <= line_end or not self.record_begins(end):
            return None
        fields = self._count(place, field) + 1 + self._count_behind(field_end, end)
        return end if fields == self._fields else None

    def _count_behind(self, place: int, end: int) -> int:
        """Return the number of fields behind ``place``, the end of one, in a well-formed part of a record.

        No more are counted than are expected: there may be very many.
        """
        count = 0
        while count < self._fields and self._data[place : place + 1] == self._grammar.delimiter:
            count, place = count + 1, end_of(self._grammar.field, self._data, place + 1, end)
        return count

    def _count(self, start: int, end: int) -> int:
        """Return the number of delimiters between fields in a well-formed part of a record."""
        return len(self._grammar.split(self._data[start:end])) - 1
