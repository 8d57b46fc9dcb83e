"""The target of a load: its table or mapped class, the columns and their types, the constraints, the triggers."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Inspector, MetaData, Table, event
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.orm import registry
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import NullType
from sqlalchemy.util import topological

from etl.config import Job, Load
from etl.database.postgresql import CatalogEntry, catalog_entry, has_newline_in_a_foreign_key
from etl.database.types import sqlite_column_type
from etl.errors import ConfigError, TargetMismatch
from etl.records import Column, ColumnType
from etl.user_code import import_by_name


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of the target; ``parent`` is the quoted name of the table it points to."""

    name: str
    columns: tuple[str, ...]
    parent: Table
    parent_columns: tuple[str, ...]
    deletes: bool = False  # ON DELETE CASCADE


@dataclass(frozen=True)
class ChildTarget:
    """Where the elements of a list go: ``attribute`` is the relationship of the parent's class that leads there.

    ``link`` are the columns that the relationship fills in. ``through`` names the association table of elements that
    many records may share: such an element is found by ``key``, or made if it ``is_created``.
    """

    name: str
    attribute: str
    target: Target
    link: tuple[str, ...]
    position: str | None
    is_lenient: bool  # a bad element costs itself alone
    through: str | None = None
    key: tuple[str, ...] = ()
    is_created: bool = True

    @property
    def mapped_columns(self) -> tuple[Column, ...]:
        """The columns that an element may give."""
        return tuple(column for column in self.target.columns if column.name not in (*self.link, self.position))

    def key_among(self, given: Collection[str]) -> tuple[str, ...] | None:
        """The columns that an element which is there already is found by, if the elements give them."""
        keys = [self.key] if self.key else [key for key in self.target.unique if key]
        return next((key for key in keys if set(key) <= set(given)), None)


@dataclass(frozen=True)
class Target:
    """Where the rows of a load go; ``dialect`` is SQLAlchemy's name of the database.

    ``entity`` is the mapped class whose objects are written, None where the ORM cannot map the table (no primary
    key); ``attributes`` gives for each column the attribute of the class. ``unique`` names each unique constraint
    and unique index by its columns.
    """

    dialect: str
    table: Table
    columns: tuple[Column, ...]
    entity: type[Any] | None
    attributes: dict[str, str]
    is_users_model: bool
    foreign_keys: tuple[ForeignKey, ...] = ()
    unique: dict[tuple[str, ...], str] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()
    is_view: bool = False
    has_conflict_clause: bool = False  # on SQLite: some constraint is declared ON CONFLICT …
    catalog: CatalogEntry | None = None  # on PostgreSQL
    children: tuple[ChildTarget, ...] = ()

    @property
    def name(self) -> str:
        return self.table.fullname

    @cached_property
    def filled_in(self) -> frozenset[str]:
        """Columns that the ORM fills in by itself when an object has None there."""
        return self.json_nulls | frozenset(
            column.name
            for column in self.table.columns
            if column.primary_key or column.default is not None or column.server_default is not None
        )

    @cached_property
    def json_nulls(self) -> frozenset[str]:
        """Columns in which None is a value of its own for the ORM: the null of JSON (``JSON.none_as_null``)."""
        return frozenset(column.name for column in self.table.columns if column.type.should_evaluate_none)

    @property
    def members(self) -> tuple[Target, ...]:
        """The target itself and those of its children, and theirs."""
        return (self, *(member for child in self.children for member in child.target.members))

    @property
    def primary_key(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.is_primary_key)


def find_targets(connection: Connection, job: Job, loads: Sequence[Load]) -> dict[str, Target]:
    """The target of each load, by the load's name.

    Raises TargetMismatch for a table that is not there, naming those with similar names, and ConfigError for a model
    that cannot be imported.
    """
    inspector = sa.inspect(connection)
    with warnings.catch_warnings():  # of indexes and constraints that SQLAlchemy cannot reflect, nor do we need them
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        return {load.name: _find_target(connection, inspector, job, load) for load in loads}


def in_foreign_key_order(loads: Sequence[Load], targets: dict[str, Target]) -> list[Load]:
    """Parents before children; loads that do not depend on each other, or on each other in a circle, stay in order."""
    by_table: dict[str, list[str]] = {}
    for load in loads:
        for member in targets[load.name].members:
            by_table.setdefault(member.name, []).append(load.name)
    edges = {
        (parent, load.name)
        for load in loads
        for member in targets[load.name].members
        for key in member.foreign_keys
        for parent in by_table.get(key.parent.fullname, ())
        if key.parent.fullname != member.name and parent != load.name
    }
    names = [load.name for load in loads]
    circular = topological.find_cycles(edges, names)
    acyclic = {edge for edge in edges if not set(edge) <= circular}
    by_name = {load.name: load for load in loads}
    return [by_name[name] for name in topological.sort(acyclic, names, deterministic_order=True)]


def _find_target(connection: Connection, inspector: Inspector, job: Job, load: Load) -> Target:
    if load.model is not None:
        return entity_target(connection, inspector, load, _import_model(load, load.model, job.folder))
    return table_target(connection, inspector, load, job.database.db_schema)


def table_target(connection: Connection, inspector: Inspector, load: Load, default_schema: str | None) -> Target:
    """The target of a load with ``table``. Raises TargetMismatch for a table that is not there."""
    schema, name = _schema_and_name(inspector, load, default_schema)
    table = _reflected(connection, inspector, name, schema, load)
    columns = _columns(connection, inspector, table)
    _let_database_fill_in_keys(table)
    entity, attributes = _mapped(table)
    surroundings = _surroundings(connection, inspector, table)
    return Target(inspector.dialect.name, table, columns, entity, attributes, is_users_model=False, **surroundings)


def entity_target(connection: Connection, inspector: Inspector, load: Load, entity: type[Any]) -> Target:
    """The target that a mapped class of the user's is. Raises TargetMismatch for a table that is not there."""
    mapper = sa.inspect(entity)
    table = mapper.local_table
    if not inspector.has_table(table.name, table.schema):
        raise _no_such_table(inspector, load, table.name, table.schema)
    reflected = _columns(connection, inspector, _reflected(connection, inspector, table.name, table.schema, load))
    attributes = {column.name: mapper.get_property_by_column(column).key for column in table.columns}
    columns = tuple(_with_default_of(table, column) for column in reflected if column.name in attributes)
    surroundings = _surroundings(connection, inspector, table)
    return Target(inspector.dialect.name, table, columns, entity, attributes, is_users_model=True, **surroundings)


def _with_default_of(table: Table, column: Column) -> Column:
    """A default that the user's class has in Python fills the column in just as one of the database does."""
    return column if table.columns[column.name].default is None else replace(column, has_default=True)


def _import_model(load: Load, model: str, folder: Path) -> type[Any]:
    """``model = "package.module:Class"`` imports the module of the user that it names."""
    remedy = 'Give "package.module:Class" of a mapped class that Python can import.'
    entity: type[Any] = import_by_name(load.name, "model", model, folder, remedy)
    if sa.inspect(entity, raiseerr=False) is None or not isinstance(entity, type):
        raise ConfigError(f'Load {load.name}: model = "{model}" is no mapped class of SQLAlchemy.')
    return entity


def missing_tables(connection: Connection, job: Job, loads: Sequence[Load]) -> dict[str, tuple[str | None, str]]:
    """Of ``loads`` those whose table is not there, by name, with the schema and the name that it is looked for by."""
    inspector = sa.inspect(connection)
    default = job.database.db_schema
    return {
        load.name: _place_of_missing(inspector, load, default)
        for load in loads
        if load.table is not None and _found_place(inspector, load, default) is None
    }


def _place_of_missing(inspector: Inspector, load: Load, default: str | None) -> tuple[str | None, str]:
    before, dot, after = (load.table or "").partition(".")
    if inspector.dialect.name != "postgresql":
        return None, load.table or ""
    return (before, after) if dot and before and after else (default, load.table or "")


def _schema_and_name(inspector: Inspector, load: Load, default: str | None) -> tuple[str | None, str]:
    if (place := _found_place(inspector, load, default)) is not None:
        return place
    schema = default if inspector.dialect.name == "postgresql" else None
    raise _no_such_table(inspector, load, load.table or "", schema)


def _found_place(inspector: Inspector, load: Load, default: str | None) -> tuple[str | None, str] | None:
    """``sales.orders`` is a table with a dot in its name if there is one, else orders in the schema sales."""
    name = load.table or ""
    schema = default if inspector.dialect.name == "postgresql" else None
    if _has_relation(inspector, name, schema):
        return schema, name
    before, dot, after = name.partition(".")
    if dot and inspector.dialect.name == "postgresql" and _has_relation(inspector, after, before):
        return before, after
    return None


def _has_relation(inspector: Inspector, name: str, schema: str | None) -> bool:
    return inspector.has_table(name, schema)  # of views too


def _no_such_table(inspector: Inspector, load: Load, name: str, schema: str | None) -> TargetMismatch:
    known = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    where = f" in the schema {schema}" if schema else ""
    hint = (
        f"Did you mean {' or '.join(close)}?"
        if close
        else ("Create it first, have create = true make it, or correct the table of the load.")
    )
    return TargetMismatch(f"Load {load.name}: there is no table {name}{where} in the database.", hint)


def _reflected(connection: Connection, inspector: Inspector, name: str, schema: str | None, load: Load) -> Table:
    """The table as etl writes it: values arrive in the form that the database stores or reads by itself.

    So SQLAlchemy's own conversion on the way in is left out (``NullType``), but for integers, whose type makes
    an INTEGER PRIMARY KEY generate its values, and reflection stops at this table: its parents are not needed.
    Every name is quoted: SQLAlchemy takes one that ends in a newline for a plain word.
    """
    _refuse_unreadable(connection, name, schema)
    table = Table(quoted_name(name, quote=True), MetaData(), schema=schema, quote_schema=True)
    event.listen(table, "column_reflect", _without_conversion)
    try:
        inspector.reflect_table(table, include_columns=None, resolve_fks=False)
    except NoSuchTableError:
        raise _no_such_table(inspector, load, name, schema) from None
    return table


def _refuse_unreadable(connection: Connection, name: str, schema: str | None) -> None:
    """SQLAlchemy reads foreign keys off their SQL, and breaks off at a newline in a name."""
    if connection.dialect.name == "postgresql" and has_newline_in_a_foreign_key(connection, name, schema):
        raise TargetMismatch(
            f"A foreign key of {name} has a newline in the name of a table or column, which SQLAlchemy cannot read.",
            "Rename it, or load into the table through a view.",
        )


def _let_database_fill_in_keys(table: Table) -> None:
    """A trigger may fill in a key that the source does not give, or the database refuses the row: no need to warn."""
    for column in table.primary_key.columns:
        column.nullable = False  # SQLite says otherwise, and several rows at once need to be told apart by it
        if column.server_default is None and column is not table.autoincrement_column:
            column.server_default = sa.FetchedValue()


def _without_conversion(_inspector: Inspector, _table: Table, column: dict[str, Any]) -> None:
    column["quote"] = True
    column["info"] = {"type": column["type"]}
    if not isinstance(column["type"], sa.Integer):
        column["type"] = NullType()


def _columns(connection: Connection, inspector: Inspector, table: Table) -> tuple[Column, ...]:
    if connection.dialect.name != "sqlite":
        from etl.database.postgresql_types import postgresql_column_type

        return tuple(_column(column, postgresql_column_type(column.info["type"])) for column in table.columns)
    found = connection.execute(sa.text("SELECT name, type FROM pragma_table_xinfo(:table)"), {"table": table.name})
    declared = {row.name: row.type for row in found}
    rowid = _rowid_alias(table, declared)
    return tuple(
        _column(column, sqlite_column_type(declared[column.name]), has_default=column.name == rowid)
        for column in table.columns
    )


def _column(column: sa.Column[Any], type_: ColumnType, *, has_default: bool = False) -> Column:
    return Column(
        name=column.name,
        type=type_,
        nullable=bool(column.nullable),
        has_default=has_default or column.server_default is not None or column.identity is not None,
        is_primary_key=column.primary_key,
        is_generated=column.computed is not None or bool(column.identity and column.identity.always),
    )


def _rowid_alias(table: Table, declared: dict[str, str]) -> str | None:
    """The column that is declared as INTEGER PRIMARY KEY to the letter: SQLite fills it in by itself."""
    keys = [column.name for column in table.primary_key.columns]
    return keys[0] if len(keys) == 1 and declared[keys[0]].upper() == "INTEGER" else None


def _mapped(table: Table) -> tuple[type[Any] | None, dict[str, str]]:
    """A class mapped to ``table``, or None where the table has no primary key, and the attribute of each column.

    Imperative, not automap: automap leaves association tables out, needs the parents reflected too and refuses
    column names such as ``metadata``. A leading underscore is kept for Python and SQLAlchemy, ``self`` for the
    constructor.
    """
    attributes = {
        column.name: f"column_{number}{column.name}"
        if column.name.startswith("_") or column.name == "self"
        else column.name
        for number, column in enumerate(table.columns)
    }
    if not table.primary_key.columns:
        return None, attributes
    entity = type(table.name, (), {"__init__": _set_attributes, "__doc__": f"A row of {table.fullname}."})
    properties = {attributes[column.name]: column for column in table.columns}
    registry().map_imperatively(entity, table, properties=properties, eager_defaults=False)
    return entity, attributes


def _set_attributes(self: object, **values: object) -> None:
    for name, value in values.items():
        setattr(self, name, value)


def _surroundings(connection: Connection, inspector: Inspector, table: Table) -> dict[str, Any]:
    catalog = catalog_entry(connection, table) if connection.dialect.name == "postgresql" else None
    return {
        "foreign_keys": _foreign_keys(connection, inspector, table),
        "unique": _unique_names(connection, inspector, table),
        "triggers": _sqlite_triggers(connection, table) if catalog is None else catalog.triggers,
        "is_view": table.name in inspector.get_view_names(table.schema),
        "has_conflict_clause": catalog is None and bool(_ON_CONFLICT.search(_sqlite_definition(connection, table))),
        "catalog": catalog,
    }


def _foreign_keys(connection: Connection, inspector: Inspector, table: Table) -> tuple[ForeignKey, ...]:
    keys = inspector.get_foreign_keys(table.name, table.schema)
    if connection.dialect.name == "sqlite":
        _refuse_deferred(connection, table)
    return tuple(_foreign_key(key, table) for key in keys)


def _sqlite_definition(connection: Connection, table: Table) -> str:
    """The SQL that made the table, without texts, quoted names and comments: for clauses that no catalog tells."""
    sql = connection.scalar(
        sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = lower(:table)"),
        {"table": table.name},
    )
    return _NO_KEYWORDS.sub(" ", sql or "")


def _refuse_deferred(connection: Connection, table: Table) -> None:
    """SQLAlchemy reads the clause off the SQL only where the key is not a column's."""
    if _DEFERRED.search(_sqlite_definition(connection, table)):
        raise TargetMismatch(
            f"A foreign key of {table.name} is INITIALLY DEFERRED: "
            "SQLite would check it at COMMIT only, and refuse the good rows with the bad one.",
            "Declare it without INITIALLY DEFERRED.",
        )


_NO_KEYWORDS = re.compile(  # texts, quoted names, comments
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
_ON_CONFLICT = re.compile(r"\bON\s+CONFLICT\b", re.IGNORECASE)
_DEFERRED = re.compile(r"\bINITIALLY\s+DEFERRED\b", re.IGNORECASE)


def _foreign_key(key: Any, table: Table) -> ForeignKey:
    columns, parent_columns = tuple(key["constrained_columns"]), tuple(key["referred_columns"])
    name = key["name"] or f"{table.name}_{'_'.join(columns)}_fkey"
    deletes = str(key.get("options", {}).get("ondelete", "")).upper() == "CASCADE"
    return ForeignKey(name, columns, _parent(key, table, parent_columns), parent_columns, deletes)


def _parent(key: Any, table: Table, columns: tuple[str, ...]) -> Table:
    """The referred table with its referred columns only: as much as the mapper needs to resolve the foreign key."""
    name, schema = key["referred_table"], key["referred_schema"]
    if (name, schema) == (table.name, table.schema):
        return table
    known = table.metadata.tables.get(name if schema is None else f"{schema}.{name}")
    if known is None:  # else it is of the user's own classes, or of another foreign key
        known = Table(name, table.metadata, schema=schema, quote=True, quote_schema=True)
    for column in columns:
        if column not in known.columns:
            known.append_column(sa.Column(column, quote=True))
    return known


def _unique_names(connection: Connection, inspector: Inspector, table: Table) -> dict[tuple[str, ...], str]:
    """By columns, and with the names PostgreSQL gives where SQLite has none."""
    names: dict[tuple[str, ...], str] = {}
    key = inspector.get_pk_constraint(table.name, table.schema)
    if key["constrained_columns"]:
        names[tuple(key["constrained_columns"])] = key["name"] or f"{table.name}_pkey"
    for constraint in inspector.get_unique_constraints(table.name, table.schema):
        columns = tuple(constraint["column_names"])
        names.setdefault(columns, constraint["name"] or f"{table.name}_{'_'.join(columns)}_key")
    for columns, name in _unique_indexes(connection, inspector, table):
        names.setdefault(columns, name)
    return names


def _unique_indexes(
    connection: Connection, inspector: Inspector, table: Table
) -> Iterable[tuple[tuple[str, ...], str]]:
    """Of SQLite's the automatic ones too: SQLAlchemy reads unnamed UNIQUE constraints off the SQL, and misses some."""
    if connection.dialect.name != "sqlite":
        for index in inspector.get_indexes(table.name, table.schema):
            plain = tuple(name for name in index["column_names"] if name is not None)
            if index["unique"] and len(plain) == len(index["column_names"]):
                yield plain, index["name"] or ""
        return
    indexes = sa.text('SELECT name, origin FROM pragma_index_list(:table) WHERE "unique"')
    members = sa.text("SELECT name FROM pragma_index_info(:index) ORDER BY seqno")
    for name, origin in connection.execute(indexes, {"table": table.name}).all():
        columns = tuple(connection.execute(members, {"index": name}).scalars())
        if None not in columns:
            yield columns, name if origin == "c" else f"{table.name}_{'_'.join(columns)}_key"


def _sqlite_triggers(connection: Connection, table: Table) -> tuple[str, ...]:
    found = connection.execute(
        sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(:table)"),
        {"table": table.name},
    )
    return tuple(found.scalars())
