"""The footer of a Parquet file, read before pyarrow reads it: does it take too much memory, and where are its columns?

pyarrow's own way to the place of a column chunk ends the process when the chunk's metadata are damaged: it lets an
exception of C++ pass through (``RowGroupMetaData.column``, seen in pyarrow 26).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.readers.thrift import I64, Structs, TooLarge, Wanted

MOST_BYTES = 16 << 20
MOST_OPEN_BYTES = 200_000_000  # of the objects that it unfolds to
_MAGIC = b"PAR1"

# FileMetaData 4: the row groups; RowGroup 1: its columns; ColumnChunk 3: ColumnMetaData. The format: parquet.thrift
_VALUES, _DATA, _DICTIONARY = 5, 9, 11
_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3
_WANTED: Mapping[int, Wanted] = {
    _ROW_GROUPS: [{_COLUMNS: [{_META_DATA: {_VALUES: I64, _DATA: I64, _DICTIONARY: I64}}]}]
}


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where the pages of a column chunk begin in the file, and how many values they have."""

    start: int
    values: int


def chunk_places(path: Path) -> list[list[ChunkPlace]]:
    """For each row group the places of its column chunks, in the order of the leaves of the schema.

    Nothing for a file that does not end as a Parquet file does, which is pyarrow's to tell. Raises ValueError for a
    footer that takes too much memory to be read, is damaged, or says something that Thrift's readers would pass over.
    """
    footer = _footer_of(path)
    if footer is None:
        return []
    try:
        groups = _read(footer)[_ROW_GROUPS]
        return [[_place(chunk[_META_DATA]) for chunk in group[_COLUMNS]] for group in groups]
    except KeyError as error:
        raise ValueError(f"its footer lacks field {error}") from None


def _read(footer: bytes) -> dict[int, Any]:
    try:
        return Structs(footer, most=MOST_OPEN_BYTES).read(_WANTED)
    except TooLarge:
        raise ValueError(f"its footer unfolds to more than the {MOST_OPEN_BYTES:,} bytes that are allowed") from None
    except IndexError:
        raise ValueError("its footer does not end") from None
    except ValueError as error:
        raise ValueError(f"its footer is damaged: {error}") from None


def _footer_of(path: Path) -> bytes | None:
    """None where the end of the file does not say that there is one. Raises ValueError if it is larger than may be."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        tail = file.read(8)
        size = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MAGIC or size > end - 8:
            return None
        if size > MOST_BYTES:
            raise ValueError(f"its footer has {size:,} bytes, and {MOST_BYTES:,} are allowed")
        file.seek(end - 8 - size)
        return file.read(size)


def _place(chunk: dict[int, Any]) -> ChunkPlace:
    """Arrow begins to read at the dictionary, if its place is one and lies before that of the data."""
    start = chunk[_DATA]
    if 0 < chunk.get(_DICTIONARY, 0) < start:
        start = chunk[_DICTIONARY]
    if start < 0:
        raise ValueError("a column begins before the file")
    return ChunkPlace(start, chunk[_VALUES])
