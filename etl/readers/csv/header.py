"""What comes before the records of a CSV file: lines to skip, blank lines and comments, the header."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from etl.errors import SourceError
from etl.readers.csv.escapes import Escapes
from etl.readers.csv.grammar import LINE_END, Dialect, Grammar, count_line_ends
from etl.readers.csv.text import Text
from etl.records import Position

_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Opening:
    """The first record of a file, or its header: where the records begin, and the names or the number of fields.

    ``names`` is None without a header, ``fields`` where the first record cannot be read or there is none.
    """

    begin: Position
    names: tuple[str, ...] | None
    fields: int | None


def read_opening(text: Text, shown: str, dialect: Dialect, grammar: Grammar, size: int, most_bytes: int) -> Opening:
    """Read a file up to its records, ``size`` bytes at a time, or up to the end of the first if it has no header.

    Raises SourceError for a header that is not there or cannot be read, or has a name twice.
    """
    start = _Start(text, grammar, size, most_bytes)
    if not start.pass_lines(dialect.skip_lines):
        raise SourceError(
            f"{shown} has {start.line - 1} lines, and {dialect.skip_lines} are to be skipped.",
            "Correct `skip_lines` in [load.csv], or the file.",
        )
    if dialect.header is False:
        begin = start.position
        start.pass_gap()
        first = start.read()
        return Opening(begin, None, None if first is None or first.fields is None else len(first.fields))
    headers = _Headers(start, shown, is_behind_others=dialect.skip_lines > 0 or dialect.comment != "")
    lines = dialect.header if isinstance(dialect.header, tuple) else (dialect.header,)
    names = headers.first() if dialect.header is True else headers.joined(lines)
    return Opening(start.position, names, len(names))


@dataclass(frozen=True, slots=True)
class _Record:
    """A record before the others: its line, its text, and its fields, which are None when it is not well-formed."""

    line: int
    raw: bytes
    fields: tuple[bytes, ...] | None
    is_too_long: bool = False


class _Start:
    """A place in the first lines of a text, which goes on line by line or record by record."""

    def __init__(self, text: Text, grammar: Grammar, size: int, most_bytes: int) -> None:
        self.line = 1
        self._offset = 0
        self._text = text
        self._grammar = grammar
        self._size = size
        self._most_bytes = most_bytes

    @property
    def position(self) -> Position:
        return Position(0, self._offset, self.line)

    @property
    def escapes(self) -> Escapes | None:
        return self._grammar.escapes

    def pass_lines(self, count: int) -> bool:
        """Pass so many physical lines, whatever is in them. Return False where there are fewer."""
        return all(self._pass_line() for _ in range(count))

    def pass_gap(self) -> None:
        """Go to the first line that is neither blank nor a comment."""
        while self.is_in_gap():
            self._pass_line()

    def is_in_gap(self) -> bool:
        """Whether the line here is blank or a comment."""
        text, comment = self._text, self._grammar.comment
        text.fill(max(1, len(comment)))
        begins_comment = comment != b"" and text.raw.startswith(comment, text.at)
        return begins_comment or text.raw[text.at : text.at + 1] in (b"\r", b"\n")

    def _pass_line(self) -> bool:
        """Go behind the line here, however long it is. Return False where nothing is left."""
        text = self._text
        text.fill(self._size)
        if not text.left:
            return False
        while True:
            found = LINE_END.search(text.raw, text.at)
            end = found.end() if found else len(text.raw)
            # A CR at the window's end stays: with an LF behind it, it is one line end.
            is_open = end == len(text.raw) and not text.is_complete and text.raw.endswith(b"\r")
            self._pass(end - is_open)
            if (found and not is_open) or (text.is_complete and not text.left):
                return True
            text.fill(max(2, self._size))

    def _pass(self, end: int) -> None:
        text = self._text
        self.line += count_line_ends(text.raw[text.at : end])
        self._offset += end - text.at
        text.at = end

    def read(self) -> _Record | None:
        """Read the record that begins here and go behind it, if it is well-formed; None at the text's end."""
        text, size, most_bytes = self._text, self._size, self._most_bytes
        found = None
        text.fill(size)
        while text.left:
            found = self._grammar.record.match(text.data, text.at, text.at + most_bytes + 1)
            if text.is_complete or text.left > most_bytes or (found and found.end() < len(text.data)):
                break
            size *= 2
            text.fill(size)
        if not text.left:
            return None
        line = self.line
        if found is None or found.end() - text.at > most_bytes:
            return _Record(line, text.raw[text.at : text.at + most_bytes], None, is_too_long=found is not None)
        raw = text.raw[text.at : found.end()]
        self._pass(found.end())
        return _Record(line, raw, tuple(self._grammar.split(found[0])))


class _Headers:
    """The names in one line of a header or more."""

    def __init__(self, start: _Start, shown: str, is_behind_others: bool) -> None:
        self._start = start
        self._shown = shown
        self._is_behind_others = is_behind_others

    def first(self) -> tuple[str, ...]:
        """Return the names in the first line that is neither blank nor a comment."""
        self._start.pass_gap()
        record = self._start.read()
        if record is None:
            raise SourceError(self._nothing(), "Give it a header, or set `header = false`.")
        return self._without_repeats(self._names_of(record), f"line {record.line}")

    def _nothing(self) -> str:
        if self._is_behind_others:
            return f"{self._shown} has nothing but lines to skip, blank lines and comments, where a header should be."
        return f"{self._shown} is empty, where line 1 should be a header."

    def joined(self, lines: tuple[int, ...]) -> tuple[str, ...]:
        """Return the names in these lines; those of a column are put together with a space, empty ones left out."""
        rows = [self._names_in(line) for line in lines]
        counts = [len(names) for names in rows]
        if len(set(counts)) > 1:
            raise SourceError(
                f"The header of {self._shown}, lines {_listed(lines)}, has {_listed(counts)} fields.",
                "Name lines with as many fields each in `header`, or correct the file.",
            )
        names = tuple(" ".join(filter(None, column)) for column in zip(*rows, strict=True))
        return self._without_repeats(names, f"line{'s' * (len(lines) > 1)} {_listed(lines)}")

    def _names_in(self, line: int) -> tuple[str, ...]:
        start = self._start
        if start.line > line:
            raise SourceError(
                f"The header of {self._shown} cannot be line {line}: "
                f"the record before it ends in line {start.line - 1}.",
                "Correct `header` in [load.csv].",
            )
        is_there = start.pass_lines(line - start.line)
        is_in_gap = is_there and start.is_in_gap()
        record = None if is_in_gap or not is_there else start.read()
        if record is None:
            what = "is blank or a comment" if is_in_gap else "is not there"
            raise SourceError(
                f"Line {line} of {self._shown} {what}, where the header should be.", "Correct `header` in [load.csv]."
            )
        return self._names_of(record)

    def _names_of(self, record: _Record) -> tuple[str, ...]:
        where = f"The header of {self._shown}, line {record.line},"
        if record.is_too_long:
            raise SourceError(
                f"{where} is longer than max_record_bytes allows.", "Correct the file, or raise max_record_bytes."
            )
        if record.line == 1 and record.raw.startswith(_UTF_16_MARKS):
            raise SourceError(
                f"{self._shown} begins with the mark of UTF-16.", 'Set `encoding = "utf-16"` in [load.csv].'
            )
        if record.fields is None:
            raise SourceError(
                f"{where} has a quote that does not enclose a field.",
                "Correct the header, or set `quote` and `delimiter` in [load.csv].",
            )
        if not _is_text(record.raw):
            raise SourceError(
                f"{where} has bytes that are no text.", "Set `encoding` in [load.csv] to the encoding of the file."
            )
        return tuple(self._unescaped(field, where) for field in record.fields)

    def _unescaped(self, field: bytes, where: str) -> str:
        escapes = self._start.escapes
        plain = field if escapes is None else escapes.unmask(field)
        if plain is None:
            raise SourceError(
                f"{where} has an escape before a character that needs none.",
                "Correct the header, or `escape` in [load.csv].",
            )
        return plain.decode()

    def _without_repeats(self, names: tuple[str, ...], where: str) -> tuple[str, ...]:
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise SourceError(
                f"The header of {self._shown}, {where}, repeats {', '.join(map(repr, repeated))}.",
                "Give every column a name of its own.",
            )
        return names


def _is_text(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode()
    except UnicodeDecodeError:
        return False


def _listed(numbers: tuple[int, ...] | list[int]) -> str:
    return " and ".join(map(str, numbers))
