"""What a well-formed CSV record is, as regular expressions over UTF-8 bytes.

    record    = field *(delimiter field) line-end
    field     = quoted / bare
    quoted    = quote *(any byte but quote / quote quote) quote     without doubled quotes: *(any byte but quote)
    bare      = *(any byte but quote, delimiter, CR, LF)            without strict ones: a quote, but at its beginning
    line-end  = CR LF / CR / LF / end of text

Between records there may be blank lines, and comments where the dialect has them. Escapes are no part of it: they are
masked before (``escapes``). Every repetition is possessive, so that matching never goes back and takes linear time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from etl.errors import ConfigError
from etl.readers.csv.escapes import Escapes

LINE_END = re.compile(rb"\r\n?|\n")
BLANK_LINES = re.compile(rb"[\r\n]*+")
LF = 0x0A
CR = 0x0D


class Dialect(Protocol):
    """How a CSV file is written; ``quote``, ``escape`` and ``comment`` are empty where there is none."""

    @property
    def delimiter(self) -> str: ...
    @property
    def quote(self) -> str: ...
    @property
    def header(self) -> bool | int | tuple[int, ...]: ...
    @property
    def encoding(self) -> str: ...
    @property
    def null(self) -> tuple[str, ...]: ...
    @property
    def escape(self) -> str: ...
    @property
    def doubled_quotes(self) -> bool: ...
    @property
    def strict_quotes(self) -> bool: ...
    @property
    def comment(self) -> str: ...
    @property
    def skip_lines(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Grammar:
    """The patterns of one dialect. Each is matched at a place in the text; ``quote`` is empty for none."""

    delimiter: bytes
    quote: bytes
    comment: bytes
    doubled_quotes: bool
    strict_quotes: bool
    escapes: Escapes | None
    record: re.Pattern[bytes]  # a well-formed record of any number of fields
    leading: re.Pattern[bytes]  # the fields that end at a delimiter
    field: re.Pattern[bytes]
    quoted: re.Pattern[bytes]
    quoted_body: re.Pattern[bytes]  # text inside quotes, up to the closing one
    plain: re.Pattern[bytes]  # a field with its quotes taken for text
    following: re.Pattern[bytes]  # the fields that may follow one in its record

    def record_of(self, fields: int) -> re.Pattern[bytes]:
        """Return the pattern of a well-formed record with this number of fields."""
        following = b"(?:%b%b){%d}+" % (re.escape(self.delimiter), self.field.pattern, fields - 1)
        return re.compile(self.field.pattern + following + _END)

    def gap_of(self, fields: int) -> re.Pattern[bytes]:
        """Return the pattern of what may be between records with this number of fields: blank lines and comments.

        It is for text in which escapes are not masked: in a comment there are none.
        """
        blank = rb"[\r\n]++" if fields > 1 else rb"(?!)"
        if not self.comment:
            return BLANK_LINES if fields > 1 else re.compile(b"")
        return re.compile(rb"(?:%b|%b[^\r\n]*+(?:\r\n?|\n|\Z))*+" % (blank, re.escape(self.comment)))

    def lines_without(self, fields: int) -> re.Pattern[bytes]:
        """Return the pattern of lines, with their ends, that for their number of fields alone are no such record.

        Another line with something in it follows: where that one begins is for a closer look to tell.
        """
        bare = rb"[^%b%b\r\n]*+" % (re.escape(self.delimiter), re.escape(self.quote))
        record = rb"%b(?:%b%b){%d}+[\r\n]" % (bare, re.escape(self.delimiter), bare, fields - 1)
        line = rb"[^%b\r\n]++(?:\r\n|\n|\r(?!\n))" % re.escape(self.quote)
        return re.compile(rb"(?:(?!%b)%b(?=[^\r\n][^\r\n]))*+" % (record, line))

    def split(self, record: bytes) -> list[bytes]:
        """Return the values of a well-formed record."""
        values: list[bytes] = []
        place = 0
        while True:
            end = end_of(self.field, record, place)
            values.append(self._value(record[place:end]))
            if record[end : end + 1] != self.delimiter:
                return values
            place = end + 1

    def _value(self, field: bytes) -> bytes:
        if self.quote and field.startswith(self.quote):
            return field[1:-1].replace(self.quote * 2, self.quote) if self.doubled_quotes else field[1:-1]
        return field


_END = rb"(?:\r\n?|\n|\Z)"


def make_grammar(dialect: Dialect) -> Grammar:
    """Return the grammar of a dialect. Raises ConfigError when its delimiter, quote or escape cannot be used."""
    delimiter = _single_byte("delimiter", dialect.delimiter)
    quote = _single_byte("quote", dialect.quote) if dialect.quote else b""
    if delimiter == quote:
        raise ConfigError(f"`delimiter` and `quote` are both {dialect.quote!r}.", "Set them to different characters.")
    escape, comment = _escape_of(dialect), dialect.comment.encode()
    d, q = re.escape(delimiter), re.escape(quote)
    doubled = b"(?:%b%b[^%b]*+)*+" % (q, q, q) if dialect.doubled_quotes else b""
    quoted_body = b"[^%b]*+%b" % (q, doubled) if quote else b""
    quoted = q + quoted_body + q if quote else rb"(?!)"
    is_lenient = bool(quote) and not dialect.strict_quotes
    bare = b"(?!%b)[^%b\r\n]*+" % (q, d) if is_lenient else b"[^%b%b\r\n]*+" % (d, q)
    field = b"(?>%b|%b)" % (quoted, bare if not is_lenient else b"(?:%b)?+" % bare)
    following = b"(?:%b%b)*+" % (d, field)
    return Grammar(
        delimiter=delimiter,
        quote=quote,
        comment=comment,
        doubled_quotes=dialect.doubled_quotes,
        strict_quotes=not is_lenient,
        escapes=Escapes(escape, delimiter + quote + comment[:1]) if escape else None,
        record=re.compile(field + following + _END),
        leading=re.compile(b"(?:%b%b)*+" % (field, d)),
        field=re.compile(field),
        quoted=re.compile(quoted),
        quoted_body=re.compile(quoted_body),
        plain=re.compile(b"[^%b\r\n]*+" % d),
        following=re.compile(following),
    )


def _escape_of(dialect: Dialect) -> bytes:
    escape = _single_byte("escape", dialect.escape) if dialect.escape else b""
    if escape and escape.decode() in (dialect.delimiter, dialect.quote, dialect.comment[:1]):
        raise ConfigError(
            f"`escape` is {dialect.escape!r}, and so is another mark of [load.csv].",
            "Set them to different characters.",
        )
    return escape


def count_line_ends(text: bytes) -> int:
    """Return the number of line ends in a part of a text that parts no CR LF."""
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def end_of(pattern: re.Pattern[bytes], text: bytes, place: int, limit: int | None = None) -> int:
    """Return where a pattern that always matches, if only the empty text, ends."""
    found = pattern.match(text, place) if limit is None else pattern.match(text, place, limit)
    assert found is not None
    return found.end()


def _single_byte(name: str, character: str) -> bytes:
    # pyarrow splits at single bytes, as PostgreSQL's COPY does.
    if len(character) != 1 or not character.isascii() or character in "\r\n\0":
        raise ConfigError(
            f"`{name}` is {character!r}.", "Set it to one ASCII character that is no line end and no NUL."
        )
    return character.encode()
