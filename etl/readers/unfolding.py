"""How much memory a row group of a Parquet file takes at most, whatever its footer says.

A file of 4 kB may hold a billion records: a dictionary keeps a long value once, and a run of it takes a few bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.readers.pages import DELTAS, DICTIONARY, OF_A_DICTIONARY, PREFIXES, Page, read_pages

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_SMALL_DICTIONARY = 1_024  # bytes: a value in it is no longer than that


@dataclass(frozen=True, slots=True)
class Unfolding:
    """``open_bytes``: of the pages that are unfolded at one time, of each column its dictionary and its largest page.
    ``record_bytes``: of a record, each of its values as long as the longest in a dictionary, or as those of the page
    whose values are the longest on average."""

    open_bytes: int
    record_bytes: int


def most_unfolded(path: Path, metadata: Any, group: int, columns: Sequence[str]) -> Unfolding:
    """What the row group takes when ``columns`` are read.

    Raises ValueError where page headers and footer do not go together, ArrowException for a damaged dictionary.
    """
    open_bytes = record_bytes = 0
    records = metadata.row_group(group).num_rows
    with path.open("rb", buffering=0) as file:
        for index in _leaves(metadata.schema, columns):
            chunk, leaf = metadata.row_group(group).column(index), metadata.schema.column(index)
            if leaf.max_repetition_level == 0 and chunk.num_values != records:
                raise ValueError(f"column {leaf.path} has {chunk.num_values:,} values for {records:,} records")
            pages = list(read_pages(file, _start(chunk), chunk.num_values))
            open_bytes += _open_bytes(pages) + max(0, leaf.length)
            longest = _longest_value(path, metadata, group, leaf, pages)
            record_bytes += longest * -(-chunk.num_values // max(1, records))
    return Unfolding(open_bytes, record_bytes)


def _leaves(schema: Any, columns: Sequence[str]) -> list[int]:
    def is_taken(path: str) -> bool:
        return any(path == name or path.startswith(f"{name}.") for name in columns)

    return [index for index in range(len(schema)) if is_taken(schema.column(index).path)]


def _start(chunk: Any) -> int:
    """Where Arrow begins to read: at the dictionary, if its place is one and lies before that of the data."""
    first: int = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < first:
        first = chunk.dictionary_page_offset
    if first < 0:
        raise ValueError("a column begins before the file")
    return first


def _open_bytes(pages: Sequence[Page]) -> int:
    dictionary = max((page.size for page in pages if page.type == DICTIONARY), default=0)
    return dictionary + max((_page_bytes(page) for page in pages if page.type != DICTIONARY), default=0)


def _page_bytes(page: Page) -> int:
    """Arrow unpacks all lengths of such a page at once, and they may take next to nothing in it."""
    return page.size + (8 * page.values if page.encoding in DELTAS else 0)


def _longest_value(path: Path, metadata: Any, group: int, leaf: Any, pages: Sequence[Page]) -> int:
    if leaf.physical_type != "BYTE_ARRAY":
        width: int = _WIDTHS.get(leaf.physical_type, leaf.length)
        return width
    stored = [page for page in pages if page.type != DICTIONARY and page.values]
    longest = max((_longest_stored(page) for page in stored if page.encoding not in OF_A_DICTIONARY), default=0)
    if any(page.encoding in OF_A_DICTIONARY for page in stored):
        longest = max(longest, _longest_in_dictionary(path, metadata, group, leaf, pages))
    return longest


def _longest_stored(page: Page) -> int:
    """On average; but a value that begins as the one before does may be as long as the page and take a byte of it."""
    return page.size if page.encoding == PREFIXES else -(-page.size // page.values)


def _longest_in_dictionary(path: Path, metadata: Any, group: int, leaf: Any, pages: Sequence[Page]) -> int:
    sizes = [(page.size, page.values) for page in pages if page.type == DICTIONARY]
    size, values = max(sizes, default=(0, 0))
    if size <= _SMALL_DICTIONARY:
        return size
    if leaf.max_repetition_level > 0 or "." in leaf.path:
        return -(-size // max(1, values))
    file = pq.ParquetFile(path, metadata=metadata, read_dictionary=[leaf.path], page_checksum_verification=True)
    batch = next(file.iter_batches(batch_size=1, row_groups=[group], columns=[leaf.path], use_threads=False))
    lengths = pc.max(pc.binary_length(batch.column(0).dictionary)).as_py()
    return int(lengths or 0)
