"""The Python values of mapped rows, in the form that the driver of the target's database takes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray

from etl.database import Target
from etl.records import Column, Kind

Values = dict[str, Any]


def row_values(rows: pa.RecordBatch, target: Target) -> Iterator[Values]:
    """Each row as a dict by column name, in order."""
    names = rows.schema.names
    for values in zip(*_column_lists(rows, target), strict=True):
        yield dict(zip(names, values, strict=True))


@dataclass(frozen=True, slots=True)
class FlatRows:
    """The values of rows in one list, row behind row: a slice of it is a group, and no row needs a tuple of its own."""

    names: tuple[str, ...]
    values: list[Any]

    @classmethod
    def of(cls, rows: pa.RecordBatch, target: Target) -> FlatRows:
        width = rows.num_columns
        values: list[Any] = [None] * (rows.num_rows * width)
        for at, column in enumerate(_column_lists(rows, target)):
            values[at::width] = column
        return cls(tuple(rows.schema.names), values)

    def __len__(self) -> int:
        return len(self.values) // len(self.names)

    def row(self, place: int) -> Values:
        """One row by column name."""
        return dict(zip(self.names, self.between(place, place + 1), strict=True))

    def between(self, start: int, stop: int) -> list[Any]:
        """The values of the rows from ``start`` up to ``stop``."""
        width = len(self.names)
        return self.values[start * width : stop * width]

    def behind(self, place: int) -> FlatRows:
        """The rows from ``place`` on."""
        return FlatRows(self.names, self.between(place, len(self)))

    def only(self, places: NDArray[np.int64]) -> FlatRows:
        """The rows at ``places``, which are in order."""
        if not len(places):
            return FlatRows(self.names, [])
        gaps = np.diff(places) > 1
        starts, stops = places[np.append(True, gaps)], places[np.append(gaps, True)] + 1
        runs = map(self.between, starts.tolist(), stops.tolist())
        return FlatRows(self.names, list(chain.from_iterable(runs)))

    def groups(self, start: int, stop: int, size: int) -> list[list[Any]]:
        """The values of each ``size`` rows from ``start`` up to ``stop``; what is left over makes no group."""
        return [self.between(at, at + size) for at in range(start, stop - size + 1, size)]

    def columns(self, names: Sequence[str]) -> list[list[Any]]:
        """The values of some columns, a list each."""
        width = len(self.names)
        return [self.values[self.names.index(name) :: width] for name in names]


def _column_lists(rows: pa.RecordBatch, target: Target) -> list[list[Any]]:
    columns = {column.name: column for column in target.columns}
    return [_list_of(rows.column(name), columns[name], target) for name in rows.schema.names]


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
