"""The type of a target column that holds all values of an Arrow column, as Parquet files have them."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import types

from etl.errors import TargetMismatch
from etl.mapping.found_types import PRECISION, TEXT
from etl.mapping.typed import is_document, plain_type
from etl.records import ColumnType, Kind

_EXACT_DIGITS = 15  # of a NUMERIC on SQLite


def type_of_arrow(name: str, type_: pa.DataType, dialect: str) -> ColumnType:
    """Raises TargetMismatch for a type that no column takes."""
    if isinstance(type_, pa.UuidType):
        return ColumnType(Kind.UUID)
    plain = plain_type(type_)
    if is_document(plain):
        return ColumnType(Kind.JSON)
    if types.is_integer(plain):
        return _whole(plain, dialect)
    if types.is_decimal(plain):
        return _numeric(plain, dialect)
    if types.is_timestamp(plain):
        return ColumnType(Kind.TIMESTAMPTZ if plain.tz else Kind.TIMESTAMP)
    for is_type, kind in _KINDS:
        if is_type(plain):
            return ColumnType(kind)
    raise TargetMismatch(
        f'source column "{name}" has the type {type_}, for which there is no type of a column',
        "Create the table first, or add it to ignore_columns.",
    )


_KINDS = (
    (types.is_boolean, Kind.BOOLEAN),
    (types.is_float32, Kind.REAL),
    (types.is_float64, Kind.DOUBLE),
    (types.is_string, Kind.TEXT),
    (types.is_null, Kind.TEXT),
    (types.is_date, Kind.DATE),
    (types.is_time, Kind.TIME),
    (types.is_binary, Kind.BYTES),
    (types.is_fixed_size_binary, Kind.BYTES),
)


def _whole(type_: pa.DataType, dialect: str) -> ColumnType:
    bits = type_.bit_width + types.is_unsigned_integer(type_)
    if bits > 64:
        return TEXT if dialect == "sqlite" else ColumnType(Kind.NUMERIC, precision=20, scale=0)
    return ColumnType(Kind.SMALLINT if bits <= 16 else Kind.INTEGER if bits <= 32 else Kind.BIGINT)


def _numeric(type_: pa.DataType, dialect: str) -> ColumnType:
    scale = max(0, type_.scale)
    precision = max(type_.precision - min(0, type_.scale), scale)
    if dialect == "sqlite" and precision > _EXACT_DIGITS:
        return TEXT  # which keeps every digit
    return ColumnType(Kind.NUMERIC) if precision > PRECISION else ColumnType(Kind.NUMERIC, None, precision, scale)
