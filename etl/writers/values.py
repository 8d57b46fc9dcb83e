"""The Python values of mapped rows, in the form that the driver of the target's database takes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from etl.database import Target
from etl.records import Column, Kind

Values = dict[str, Any]


def row_values(rows: pa.RecordBatch, target: Target) -> Iterator[Values]:
    """Each row as a dict by column name, in order."""
    names = rows.schema.names
    for values in row_tuples(rows, target):
        yield dict(zip(names, values, strict=True))


def row_tuples(rows: pa.RecordBatch, target: Target) -> Iterator[tuple[Any, ...]]:
    """Each row as a tuple in the order of ``rows.schema``, in order."""
    columns = {column.name: column for column in target.columns}
    lists = [_list_of(rows.column(name), columns[name], target) for name in rows.schema.names]
    return zip(*lists, strict=True)


def _list_of(values: pa.Array, column: Column, target: Target) -> list[Any]:
    if target.is_users_model:
        return _model_values(values, column, target)
    stored = _sqlite_form(values, column) if target.dialect == "sqlite" else values
    objects: list[Any] = stored.to_pylist()
    return objects


def _model_values(values: pa.Array, column: Column, target: Target) -> list[Any]:
    """Python objects, as the types of the user's mapped class expect them."""
    convert = _model_conversion(column, target.table.columns[column.name].type)
    objects: list[Any] = values.to_pylist()
    if convert is None:
        return objects
    return [None if value is None else convert(value) for value in objects]


def _model_conversion(column: Column, type_: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    if isinstance(type_, sa.Uuid):
        return uuid.UUID if type_.as_uuid else None
    if isinstance(type_, sa.JSON):
        return json.loads
    if column.type.kind is Kind.NUMERIC:
        return Decimal
    return None


def _sqlite_form(values: pa.Array, column: Column) -> pa.Array:
    """What SQLite stores, the same text as SQLAlchemy's own types write, so that its applications read it back."""
    kind = column.type.kind
    if kind is Kind.CHAR:
        return pc.utf8_rpad(values, width=column.type.length or 1)  # PostgreSQL pads; equal keys stay equal
    if kind is Kind.BOOLEAN:
        return values.cast(pa.int8())
    if kind is Kind.TIMESTAMPTZ:
        return values.cast(pa.timestamp("us")).cast(pa.string())  # in UTC
    if kind in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.NUMERIC):
        return values.cast(pa.string())
    return values
