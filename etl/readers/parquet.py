"""Parquet, row group by row group: only the columns that are taken, never a whole row group unfolded at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from etl.config import RECORD_BYTES
from etl.errors import SourceError
from etl.readers.unfolding import read_row_group
from etl.records import Phase, Position, Reason, RecordBatch, Reject

BATCH_RECORDS = 65_536
BATCH_BYTES = 16 * 2**20
STREAM_BUFFER = 2**20  # bytes of a column chunk that are read ahead
MOST_FOOTER_BYTES = 16 * 2**20
MOST_OPEN_BYTES = 128 * 2**20  # of the pages that are unfolded at one time, one of each column


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
            _check_footer(path)
            self._file = pq.ParquetFile(path, page_checksum_verification=True, buffer_size=STREAM_BUFFER)
            self.schema: pa.Schema = self._file.schema_arrow
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
                yield self._batch(values, first)
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
        row_group = read_row_group(self._path, self._file.metadata, group, columns)
        most = max(MOST_OPEN_BYTES, 8 * self._most_bytes)
        if row_group.open_bytes > most:
            raise ValueError(
                f"its pages unfold to {row_group.open_bytes:,} bytes at one time, and {most:,} are allowed "
                "(8 times max_record_bytes, if that is more than 128 MiB)"
            )
        return int(max(1, min(BATCH_RECORDS, BATCH_BYTES // max(1, row_group.record_bytes()))))

    def _batch(self, values: pa.RecordBatch, first: int) -> RecordBatch:
        """The records of ``values``, behind ``first`` others, and rejects in place of those that cannot be taken."""
        numbers = np.arange(first + 1, first + 1 + values.num_rows, dtype=np.int64)
        end = Position(record=first + values.num_rows)
        flaws = _texts_that_are_none(values) | self._long_records(values)
        if flaws:
            rejects = tuple(
                Reject(first + 1 + index, None, Phase.READ, reason, message, column=column)
                for index, (reason, message, column) in sorted(flaws.items())
            )
            good = np.delete(np.arange(values.num_rows), sorted(flaws))
            return RecordBatch(values.take(good), numbers[good], None, rejects, end, self._consumed(end.record))
        return RecordBatch(values, numbers, None, (), end, self._consumed(end.record))

    def _long_records(self, values: pa.RecordBatch) -> dict[int, _Flaw]:
        """The records that are longer than may be, by their place, each with its longest column."""
        if values.nbytes <= self._most_bytes:
            return {}
        sizes = [_sizes(column) for column in values.columns]
        total = sum(sizes, np.zeros(values.num_rows, np.int64))
        message = f"longer than {self._most_bytes:,} bytes (max_record_bytes)"
        return {
            place: (Reason.TOO_LONG, message, values.schema.names[int(np.argmax([size[place] for size in sizes]))])
            for place in np.flatnonzero(total > self._most_bytes).tolist()
        }

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


_Flaw = tuple[Reason, str, str]


def _check_footer(path: Path) -> None:
    """Raise ValueError for a footer that would take a multiple of its size in memory, and is large already."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        tail = file.read(8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] == b"PAR1" and MOST_FOOTER_BYTES < size <= end:
        raise ValueError(f"its footer has {size:,} bytes, and {MOST_FOOTER_BYTES:,} are allowed")


def _texts_that_are_none(values: pa.RecordBatch) -> dict[int, _Flaw]:
    """The records with bytes that are not UTF-8 where text should be: Arrow hands them on without a look."""
    flaws: dict[int, _Flaw] = {}
    for name, column in zip(values.schema.names, values.columns, strict=True):
        if _is_sound(column):
            continue
        places = [place for place in range(len(column)) if not _is_sound(column.slice(place, 1))]
        flaws |= dict.fromkeys(places, (Reason.ENCODING, "holds bytes that are not UTF-8", name))
    return flaws


def _is_sound(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _sizes(column: pa.Array) -> NDArray[np.int64]:
    """The bytes of each value."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return _sizes(column.dictionary_decode())
    if pa.types.is_nested(type_) or pa.types.is_string_view(type_) or pa.types.is_binary_view(type_):
        return np.array([column.slice(place, 1).nbytes for place in range(len(column))], np.int64)
    if any(is_so(type_) for is_so in _OF_ANY_LENGTH):
        sizes: NDArray[np.int64] = pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        return sizes.astype(np.int64)
    return np.full(len(column), 0 if pa.types.is_null(type_) else type_.bit_width // 8, np.int64)


_OF_ANY_LENGTH = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
