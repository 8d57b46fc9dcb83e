"""Hive's partitions: ``year=2024/city=S%C3%A3o/part-0.parquet`` has two columns that are the same in each record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from urllib.parse import unquote

import pyarrow as pa

from etl.errors import SourceError
from etl.records import Position, Reader, RecordBatch

NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(path: str) -> dict[str, str | None]:
    """The columns that the folders of a path name, with their values; Hive's word for NULL is one.

    Raises SourceError for a name given twice, and for what is no UTF-8 behind its percent signs.
    """
    found: dict[str, str | None] = {}
    for folder in PurePath(path).parts[:-1]:
        key, equals, value = folder.partition("=")
        if not equals or not key:
            continue
        try:
            name, text = unquote(key, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise SourceError(f"The folder {folder!r} of {path} is no UTF-8.", "Rename the folder.") from None
        if name in found:
            raise SourceError(f"{path} has two folders for the partition {name!r}.", "Rename one of them.")
        found[name] = None if text == NULL else text
    return found


def without_partitions(schema: pa.Schema, partitions: Mapping[str, str | None]) -> pa.Schema:
    """The columns that are in the file itself."""
    return pa.schema([field for field in schema if field.name not in partitions])


class PartitionedReader:
    """What ``reader`` reads, with the partitions as columns of texts behind the others.

    Raises SourceError where the file has a column of that name itself: the two need not say the same.
    """

    def __init__(self, reader: Reader, shown: str, partitions: Mapping[str, str | None]) -> None:
        both = [name for name in partitions if name in reader.schema.names]
        if both:
            raise SourceError(
                f"{shown} has the column {', '.join(both)} in its path and in itself.",
                "Leave `hive` out and name the files by a glob, or rename the folders.",
            )
        self._reader = reader
        self._partitions = partitions
        self.schema: pa.Schema = pa.schema([*reader.schema, *((name, pa.string()) for name in partitions)])

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield the record batches behind ``start`` with the source columns ``columns``, or more."""
        own = [name for name in columns if name not in self._partitions]
        for records in self._reader.batches(start, own or self._reader.schema.names[:1]):
            yield replace(records, columns=self._with_partitions(records.columns))

    def _with_partitions(self, columns: pa.RecordBatch) -> pa.RecordBatch:
        texts = [pa.repeat(pa.scalar(value, pa.string()), columns.num_rows) for value in self._partitions.values()]
        return pa.RecordBatch.from_arrays([*columns.columns, *texts], names=[*columns.schema.names, *self._partitions])
