"""The page headers of a Parquet file, read without unfolding a page: how much memory will its pages take?

The footer may lie about sizes, and pyarrow takes the memory that a page's header asks for before it looks at the page.
So each header is looked at first, by its few fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from etl.readers.thrift import I32, Structs, Wanted

DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # PageType
OF_A_DICTIONARY = (2, 8)  # Encoding: PLAIN_DICTIONARY, RLE_DICTIONARY
DELTAS = (5, 6, 7)  # DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY
PREFIXES = 7  # DELTA_BYTE_ARRAY: a value begins as the one before does
_FIRST_READ = 256  # bytes: most headers have less than 100
_MOST_HEADER_BYTES = 16 << 20  # as in Arrow; a header holds the least and the greatest value
# The header of each type of page: its field, and in it the fields that tell values and encoding.
_OF_TYPE = {DATA: (5, 1, 2), DICTIONARY: (7, 1, 2), DATA_V2: (8, 1, 4)}
_HEADER: Mapping[int, Wanted] = {
    1: I32,
    2: I32,
    3: I32,
    **{place: {values: I32, encoding: I32} for place, values, encoding in _OF_TYPE.values()},
}


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
    if kind not in _OF_TYPE:
        return Page(kind, _number(header, 2), _number(header, 3), 0, 0)
    place, values, encoding = _OF_TYPE[kind]
    if place not in header:
        raise ValueError(f"a page header of type {kind} lacks its part {place}")
    inner = header[place]
    return Page(kind, _number(header, 2), _number(header, 3), _number(inner, values), _number(inner, encoding))


def _number(fields: dict[int, Any], number: int) -> int:
    value: int = fields.get(number, -1)
    if value < 0:
        raise ValueError(f"a page header has no sound field {number}")
    return value


def _read_header(file: IO[bytes], place: int) -> tuple[dict[int, Any], int]:
    """The fields of the header at ``place``, and its size."""
    size = _FIRST_READ
    while True:
        file.seek(place)
        data = file.read(size)
        structs = Structs(data)
        try:
            return structs.read(_HEADER), structs.at
        except IndexError:
            if len(data) < size or size >= _MOST_HEADER_BYTES:
                raise ValueError("a page header does not end") from None
        except ValueError as error:
            raise ValueError(f"a page header is damaged: {error}") from None
        size *= 4
