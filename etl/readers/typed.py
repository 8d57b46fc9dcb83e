"""Records that come with types, from Parquet and Arrow files: what the formats have in common."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.records import Phase, Position, Reason, RecordBatch, Reject

BATCH_RECORDS = 65_536
BATCH_BYTES = 16 * 2**20
MOST_OPEN_BYTES = 128 * 2**20  # of what is unfolded at one time

_Flaw = tuple[Reason, str, str]


_WITHOUT_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def without_views(schema: pa.Schema) -> pa.Schema:
    """The schema of what ``typed_batch`` gives: Arrow cannot choose among the values of a column of views."""
    return pa.schema([field.with_type(_WITHOUT_VIEWS.get(field.type, field.type)) for field in schema])


def typed_batch(values: pa.RecordBatch, first: int, most_bytes: int, consumed: int) -> RecordBatch:
    """The records of ``values``, behind ``first`` others, and rejects in place of those that cannot be taken.

    Those are the ones with a text that is not UTF-8, or that are longer than ``most_bytes``.
    """
    columns = [_without_views(column) for column in values.columns]
    values = pa.RecordBatch.from_arrays(columns, schema=without_views(values.schema))
    numbers = np.arange(first + 1, first + 1 + values.num_rows, dtype=np.int64)
    end = Position(record=first + values.num_rows)
    long = _long_records(values, most_bytes)
    values, flaws = _without_unsound_texts(values)
    flaws |= long
    if not flaws:
        return RecordBatch(values, numbers, None, (), end, consumed)
    rejects = tuple(
        Reject(first + 1 + index, None, Phase.READ, reason, message, column=column)
        for index, (reason, message, column) in sorted(flaws.items())
    )
    good = np.delete(np.arange(values.num_rows), sorted(flaws))
    return RecordBatch(values.take(good), numbers[good], None, rejects, end, consumed)


def _without_views(column: pa.Array) -> pa.Array:
    """Of texts no UTF-8 is asked here."""
    if column.type not in _WITHOUT_VIEWS:
        return column
    return (_with_empty_nulls(column) if column.null_count else column).cast(_WITHOUT_VIEWS[column.type])


def _with_empty_nulls(column: pa.Array) -> pa.Array:
    """Arrow's cast follows the view in the place of a NULL too, which may be anything: validation passes over it."""
    validity, views, *data = column.buffers()
    cells = np.frombuffer(views, np.uint8, 16 * (column.offset + len(column))).reshape(-1, 16).copy()
    cells[column.offset :][column.is_null().to_numpy(zero_copy_only=False)] = 0
    buffers = [validity, pa.py_buffer(cells), *data]
    return pa.Array.from_buffers(column.type, len(column), buffers, offset=column.offset)


def _long_records(values: pa.RecordBatch, most_bytes: int) -> dict[int, _Flaw]:
    """The records that are longer than may be, by their place, each with its longest column."""
    if values.nbytes <= most_bytes:
        return {}
    sizes = [_sizes(column) for column in values.columns]
    total = sum(sizes, np.zeros(values.num_rows, np.int64))
    message = f"longer than {most_bytes:,} bytes (max_record_bytes)"
    return {
        place: (Reason.TOO_LONG, message, values.schema.names[int(np.argmax([size[place] for size in sizes]))])
        for place in np.flatnonzero(total > most_bytes).tolist()
    }


def _without_unsound_texts(values: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, _Flaw]]:
    """The records with bytes that are not UTF-8 where text should be: Arrow hands them on without a look.

    They stay among the values, but in no dictionary.
    """
    flaws: dict[int, _Flaw] = {}
    columns = values.columns
    for number, (name, column) in enumerate(zip(values.schema.names, columns, strict=True)):
        if _is_sound(column):
            continue
        places = np.flatnonzero(_are_unsound(column)).tolist()
        flaws |= dict.fromkeys(places, (Reason.ENCODING, "holds bytes that are not UTF-8", name))
        columns[number] = _with_sound_words(column)
    return pa.RecordBatch.from_arrays(columns, schema=values.schema), flaws


def _are_unsound(column: pa.Array) -> NDArray[np.bool_]:
    """Of each cell whether it is; of a dictionary, whether its word is."""
    if not pa.types.is_dictionary(column.type):
        return np.array([not _is_sound(column.slice(place, 1)) for place in range(len(column))], np.bool_)
    words = _are_unsound(column.dictionary)
    codes = pc.fill_null(column.indices, -1).to_numpy()
    return (codes >= 0) & words[codes] if len(words) else np.zeros(len(column), np.bool_)


def _with_sound_words(column: pa.Array) -> pa.Array:
    """A dictionary without the words that are no text: the records that have them are refused."""
    if not pa.types.is_dictionary(column.type):
        return column
    kept = pa.array(~_are_unsound(column.dictionary))
    words = pc.if_else(kept, column.dictionary, pa.scalar(None, column.dictionary.type))
    return pa.DictionaryArray.from_arrays(column.indices, words, ordered=column.type.ordered)


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
