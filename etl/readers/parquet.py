"""Parquet, row group by row group: only the columns that are taken, never a whole row group unfolded at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from etl.config import RECORD_BYTES
from etl.errors import SourceError
from etl.readers.footers import chunk_places
from etl.readers.typed import BATCH_BYTES, BATCH_RECORDS, MOST_OPEN_BYTES, typed_batch, without_views
from etl.readers.unfolding import read_row_group
from etl.records import Position, RecordBatch

STREAM_BUFFER = 2**20  # bytes of a column chunk that are read ahead


class ParquetReader:
    """Reads the Parquet file at ``path``; messages call it ``shown``.

    Opening it reads the footer. Raises SourceError when the file is no Parquet file or has two columns of one name.
    A record with a value of more than ``max_record_bytes``, or with bytes that are no text, is a reject; a file that
    would take much more memory than that is a SourceError before it does.
    """

    def __init__(self, path: Path, shown: str, max_record_bytes: int = RECORD_BYTES) -> None:
        self._path = path
        self._shown = shown
        self._most_bytes = max_record_bytes
        with self._source_errors("is not a Parquet file that can be read"):
            self._places = chunk_places(path)
            self._file = pq.ParquetFile(path, page_checksum_verification=True, buffer_size=STREAM_BUFFER)
            self.schema: pa.Schema = without_views(self._file.schema_arrow)
            self._size = path.stat().st_size
            names = self.schema.names
        doubled = [name for name, count in Counter(names).items() if count > 1]
        if doubled:
            raise SourceError(f"{shown} has more than one column named {', '.join(doubled)}.", "Rename them.")

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield the record batches behind ``start.record`` with the source columns ``columns``."""
        first = start.record
        for group, skipped in self._row_groups_behind(start.record):
            for values in self._values(group, skipped, columns):
                yield typed_batch(values, first, self._most_bytes, self._consumed(first + values.num_rows))
                first += values.num_rows

    def _row_groups_behind(self, record: int) -> Iterator[tuple[int, int]]:
        """Each row group that has records behind ``record``, and how many of its records come before that."""
        begin = 0
        for group in range(self._file.metadata.num_row_groups):
            end = begin + self._file.metadata.row_group(group).num_rows
            if end > record:
                yield group, max(0, record - begin)
            begin = end

    def _values(self, group: int, skipped: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._source_errors(f"cannot be read in row group {group}"):
            left: int = self._file.metadata.row_group(group).num_rows
            batches = self._file.iter_batches(
                batch_size=self._batch_records(group, columns),
                row_groups=[group],
                columns=list(columns),
                use_threads=False,
            )
            for values in batches:
                left -= values.num_rows
                if skipped < values.num_rows:
                    yield values.slice(skipped)
                skipped = max(0, skipped - values.num_rows)
            if left:
                raise ValueError(f"it has {left:,} records fewer than the footer says")

    def _batch_records(self, group: int, columns: Sequence[str]) -> int:
        """So many records that they stay small, though every one of them may be as large as the pages allow."""
        row_group = read_row_group(self._path, self._file.metadata, group, self._places[group], columns)
        most = max(MOST_OPEN_BYTES, 8 * self._most_bytes)  # one page of each column
        if row_group.open_bytes > most:
            raise ValueError(
                f"its pages unfold to {row_group.open_bytes:,} bytes at one time, and {most:,} are allowed "
                "(8 times max_record_bytes, if that is more than 128 MiB)"
            )
        return int(max(1, min(BATCH_RECORDS, BATCH_BYTES // max(1, row_group.record_bytes()))))

    def _consumed(self, record: int) -> int:
        """Bytes of the file, taken as spread evenly over its records: only progress is shown by it."""
        records: int = self._file.metadata.num_rows
        return min(self._size, self._size * record // max(1, records))

    @contextmanager
    def _source_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
            said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise SourceError(f"{self._shown} {what}: {said}.", "Write or copy the file again.") from error
