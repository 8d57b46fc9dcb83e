"""Parquet, row group by row group: only the columns that are taken, never a whole row group unfolded at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import SourceError
from etl.records import Position, RecordBatch

BATCH_RECORDS = 65_536
BATCH_BYTES = 16 * 2**20
STREAM_BUFFER = 2**20  # bytes of a column chunk that are read ahead


class ParquetReader:
    """Reads the Parquet file at ``path``; messages call it ``shown``.

    Opening it reads the footer. Raises SourceError when the file is no Parquet file or has two columns of one name.
    """

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self._shown = shown
        with self._source_errors("is not a Parquet file that can be read"):
            self._file = pq.ParquetFile(path, page_checksum_verification=True, buffer_size=STREAM_BUFFER)
            self.schema: pa.Schema = self._file.schema_arrow
        self._size = path.stat().st_size
        doubled = [name for name, count in Counter(self.schema.names).items() if count > 1]
        if doubled:
            raise SourceError(f"{shown} has more than one column named {', '.join(doubled)}.", "Rename them.")

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield the record batches behind ``start.record`` with the source columns ``columns``."""
        first = start.record
        for group, skipped in self._row_groups_behind(start.record):
            for values in self._values(group, skipped, columns):
                numbers = np.arange(first + 1, first + 1 + values.num_rows, dtype=np.int64)
                first += values.num_rows
                yield RecordBatch(values, numbers, None, (), Position(record=first), self._consumed(first))

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
            batches = self._file.iter_batches(
                batch_size=self._batch_records(group),
                row_groups=[group],
                columns=list(columns),
                use_threads=False,
            )
            for values in batches:
                if skipped < values.num_rows:
                    yield values.slice(skipped)
                skipped = max(0, skipped - values.num_rows)

    def _batch_records(self, group: int) -> int:
        """Fewer records where they are large; the footer knows how large they are on average."""
        metadata = self._file.metadata.row_group(group)
        average: float = metadata.total_byte_size / max(1, metadata.num_rows)
        return int(max(1, min(BATCH_RECORDS, BATCH_BYTES / max(1.0, average))))

    def _consumed(self, record: int) -> int:
        """Bytes of the file, taken as spread evenly over its records: only progress is shown by it."""
        records: int = self._file.metadata.num_rows
        return self._size * record // max(1, records)

    @contextmanager
    def _source_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise SourceError(f"{self._shown} {what}: {said}.", "Write or copy the file again.") from error
