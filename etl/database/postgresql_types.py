"""The type of a column of PostgreSQL, from what SQLAlchemy reflects."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from etl.database.types import numeric_type
from etl.records import ColumnType, Kind

# The most special type first: DOUBLE_PRECISION is a Float, Float is a Numeric.
_KINDS: tuple[tuple[type[Any], Kind], ...] = (
    (sa.SmallInteger, Kind.SMALLINT),
    (sa.BigInteger, Kind.BIGINT),
    (sa.Integer, Kind.INTEGER),
    (sa.REAL, Kind.REAL),
    (sa.Float, Kind.DOUBLE),
    (sa.Numeric, Kind.NUMERIC),
    (sa.Boolean, Kind.BOOLEAN),
    (sa.Date, Kind.DATE),
    (pg.ENUM, Kind.ENUM),
    (sa.Enum, Kind.ENUM),
    (pg.CITEXT, Kind.TEXT),
    (sa.CHAR, Kind.CHAR),
    (sa.String, Kind.TEXT),
    (sa.Uuid, Kind.UUID),
    (sa.JSON, Kind.JSON),
    (sa.LargeBinary, Kind.BYTES),
    (pg.BYTEA, Kind.BYTES),
)


def postgresql_column_type(type_: sa.types.TypeEngine[Any]) -> ColumnType:
    """What a type, as SQLAlchemy reflects it, means for the mapper; OTHER where Arrow has no like."""
    if isinstance(type_, pg.DOMAIN):
        return postgresql_column_type(type_.data_type)
    if isinstance(type_, sa.DateTime):
        return ColumnType(Kind.TIMESTAMPTZ if type_.timezone else Kind.TIMESTAMP)
    if isinstance(type_, sa.Time):
        return ColumnType(Kind.OTHER if type_.timezone else Kind.TIME)
    if isinstance(type_, pg.JSONPATH | pg.BIT | pg.OID | pg.REGCLASS | pg.MONEY):
        return ColumnType(Kind.OTHER)
    kind = next((kind for class_, kind in _KINDS if isinstance(type_, class_)), Kind.OTHER)
    return _with_limits(kind, type_)


def _with_limits(kind: Kind, type_: Any) -> ColumnType:
    if kind is Kind.NUMERIC:
        return numeric_type(type_.precision, type_.scale)
    if kind is Kind.CHAR:
        return ColumnType(kind, length=type_.length or 1)
    if kind is Kind.TEXT:
        return ColumnType(kind, length=type_.length)
    if kind is Kind.ENUM:
        return ColumnType(kind, labels=tuple(type_.enums))
    return ColumnType(kind)
