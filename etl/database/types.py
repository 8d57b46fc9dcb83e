"""The type of a column of SQLite, from its declared name."""

from __future__ import annotations

import re

from etl.records import ColumnType, Kind

SQLITE_EXACT_DIGITS = 15  # an 8-byte float keeps every decimal number of 15 digits (IEEE 754; sqlite.org/floatingpoint)


def numeric_type(precision: int | None, scale: int | None, exact_digits: int | None = None) -> ColumnType:
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
        return numeric_type(first, second, SQLITE_EXACT_DIGITS)
    if kind is Kind.DOUBLE:
        return ColumnType(kind, has_nan=False)
    if kind is Kind.CHAR:
        return ColumnType(kind, length=first or 1)
    if kind is Kind.TEXT:
        return ColumnType(kind, length=first)
    return ColumnType(kind)
