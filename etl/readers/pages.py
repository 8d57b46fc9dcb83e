"""The page headers of a Parquet file, read without unfolding a page: how much memory will its pages take?

The footer may lie about sizes, and pyarrow takes the memory that a page's header asks for before it looks at the page.
So each header is looked at first, by its few fields in Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # PageType
OF_A_DICTIONARY = (2, 8)  # Encoding: PLAIN_DICTIONARY, RLE_DICTIONARY
DELTAS = (5, 6, 7)  # DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY
PREFIXES = 7  # DELTA_BYTE_ARRAY: a value begins as the one before does
_FIRST_READ = 256  # bytes: most headers have less than 100
_MOST_HEADER_BYTES = 16 << 20  # as in Arrow; a header holds the least and the greatest value
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Page:
    """A page as its header tells it: ``size`` in bytes when it is unfolded, ``stored`` as it is in the file."""

    type: int
    size: int
    stored: int
    values: int
    encoding: int


def read_pages(file: IO[bytes], start: int, values: int) -> Iterator[Page]:
    """The pages of a column chunk that begins at ``start``, until its data pages hold ``values`` values.

    Raises ValueError for what is no page header, or where the file ends.
    """
    place, seen = start, 0
    while seen < values:
        header, size = _read_header(file, place)
        page = _page(header)
        if page.type in (DATA, DATA_V2):
            seen += page.values
        place += size + page.stored
        yield page


def _page(header: dict[int, Any]) -> Page:
    kind = _number(header, 1)
    # The header of the type, and in it the numbers of the fields that tell values and encoding.
    place, values, encoding = {DATA: (5, 1, 2), DICTIONARY: (7, 1, 2), DATA_V2: (8, 1, 4)}.get(kind, (0, 0, 0))
    if not place:
        return Page(kind, _number(header, 2), _number(header, 3), 0, 0)
    inner = header.get(place)
    if not isinstance(inner, dict):
        raise ValueError(f"a page header of type {kind} lacks its part {place}")
    return Page(kind, _number(header, 2), _number(header, 3), _number(inner, values), _number(inner, encoding))


def _number(fields: dict[int, Any], number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"a page header has no sound field {number}")
    return value


def _read_header(file: IO[bytes], place: int) -> tuple[dict[int, Any], int]:
    """The fields of the header at ``place``, and its size."""
    size = _FIRST_READ
    while True:
        file.seek(place)
        data = file.read(size)
        try:
            return _read_struct(data, 0, 0)
        except IndexError:
            if len(data) < size or size >= _MOST_HEADER_BYTES:
                raise ValueError("a page header does not end") from None
        size *= 4


def _read_struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by number, and the place behind it. Raises IndexError when the data end before it does."""
    if depth > _DEEPEST:
        raise ValueError("a page header is nested too deep")
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _read_zigzag(data, at)
        fields[number], at = _read_value(data, at, head & 0x0F, depth)
    return fields, at + 1


def _read_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true, false
        return kind == 1, at
    if kind == 3:  # a byte
        return data[at], at + 1
    if kind in (4, 5, 6):  # whole numbers
        return _read_zigzag(data, at)
    if kind == 7:  # a double
        return None, _passed(data, at + 8)
    if kind == 8:  # bytes
        size, at = _read_varint(data, at)
        return None, _passed(data, at + size)
    if kind == 12:
        return _read_struct(data, at, depth + 1)
    raise ValueError(f"a page header has a field of type {kind}")


def _passed(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _read_zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a page header has a number without an end")
