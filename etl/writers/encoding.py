"""Rows as the bytes of a COPY: binary where every column has an exact binary form, text otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from psycopg import Cursor, sql
from sqlalchemy.orm import Session

from etl.database import Target

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


def is_binary(sql_type: str, arrow_type: pa.DataType) -> bool:
    """Whether a column of ``sql_type`` can be sent in binary; a numeric of over 38 digits arrives as text."""
    if sql_type == "numeric":
        return bool(pa.types.is_decimal128(arrow_type))
    return sql_type in BINARY_TYPES


def quoted(target: Target) -> sql.Identifier:
    """The target's name, for SQL that psycopg composes."""
    table = target.table
    return sql.Identifier(table.schema, table.name) if table.schema else sql.Identifier(table.name)


def cursor_of(session: Session) -> Cursor[Any]:
    """A cursor of the driver on the session's own connection, in its transaction."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection.cursor()


def copy_in(cursor: Cursor[Any], table: sql.Identifier, rows: pa.RecordBatch, sql_types: Sequence[str]) -> None:
    """COPY ``rows`` into ``table``, whose columns of the same names have ``sql_types``; what fails is raised."""
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.schema.names))
    is_all_binary = all(map(is_binary, sql_types, rows.schema.types))
    blocks = binary_copy(rows, sql_types) if is_all_binary else [text_copy(rows)]
    form = sql.SQL("binary" if is_all_binary else "text")
    with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(table, columns, form)) as copy:
        for block in blocks:
            copy.write(block)


def binary_copy(rows: pa.RecordBatch, sql_types: Sequence[str]) -> list[bytes]:
    """``rows`` in the format of COPY … (FORMAT binary), header and trailer included."""
    columns = [
        _uuid_bytes(column) if sql_type == "uuid" else column
        for column, sql_type in zip(rows.columns, sql_types, strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=rows.schema.names)
    encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(
        batch.schema,
        {field.name: _encoder(field, sql_type) for field, sql_type in zip(batch.schema, sql_types, strict=True)},
    )
    return [encoder.write_header(), encoder.write_batch(batch), encoder.finish()]


def _encoder(field: pa.Field, sql_type: str) -> Any:
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


def text_copy(rows: pa.RecordBatch) -> bytes:
    """``rows`` in the text format of COPY (PostgreSQL documentation, COPY, "Text Format")."""
    if rows.num_rows == 0:
        return b""
    cells = [_copy_text(column) for column in rows.columns]
    lines = pc.binary_join_element_wise(*cells, "\t", null_handling="replace", null_replacement="\\N")
    ended = pc.binary_join_element_wise(lines, "\n", "", null_handling="replace", null_replacement="")
    return bytes(_data(ended.cast(pa.large_string())))


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
