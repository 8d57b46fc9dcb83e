"""COPY into a table: Arrow columns as its bytes, binary where every column has an exact binary form, text otherwise.

Encoding needs no connection, so that it can be done on another thread than the one that waits for the database. Who
loads into SQLite imports nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from psycopg import Cursor, sql
from sqlalchemy import Table
from sqlalchemy.orm import Session

from etl.records import Encoded

# Types whose binary form (typreceive) is exactly what pgpq writes for the mapper's Arrow type.
BINARY_TYPES = frozenset(
    {
        "smallint",
        "integer",
        "bigint",
        "real",
        "double precision",
        "numeric",
        "boolean",
        "date",
        "time without time zone",
        "timestamp without time zone",
        "timestamp with time zone",
        "text",
        "character varying",
        "bpchar",
        "citext",
        "json",
        "jsonb",
        "uuid",
        "bytea",
    }
)


# Rows that are encoded at a time. Not many: pgpq holds the GIL meanwhile, and a chunk that loses a row is made anew.
# Not few: a chunk by itself costs as much as a thousand rows.
CHUNK_ROWS = 2_048

_INT16, _INT32 = Struct(">h"), Struct(">i")


def is_binary(sql_type: str, arrow_type: pa.DataType) -> bool:
    """Whether a column of ``sql_type`` can be sent in binary; a numeric of over 38 digits arrives as text."""
    if sql_type == "numeric":
        return bool(pa.types.is_decimal128(arrow_type))
    return sql_type in BINARY_TYPES


def quoted(table: Table, schema: str | None = None) -> sql.Identifier:
    """The name of a table, for SQL that psycopg composes; ``schema`` is taken instead of the table's own."""
    place = schema or table.schema
    return sql.Identifier(place, table.name) if place else sql.Identifier(table.name)


def cursor_of(session: Session) -> Cursor[Any]:
    """A cursor of the driver on the session's own connection, in its transaction."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection.cursor()


def emptied(cursor: Cursor[Any], table: sql.Identifier) -> bool:
    """Whether there is such a table, which is empty now."""
    known = cursor.execute("SELECT to_regclass(%s)", [table.as_string(cursor)]).fetchone()
    if known is None or known[0] is None:
        return False
    cursor.execute(sql.SQL("TRUNCATE {}").format(table))
    return True


def copy_in(cursor: Cursor[Any], table: sql.Identifier, rows: pa.RecordBatch, sql_types: Sequence[str]) -> None:
    """COPY ``rows`` into ``table``, whose columns of the same names have ``sql_types``; what fails is raised."""
    copy_blocks(cursor, table, rows.schema, sql_types, encode(rows, sql_types))


def copy_blocks(
    cursor: Cursor[Any], table: sql.Identifier, schema: pa.Schema, sql_types: Sequence[str], blocks: Iterable[bytes]
) -> None:
    """COPY the ``blocks`` that were encoded from rows of ``schema`` for ``sql_types``; what fails is raised."""
    columns = sql.SQL(", ").join(map(sql.Identifier, schema.names))
    form = sql.SQL("binary" if _all_binary(schema, sql_types) else "text")
    with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(table, columns, form)) as copy:
        for block in blocks:
            copy.write(block)


def encode(rows: pa.RecordBatch, sql_types: Sequence[str]) -> Encoded:
    """``rows`` as the data of a COPY; ``sql_types`` are those of its columns, in order."""
    encoder = _encoder_of(rows.schema, sql_types)
    chunks = (rows.slice(start, CHUNK_ROWS) for start in range(0, rows.num_rows, CHUNK_ROWS))
    return Encoded(encoder.head(), tuple(map(encoder.chunk, chunks)), encoder.tail(), CHUNK_ROWS)


def encode_kept(
    rows: pa.RecordBatch, sql_types: Sequence[str], encoded: Encoded, is_kept: NDArray[np.bool_]
) -> Iterator[bytes]:
    """The data of a COPY of the rows that ``is_kept`` marks; chunks of ``encoded`` that lose none go as they are."""
    encoder = _encoder_of(rows.schema, sql_types)
    yield encoder.head()
    for number, chunk in enumerate(encoded.chunks):
        here = slice(number * encoded.chunk_rows, (number + 1) * encoded.chunk_rows)
        kept = np.flatnonzero(is_kept[here])
        lost = len(is_kept[here]) - len(kept)
        if not lost:
            yield chunk
        elif lost == 1:
            yield from _without(chunk, int(np.argmin(is_kept[here])), rows[here], encoder)
        elif len(kept):
            yield encoder.chunk(rows.take(pa.array(kept + here.start)))
    yield encoder.tail()


def _without(chunk: bytes, place: int, rows: pa.RecordBatch, encoder: _BinaryEncoder | _TextEncoder) -> Iterator[bytes]:
    """A chunk of ``rows`` but for the one at ``place``.

    It is found by encoding those before it, or those from it on, whichever are fewer: to take the others from the rows,
    and encode them, takes several times as long.
    """
    if place <= len(rows) // 2:
        start = len(encoder.chunk(rows.slice(0, place))) if place else 0
    else:
        start = len(chunk) - len(encoder.chunk(rows.slice(place)))
    yield chunk[:start]
    yield chunk[encoder.end_of_row(chunk, start) :]


def _all_binary(schema: pa.Schema, sql_types: Sequence[str]) -> bool:
    return all(map(is_binary, sql_types, schema.types))


def _encoder_of(schema: pa.Schema, sql_types: Sequence[str]) -> _BinaryEncoder | _TextEncoder:
    return _BinaryEncoder(schema, sql_types) if _all_binary(schema, sql_types) else _TextEncoder()


class _BinaryEncoder:
    """COPY … (FORMAT binary): a header, the rows, a trailer (PostgreSQL documentation, COPY, "Binary Format")."""

    _HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    _TAIL = b"\xff\xff"

    def __init__(self, schema: pa.Schema, sql_types: Sequence[str]) -> None:
        self._sql_types = sql_types
        self._schema = pa.schema(map(_sent_field, schema, sql_types))
        self._encoders = {
            field.name: _column_encoder(field, type_) for field, type_ in zip(self._schema, sql_types, strict=True)
        }

    def head(self) -> bytes:
        return self._HEAD

    def chunk(self, rows: pa.RecordBatch) -> bytes:
        """By an encoder of its own: pgpq gives out what it has made when its buffer is full, not with each batch."""
        columns = list(map(_sent_column, rows.columns, self._sql_types))
        encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(self._schema, self._encoders)
        data = encoder.write_header() + encoder.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        whole: bytes = data + encoder.finish()
        return whole[len(self._HEAD) : -len(self._TAIL)]

    def tail(self) -> bytes:
        return self._TAIL

    @staticmethod
    def end_of_row(chunk: bytes, start: int) -> int:
        """Behind the number of its fields, and each field with its length before it, -1 of a NULL."""
        (fields,) = _INT16.unpack_from(chunk, start)
        place: int = start + _INT16.size
        for _ in range(fields):
            (length,) = _INT32.unpack_from(chunk, place)
            place += _INT32.size + max(0, length)
        return place


def _sent_field(field: pa.Field, sql_type: str) -> pa.Field:
    return field.with_type(pa.binary(16)) if sql_type == "uuid" else field


def _sent_column(column: pa.Array, sql_type: str) -> pa.Array:
    return _uuid_bytes(column) if sql_type == "uuid" else column


def _column_encoder(field: pa.Field, sql_type: str) -> Any:
    if sql_type == "jsonb":
        return StringEncoderBuilder.new_with_output(field, Jsonb())
    return ArrowToPostgresBinaryEncoder.infer_encoder(field)


_DIGIT = np.zeros(256, dtype=np.uint8)
_DIGIT[np.frombuffer(b"0123456789abcdef", dtype=np.uint8)] = np.arange(16)
_HYPHENS = (8, 13, 18, 23)


def _uuid_bytes(column: pa.Array) -> pa.Array:
    """Canonical texts of 36 characters as their 16 bytes."""
    filled = pc.fill_null(column, "00000000-0000-0000-0000-000000000000")
    texts = np.frombuffer(b"".join(filled.cast(pa.binary()).to_pylist()), dtype=np.uint8).reshape(-1, 36)
    digits = _DIGIT[np.delete(texts, _HYPHENS, axis=1)]
    values = (digits[:, 0::2] << 4 | digits[:, 1::2]).tobytes()
    mask = None if column.null_count == 0 else column.is_null()
    array = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(column), [None, pa.py_buffer(values)])
    return array if mask is None else pc.if_else(mask, pa.scalar(None, pa.binary(16)), array)


class _TextEncoder:
    """COPY … (FORMAT text) (PostgreSQL documentation, COPY, "Text Format")."""

    def head(self) -> bytes:
        return b""

    def chunk(self, rows: pa.RecordBatch) -> bytes:
        cells = [_copy_text(column) for column in rows.columns]
        lines = pc.binary_join_element_wise(*cells, "\t", null_handling="replace", null_replacement="\\N")
        ended = pc.binary_join_element_wise(lines, "\n", "", null_handling="replace", null_replacement="")
        return bytes(_data(ended.cast(pa.large_string())))

    def tail(self) -> bytes:
        return b""

    @staticmethod
    def end_of_row(chunk: bytes, start: int) -> int:
        """A line end that is data is escaped."""
        return chunk.index(b"\n", start) + 1


def _data(lines: pa.Array) -> memoryview:
    offsets = np.frombuffer(lines.buffers()[1], dtype=np.int64)
    first, last = int(offsets[lines.offset]), int(offsets[lines.offset + len(lines)])
    return memoryview(lines.buffers()[2])[first:last]


def _copy_text(column: pa.Array) -> pa.Array:
    type_ = column.type
    if pa.types.is_boolean(type_):
        return column.cast(pa.string())
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        return pc.binary_join_element_wise(column.cast(pa.timestamp("us")).cast(pa.string()), "+00", "")
    if pa.types.is_binary(type_):
        hexed = [None if value is None else "\\\\x" + value.hex() for value in column.to_pylist()]
        return pa.array(hexed, pa.string())
    if pa.types.is_string(type_):
        return _escaped(column)
    return column.cast(pa.string())


def _escaped(column: pa.Array) -> pa.Array:
    for character, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        if pc.any(pc.match_substring(column, character)).as_py():
            column = pc.replace_substring(column, character, escape)
    return column
