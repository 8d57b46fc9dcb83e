"""How much memory a row group of a Parquet file takes at most, whatever its footer says.

A file of 4 kB may hold a billion records: a dictionary keeps a long value once, and a run of it takes a few bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.readers.footers import ChunkPlace
from etl.readers.pages import DELTAS, DICTIONARY, OF_A_DICTIONARY, PREFIXES, Page, read_pages

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LEVEL = 2  # bytes of a repetition or a definition level
_MOST_TIMES = 1_000
_SMALL_DICTIONARY = 1_024  # bytes: a value in it is no longer than that


@dataclass(frozen=True, slots=True)
class Chunk:
    """The values of one column of a row group: ``leaf`` is its place in the schema, ``values`` are so many."""

    leaf: Any
    values: int
    pages: tuple[Page, ...]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The chunks of a row group that are read; their pages have not been unfolded."""

    path: Path
    metadata: Any
    number: int
    chunks: tuple[Chunk, ...]

    @property
    def open_bytes(self) -> int:
        """Of what is unfolded at one time: of each column its dictionary and its largest page, and endless lists."""
        return sum(
            _open_bytes(chunk.pages) + _endless_bytes(chunk) + max(0, chunk.leaf.length) for chunk in self.chunks
        )

    def record_bytes(self) -> int:
        """Of a record whose values are as long as the longest in a dictionary, or as those of the page whose values
        are the longest on average. Unfolds the dictionaries: ``open_bytes`` says whether that can be done.

        Raises ArrowException for a damaged dictionary.
        """
        records = max(1, self.metadata.row_group(self.number).num_rows)
        return sum(self._longest_value(chunk) * -(-chunk.values // records) for chunk in self.chunks)

    def _longest_value(self, chunk: Chunk) -> int:
        if chunk.leaf.physical_type != "BYTE_ARRAY":
            width: int = _WIDTHS.get(chunk.leaf.physical_type, chunk.leaf.length)
            return width
        stored = [page for page in chunk.pages if page.type != DICTIONARY and page.values]
        longest = max((_longest_stored(page) for page in stored if page.encoding not in OF_A_DICTIONARY), default=0)
        if any(page.encoding in OF_A_DICTIONARY for page in stored):
            longest = max(longest, self._longest_in_dictionary(chunk))
        return longest

    def _longest_in_dictionary(self, chunk: Chunk) -> int:
        sizes = [(page.size, page.values) for page in chunk.pages if page.type == DICTIONARY]
        size, values = max(sizes, default=(0, 0))
        if size <= _SMALL_DICTIONARY:
            return size
        name = chunk.leaf.path
        if chunk.leaf.max_repetition_level > 0 or "." in name:
            return -(-size // max(1, values))
        file = pq.ParquetFile(
            self.path, metadata=self.metadata, read_dictionary=[name], page_checksum_verification=True
        )
        batches = file.iter_batches(batch_size=1, row_groups=[self.number], columns=[name], use_threads=False)
        column = next(batches).column(0)
        values_of = column.dictionary if isinstance(column, pa.DictionaryArray) else column
        return int(pc.max(pc.binary_length(values_of)).as_py() or 0)


def read_row_group(
    path: Path, metadata: Any, number: int, places: Sequence[ChunkPlace], columns: Sequence[str]
) -> RowGroup:
    """The headers of all pages of ``columns``. Raises ValueError where they and the footer do not go together.

    ``places`` are those of the row group's column chunks.
    """
    records = metadata.row_group(number).num_rows
    if len(places) != len(metadata.schema):
        raise ValueError(f"it has {len(places):,} columns for {len(metadata.schema):,} in the schema")
    chunks: list[Chunk] = []
    with path.open("rb", buffering=0) as file:
        for index in _leaves(metadata.schema, columns):
            place, leaf = places[index], metadata.schema.column(index)
            if leaf.max_repetition_level == 0 and place.values != records:
                raise ValueError(f"column {leaf.path} has {place.values:,} values for {records:,} records")
            chunks.append(Chunk(leaf, place.values, tuple(read_pages(file, place.start, place.values))))
    return RowGroup(path, metadata, number, tuple(chunks))


def _leaves(schema: Any, columns: Sequence[str]) -> list[int]:
    def is_taken(path: str) -> bool:
        return any(path == name or path.startswith(f"{name}.") for name in columns)

    return [index for index in range(len(schema)) if is_taken(schema.column(index).path)]


def _open_bytes(pages: Sequence[Page]) -> int:
    dictionary = max((page.size for page in pages if page.type == DICTIONARY), default=0)
    return dictionary + max((_page_bytes(page) for page in pages if page.type != DICTIONARY), default=0)


def _endless_bytes(chunk: Chunk) -> int:
    """All values of a column of lists that unfold to a thousand times what is stored: one record may have them all."""
    unfolded = chunk.values * (_WIDTHS.get(chunk.leaf.physical_type, 16) + 2 * _LEVEL)
    is_endless = unfolded > _MOST_TIMES * sum(page.stored for page in chunk.pages)
    return unfolded if is_endless and chunk.leaf.max_repetition_level > 0 else 0


def _page_bytes(page: Page) -> int:
    """Arrow unpacks all lengths of such a page at once, and they may take next to nothing in it."""
    return page.size + (8 * page.values if page.encoding in DELTAS else 0)


def _longest_stored(page: Page) -> int:
    """On average; but a value that begins as the one before does may be as long as the page and take a byte of it."""
    return page.size if page.encoding == PREFIXES else -(-page.size // page.values)
