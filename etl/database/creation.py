"""Tables and columns that a load makes, with SQLAlchemy's DDL, and what they will be before they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Dialect, MetaData, Table
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import NullType, TypeEngine, UserDefinedType

from etl.config import Load
from etl.database.postgresql import CatalogEntry
from etl.database.tables import Target
from etl.database.types import sqlite_column_type
from etl.errors import TargetMismatch
from etl.records import Column, ColumnType, Kind

MOST_NAME_BYTES = 63  # of a name in PostgreSQL, which cuts off the rest (NAMEDATALEN)
_LOCK = 0x65746C_74626C  # "etl" "tbl": one table at a time, whoever comes first
_MAY_CREATE = sa.text("""
SELECT current_user AS role, n.nspname AS schema, has_schema_privilege(n.oid, 'CREATE') AS may
FROM pg_catalog.pg_namespace n WHERE n.nspname = coalesce(:schema, current_schema())
""")
_MAY_ALTER = sa.text("""
SELECT current_user AS role, pg_has_role(relowner, 'USAGE') AS may FROM pg_catalog.pg_class WHERE oid = :oid
""")


class _ZonedTimestamp(UserDefinedType[Any]):
    """SQLAlchemy leaves the zone out on SQLite, where the declared name is all there is of a type."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TIMESTAMP WITH TIME ZONE"


_TYPES: dict[Kind, TypeEngine[Any]] = {
    Kind.SMALLINT: sa.SmallInteger(),
    Kind.INTEGER: sa.Integer(),
    Kind.BIGINT: sa.BigInteger(),
    Kind.REAL: sa.REAL(),
    Kind.DOUBLE: sa.Double(),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.DATE: sa.Date(),
    Kind.TIME: sa.Time(),
    Kind.TIMESTAMP: sa.TIMESTAMP(),
    Kind.TIMESTAMPTZ: _ZonedTimestamp(),
    Kind.TEXT: sa.Text(),
    Kind.UUID: sa.UUID(),
    Kind.JSON: sa.JSON(),
    Kind.BYTES: sa.LargeBinary(),
}


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column that is to be made."""

    name: str
    type: ColumnType


@dataclass(frozen=True, eq=False)
class Making:
    """What a load makes before its first row: a table, or ``columns`` that its table lacks."""

    load: Load
    name: str
    schema: str | None
    columns: tuple[NewColumn, ...]
    key: tuple[str, ...] = ()
    existing: Target | None = None  # the table that gets new columns

    @cached_property
    def fullname(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"

    def target(self, dialect: Dialect) -> Target:
        """What the target will be, as far as it is planned by; no statement can be run on it."""
        columns = tuple(
            Column(
                column.name,
                column_type(column.type, dialect),
                nullable=column.name not in self.key,
                is_primary_key=column.name in self.key,
            )
            for column in self.columns
        )
        if self.existing is not None:
            return replace(self.existing, columns=(*self.existing.columns, *columns))
        table = Table(
            quoted_name(self.name, quote=True),
            MetaData(),
            *(sa.Column(quoted_name(column.name, quote=True), NullType()) for column in self.columns),
            schema=self.schema,
            quote_schema=True,
        )
        attributes = {column.name: column.name for column in columns}
        return Target(
            dialect.name,
            table,
            columns,
            None,
            attributes,
            is_users_model=False,
            unique={self.key: f"{self.name}_pkey"} if self.key else {},
            catalog=_empty_catalog(self.key) if dialect.name == "postgresql" else None,
        )

    def words(self, dialect: Dialect) -> str:
        """One sentence, for the log and `etl check`."""
        columns = ", ".join(f"{column.name} {declared_type(column.type, dialect)}" for column in self.columns)
        if self.existing is not None:
            return f"The table {self.fullname} gets {columns}"
        key = f"primary key ({', '.join(self.key)})" if self.key else "no key"
        return f"The table {self.fullname} is made: {columns}; {key}"


def column_type(type_: ColumnType, dialect: Dialect) -> ColumnType:
    """The type that a column of a made table is found to have."""
    if dialect.name == "sqlite":
        return sqlite_column_type(declared_type(type_, dialect))
    return type_


def declared_type(type_: ColumnType, dialect: Dialect) -> str:
    """The name of the type in DDL."""
    return sql_type(type_).compile(dialect)


def sql_type(type_: ColumnType) -> TypeEngine[Any]:
    if type_.kind is Kind.NUMERIC:
        return sa.Numeric(type_.precision, type_.scale)
    return _TYPES[type_.kind]


def why_not_make(connection: Connection, making: Making) -> str | None:
    """Why the role may not make it, as a sentence that says what to do; None if it may."""
    if connection.dialect.name != "postgresql":
        return None
    if making.existing is not None:
        assert making.existing.catalog is not None
        found = connection.execute(_MAY_ALTER, {"oid": making.existing.catalog.oid}).one()
        if found.may:
            return None
        return (
            f"the role {found.role} may not add columns to {making.fullname}: only its owner may; "
            "add them as the owner and leave add_columns out, or load as the owner"
        )
    statement = _MAY_CREATE.bindparams(sa.bindparam("schema", making.schema, sa.Text))
    schema = connection.execute(statement).one_or_none()
    if schema is None:
        return f"there is no schema {making.schema or 'in the search path'} to make {making.name} in: create it first"
    if schema.may:
        return None
    return (
        f"the role {schema.role} may not create {making.fullname}: GRANT CREATE ON SCHEMA {schema.schema} TO it, "
        "or create the table as another role and leave create out"
    )


def make(connection: Connection, making: Making) -> None:
    """Make the table or the columns in the connection's transaction; nothing if they are there by now.

    Raises TargetMismatch where the role may not.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    if making.existing is not None:
        _add_columns(connection, making)
    elif not sa.inspect(connection).has_table(making.name, making.schema):
        _refuse_unless_allowed(connection, making)
        connection.execute(sa.schema.CreateTable(_table(making), if_not_exists=True))


def _refuse_unless_allowed(connection: Connection, making: Making) -> None:
    if (obstacle := why_not_make(connection, making)) is not None:
        raise TargetMismatch(f"Load {making.load.name}: {obstacle}.")


def _table(making: Making) -> Table:
    key = [sa.PrimaryKeyConstraint(*making.key)] if making.key else []
    return Table(
        quoted_name(making.name, quote=True),
        MetaData(),
        *(_sql_column(column, nullable=column.name not in making.key) for column in making.columns),
        *key,
        schema=making.schema,
        quote_schema=True,
    )


def _add_columns(connection: Connection, making: Making) -> None:
    there = {found["name"] for found in sa.inspect(connection).get_columns(making.name, making.schema)}
    missing = [column for column in making.columns if column.name not in there]
    if not missing:
        return
    _refuse_unless_allowed(connection, making)
    # Imported here: Alembic costs half a second, which only a load that has something to add needs.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    operations = Operations(MigrationContext.configure(connection))
    for column in missing:
        name = quoted_name(making.name, quote=True)
        operations.add_column(name, _sql_column(column, nullable=True), schema=making.schema)


def _sql_column(column: NewColumn, *, nullable: bool) -> sa.Column[Any]:
    name = quoted_name(column.name, quote=True)
    return sa.Column(name, sql_type(column.type), nullable=nullable, autoincrement=False)


def check_names(making: Making, dialect: Dialect) -> None:
    """Raise TargetMismatch for a name that the database does not take, or would take for another one."""
    faults = []
    for column in making.columns:
        size = len(column.name.encode("utf-8", "surrogatepass"))
        if not column.name:
            faults.append("a source column has no name")
        elif dialect.name == "postgresql" and size > MOST_NAME_BYTES:
            faults.append(f'the name "{column.name}" has {size} bytes, and PostgreSQL keeps {MOST_NAME_BYTES}')
    lower = [column.name.casefold() for column in making.columns]
    doubled = [column.name for column in making.columns if lower.count(column.name.casefold()) > 1]
    if doubled and dialect.name == "sqlite":
        faults.append(f"{' and '.join(doubled)} are the same name to SQLite")
    if faults:
        raise TargetMismatch(
            f"Load {making.load.name}: {making.fullname} cannot have these columns: {'; '.join(faults)}.",
            "Give them other names under [load.columns], or add them to ignore_columns.",
        )


def _empty_catalog(key: tuple[str, ...]) -> CatalogEntry:
    """Of a table that has a primary key and nothing else."""
    return CatalogEntry(
        oid=0,
        triggers=(),
        types={},
        required=frozenset(key),
        loose=frozenset(),
        unjudged=frozenset(),
        screenable=(),
        obstacles=(),
        may_stage=True,
        may_return=True,
    )
