"""The type of a column, from what SQLAlchemy reflects (PostgreSQL) or from the declared name (SQLite)."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from etl.records import ColumnType, Kind

SQLITE_EXACT_DIGITS = 15  # an 8-byte float keeps every decimal number of 15 digits (IEEE 754; sqlite.org/floatingpoint)

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


def column_type(type_: sa.types.TypeEngine[Any]) -> ColumnType:
    """What a type of PostgreSQL, as SQLAlchemy reflects it, means for the mapper; OTHER where Arrow has no like."""
    if isinstance(type_, pg.DOMAIN):
        return column_type(type_.data_type)
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
        return _numeric(type_.precision, type_.scale)
    if kind is Kind.CHAR:
        return ColumnType(kind, length=type_.length or 1)
    if kind is Kind.TEXT:
        return ColumnType(kind, length=type_.length)
    if kind is Kind.ENUM:
        return ColumnType(kind, labels=tuple(type_.enums))
    return ColumnType(kind)


def _numeric(precision: int | None, scale: int | None, exact_digits: int | None = None) -> ColumnType:
    """numeric(3, -2) and numeric(2, 5), since PostgreSQL 15, are left to the server."""
    if precision is not None and not 0 <= (scale or 0) <= precision:
        return ColumnType(Kind.OTHER)
    fraction = None if precision is None else scale or 0
    return ColumnType(Kind.NUMERIC, precision=precision, scale=fraction, exact_digits=exact_digits)


_SQLITE_KINDS = {
    Kind.SMALLINT: "smallint int2 tinyint smallserial",
    Kind.INTEGER: "integer int int4 mediumint serial",
    Kind.BIGINT: "bigint int8 bigserial unsigned_big_int",
    Kind.NUMERIC: "numeric decimal dec",
    Kind.DOUBLE: "real float double double_precision float4 float8",
    Kind.BOOLEAN: "boolean bool",
    Kind.DATE: "date",
    Kind.TIME: "time time_without_time_zone",
    Kind.TIMESTAMP: "timestamp datetime timestamp_without_time_zone",
    Kind.TIMESTAMPTZ: "timestamptz timestamp_with_time_zone",
    Kind.TEXT: "text clob varchar character_varying nvarchar varying_character native_character citext",
    Kind.CHAR: "char character nchar bpchar",
    Kind.UUID: "uuid",
    Kind.JSON: "json jsonb",
    Kind.BYTES: "blob bytea binary varbinary",
}
_SQLITE_KIND_OF = {name: kind for kind, names in _SQLITE_KINDS.items() for name in names.split()}
_DECLARED = re.compile(
    r"\s*(?P<name>[a-z_0-9 ]*?)\s*(?:\(\s*(?P<first>\d+)\s*(?:,\s*(?P<second>\d+)\s*)?\))?\s*(?P<rest>[a-z ]*)"
)


def sqlite_column_type(declared: str) -> ColumnType:
    """What a declared type means for the mapper: what PostgreSQL means by it, though SQLite would take anything.

    OTHER for a name that is not known, and for none: the text goes to the database as it is.
    """
    match = _DECLARED.fullmatch(declared.lower())
    if match is None:
        return ColumnType(Kind.OTHER)
    name = "_".join(f"{match['name']} {match['rest']}".split())
    kind = _SQLITE_KIND_OF.get(name, Kind.OTHER)
    first = int(match["first"]) if match["first"] else None
    second = int(match["second"]) if match["second"] else None
    if kind is Kind.NUMERIC:
        return _numeric(first, second, SQLITE_EXACT_DIGITS)
    if kind is Kind.DOUBLE:
        return ColumnType(kind, has_nan=False)
    if kind is Kind.CHAR:
        return ColumnType(kind, length=first or 1)
    if kind is Kind.TEXT:
        return ColumnType(kind, length=first)
    return ColumnType(kind)
