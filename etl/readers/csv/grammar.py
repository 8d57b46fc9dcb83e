"""What a well-formed CSV record is, as regular expressions over UTF-8 bytes.

    record    = field *(delimiter field) line-end
    field     = quoted / bare
    quoted    = quote *(any byte but quote / quote quote) quote
    bare      = *(any byte but quote, delimiter, CR, LF)
    line-end  = CR LF / CR / LF / end of text

Every repetition is possessive, so that matching never goes back and takes linear time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from etl.errors import ConfigError

LINE_END = re.compile(rb"\r\n?|\n")
BLANK_LINES = re.compile(rb"[\r\n]*+")
LF = 0x0A
CR = 0x0D


class Dialect(Protocol):
    """How a CSV file is written; ``quote`` is empty for files without quoting."""

    @property
    def delimiter(self) -> str: ...
    @property
    def quote(self) -> str: ...
    @property
    def header(self) -> bool: ...
    @property
    def encoding(self) -> str: ...
    @property
    def null(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Grammar:
    """The patterns of one dialect. Each is matched at a place in the text; ``quote`` is empty for none."""

    delimiter: bytes
    quote: bytes
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
            return field[1:-1].replace(self.quote * 2, self.quote)
        return field


_END = rb"(?:\r\n?|\n|\Z)"


def make_grammar(dialect: Dialect) -> Grammar:
    """Return the grammar of a dialect. Raises ConfigError when its delimiter or quote cannot be used."""
    delimiter = _single_byte("delimiter", dialect.delimiter)
    quote = _single_byte("quote", dialect.quote) if dialect.quote else b""
    if delimiter == quote:
        raise ConfigError(f"`delimiter` and `quote` are both {dialect.quote!r}.", "Set them to different characters.")
    d, q = re.escape(delimiter), re.escape(quote)
    quoted_body = b"[^%b]*+(?:%b%b[^%b]*+)*+" % (q, q, q, q) if quote else b""
    quoted = q + quoted_body + q if quote else rb"(?!)"
    field = b"(?>%b|[^%b%b\r\n]*+)" % (quoted, d, q)
    following = b"(?:%b%b)*+" % (d, field)
    return Grammar(
        delimiter=delimiter,
        quote=quote,
        record=re.compile(field + following + _END),
        leading=re.compile(b"(?:%b%b)*+" % (field, d)),
        field=re.compile(field),
        quoted=re.compile(quoted),
        quoted_body=re.compile(quoted_body),
        plain=re.compile(b"[^%b\r\n]*+" % d),
        following=re.compile(following),
    )


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
