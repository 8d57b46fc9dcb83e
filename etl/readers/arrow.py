"""Arrow IPC, which Feather files are too: record batches with a type for each column, as a file or as a stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.config import RECORD_BYTES
from etl.errors import SourceError
from etl.readers.files import open_decompressed
from etl.readers.messages import Message, read_messages
from etl.readers.typed import BATCH_BYTES, BATCH_RECORDS, MOST_OPEN_BYTES, typed_batch, without_views
from etl.records import Position, RecordBatch

_MAGIC, _PADDING = b"ARROW1", 2
_FEATHER_1 = b"FEA1"


class ArrowReader:
    """Reads the Arrow IPC file or stream at ``location``, such as a Feather file; messages call it ``shown``.

    Opening it reads what it says of each of its batches, and none of their values. Raises SourceError when it is no
    such file, has two columns of one name, or a batch that would take much more memory than ``max_record_bytes``
    allows. A record with a value of more than that, or with bytes that are no text, is a reject.
    """

    def __init__(self, location: Path, shown: str, max_record_bytes: int = RECORD_BYTES) -> None:
        self._location = location
        self._shown = shown
        self._most_bytes = max_record_bytes
        with self._source_errors("is not an Arrow IPC file or stream that can be read"):
            self._is_file, messages, self._stored = self._scanned()
            self._records = [message.records for message in messages if not message.is_dictionary]
            with self._opened() as opened:
                self.schema: pa.Schema = without_views(opened.schema)
            self._require_small(messages)
            doubled = [name for name, count in Counter(self.schema.names).items() if count > 1]
        if doubled:
            raise SourceError(f"{shown} has more than one column named {', '.join(doubled)}.", "Rename them.")

    def batches(self, start: Position, columns: Sequence[str]) -> Iterator[RecordBatch]:
        """Yield the record batches behind ``start.record`` with the source columns ``columns``."""
        first = start.record
        with self._source_errors("cannot be read"), self._opened() as opened:
            for values in self._values_behind(start.record, opened, columns):
                for part in _parts(values):
                    done = first + part.num_rows
                    yield typed_batch(part, first, self._most_bytes, self._consumed(done))
                    first = done

    def _values_behind(self, record: int, opened: Any, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        begin = 0
        for number, records in enumerate(self._records):
            end = begin + records
            # A stream has to be read up to there; of a file each batch can be had by itself.
            if end > record or not self._is_file:
                values = opened.get_batch(number) if self._is_file else opened.read_next_batch()
                if values.num_rows != records:
                    raise ValueError(f"batch {number} has other than the {records:,} records that it says")
                if end > record:
                    taken = values.select(list(columns))
                    _require_sound(taken)
                    yield taken.slice(max(0, record - begin))
            begin = end

    def _scanned(self) -> tuple[bool, list[Message], int]:
        with open_decompressed(self._location, self._shown) as file:
            magic = file.read(len(_MAGIC))
            if magic.startswith(_FEATHER_1):
                raise ValueError("it is of version 1 of Feather")
            is_file = magic == _MAGIC
            if is_file and file.is_compressed:
                raise ValueError(
                    "it is an Arrow file that was compressed as a whole, in which nothing can be looked up"
                )
        with open_decompressed(self._location, self._shown) as file:
            file.skip(len(_MAGIC) + _PADDING if is_file else 0)
            messages = list(read_messages(file))
            return is_file, messages, file.stored

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if self._is_file:
            with pa.OSFile(str(self._location)) as file:
                yield pa.ipc.open_file(file)
        else:
            with open_decompressed(self._location, self._shown) as opened:
                yield pa.ipc.open_stream(opened.stream)

    def _require_small(self, messages: Sequence[Message]) -> None:
        dictionaries = sum(message.open_bytes for message in messages if message.is_dictionary)
        largest = max((message.open_bytes for message in messages if not message.is_dictionary), default=0)
        most = max(MOST_OPEN_BYTES, 8 * self._most_bytes)
        if dictionaries + largest > most:
            raise ValueError(
                f"its largest batch unfolds to {dictionaries + largest:,} bytes, dictionaries among them, and "
                f"{most:,} are allowed (8 times max_record_bytes, if that is more than 128 MiB): "
                "it needs batches of fewer records"
            )

    def _consumed(self, record: int) -> int:
        """Bytes of the file, taken as spread evenly over its records: only progress is shown by it."""
        return self._stored * record // max(1, sum(self._records))

    @contextmanager
    def _source_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
            said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise SourceError(f"{self._shown} {what}: {said}.", "Write or copy the file again.") from error


def _require_sound(values: pa.RecordBatch) -> None:
    """Raise ArrowInvalid for values that lie outside of their batch: Arrow would take them from anywhere in memory.

    A text that is no UTF-8 is the affair of its record: it must not end the search for what lies outside.
    """
    for column in values.columns:
        column.view(_as_bytes(column.type)).validate(full=True)


_BYTES_OF = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


def _as_bytes(type_: pa.DataType) -> pa.DataType:
    """The type of the same memory in which texts are any bytes."""
    if type_ in _BYTES_OF:
        return _BYTES_OF[type_]
    if pa.types.is_dictionary(type_):
        return pa.dictionary(type_.index_type, _as_bytes(type_.value_type), type_.ordered)
    if pa.types.is_struct(type_):
        return pa.struct([_field_as_bytes(type_.field(place)) for place in range(type_.num_fields)])
    if pa.types.is_map(type_):
        return pa.map_(_field_as_bytes(type_.key_field), _field_as_bytes(type_.item_field))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_field_as_bytes(type_.value_field), type_.list_size)
    for is_type, made in _LISTS:
        if is_type(type_):
            return made(_field_as_bytes(type_.value_field))
    return type_


_LISTS = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)


def _field_as_bytes(field: pa.Field) -> pa.Field:
    return field.with_type(_as_bytes(field.type))


def _parts(values: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """So many records at a time that they stay small, though each of them has the longest value that is kept once."""
    plain = [column.nbytes for column in values.columns if not _is_shared(column.type)]
    record_bytes = sum(plain) // max(1, values.num_rows) + sum(
        _longest(column) for column in values.columns if _is_shared(column.type)
    )
    size = max(1, min(BATCH_RECORDS, BATCH_BYTES // max(1, record_bytes)))
    for first in range(0, values.num_rows, size):
        yield values.slice(first, size)


def _is_shared(type_: pa.DataType) -> bool:
    """Whether many records may have one value that is kept once."""
    return any(is_so(type_) for is_so in (pa.types.is_dictionary, pa.types.is_string_view, pa.types.is_binary_view))


def _longest(column: pa.Array) -> int:
    """The bytes of the longest value."""
    if pa.types.is_dictionary(column.type):
        return _longest(column.dictionary)
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        views = np.frombuffer(column.buffers()[1], np.int32)
        return int(views[4 * column.offset : 4 * (column.offset + len(column)) : 4].max(initial=0))
    if pa.types.is_primitive(column.type) or not len(column):
        return 8
    try:
        return int(pc.max(pc.binary_length(column)).as_py() or 0)
    except pa.ArrowNotImplementedError:
        return int(-(-column.nbytes // len(column)))
