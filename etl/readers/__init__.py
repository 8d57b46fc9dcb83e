"""Files to numbered record batches."""

from __future__ import annotations

import re

from etl.config import Format, Load
from etl.readers.csv import CsvReader
from etl.readers.files import Source, Sources, Stamp, find_sources, format_of, stamp
from etl.readers.fingerprints import Fingerprints
from etl.readers.prefetch import prefetching
from etl.readers.rebatch import in_pieces, up_to
from etl.readers.watching import Watch
from etl.records import Reader

__all__ = [
    "Fingerprints",
    "Source",
    "Sources",
    "Stamp",
    "Watch",
    "find_sources",
    "format_of",
    "in_pieces",
    "open_reader",
    "prefetching",
    "stamp",
    "up_to",
]

_BY_PLACE = re.compile(r"f[1-9][0-9]*")


def open_reader(source: Source, load: Load, format_: Format) -> Reader:
    """The reader of a source, opened: its header or footer has been read. Raises SourceError."""
    if format_ == "parquet":
        from etl.readers.parquet import ParquetReader  # a CSV file has no use for what it brings

        return ParquetReader(source.location, source.path, load.max_record_bytes)
    return CsvReader(source.location, source.path, load.csv, names=_names(load), max_record_bytes=load.max_record_bytes)


def _names(load: Load) -> tuple[str, ...] | None:
    """The columns of a file without a header: as ``[load.columns]`` names them, in its order; None means f1, f2, …"""
    named = tuple(name for column in load.columns.values() for name in column.source_columns)
    if load.csv.header or not named or all(_BY_PLACE.fullmatch(name) for name in named):
        return None
    return tuple(dict.fromkeys(named))
