"""Files to numbered record batches."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from etl.config import Format, Load
from etl.errors import SourceError
from etl.readers.archives import Member
from etl.readers.csv import CsvReader
from etl.readers.files import Source, Sources, Stamp, find_sources, format_of, open_decompressed, stamp
from etl.readers.fingerprints import Fingerprints
from etl.readers.partitions import PartitionedReader, partitions_of, without_partitions
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
    "open_decompressed",
    "open_reader",
    "prefetching",
    "stamp",
    "up_to",
]

_BY_PLACE = re.compile(r"f[1-9][0-9]*")


def open_reader(source: Source, load: Load, format_: Format, known: pa.Schema | None = None) -> Reader:
    """The reader of a source, opened: its header or footer has been read. Raises SourceError.

    ``known`` is the schema that was found before: believed where finding it takes reading all of the source.
    """
    if load.hive and (partitions := partitions_of(source.path)):
        file_schema = None if known is None else without_partitions(known, partitions)
        return PartitionedReader(_open_file(source, load, format_, file_schema), source.path, partitions)
    return _open_file(source, load, format_, known)


def _open_file(source: Source, load: Load, format_: Format, known: pa.Schema | None) -> Reader:
    if format_ == "jsonl":
        from etl.readers.json_shapes import wanted_of  # each format brings a library that the others have no use for
        from etl.readers.jsonl import JsonLinesReader

        return JsonLinesReader(source.location, source.path, load.max_record_bytes, known, wanted_of(load))
    if format_ == "arrow":
        from etl.readers.arrow import ArrowReader

        return ArrowReader(_on_disk(source), source.path, load.max_record_bytes)
    if format_ == "parquet":
        from etl.readers.parquet import ParquetReader

        return ParquetReader(_on_disk(source), source.path, load.max_record_bytes)
    return CsvReader(source.location, source.path, load.csv, names=_names(load), max_record_bytes=load.max_record_bytes)


def _on_disk(source: Source) -> Path:
    """Where a source is that is not read from start to end: a member of an archive has been copied, by its suffix."""
    if isinstance(source.location, Member):
        raise SourceError(
            f"{source.path} does not say by its suffix that it has to be unpacked before it is read.",
            "Give it a suffix such as .parquet or .arrow, or unpack it.",
        )
    return source.location


def _names(load: Load) -> tuple[str, ...] | None:
    """The columns of a file without a header: as ``[load.columns]`` names them, in its order; None means f1, f2, …"""
    named = tuple(name for column in load.columns.values() for name in column.source_columns)
    if load.csv.header or not named or all(_BY_PLACE.fullmatch(name) for name in named):
        return None
    return tuple(dict.fromkeys(named))
