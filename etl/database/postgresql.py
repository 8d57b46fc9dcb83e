"""What only PostgreSQL's catalog knows of a target, as far as COPY depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A primary key or UNIQUE constraint in which NULLs are distinct, so that ``=`` is its equality.

    Constraints use the columns' own collation and default operator class. Unique indexes need not, nor need they cover
    every row, so that they are not among these.
    """

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK constraint; ``expression`` is PostgreSQL's own rendering of it."""

    name: str
    columns: tuple[str, ...]
    expression: str


@dataclass(frozen=True, slots=True)
class ParentKey:
    """A foreign key whose parent may be read."""

    name: str
    columns: tuple[str, ...]
    parent_schema: str
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What COPY needs to know of a table.

    ``triggers`` are those that an INSERT fires, in a partition too; ``types`` the columns' SQL types without length or
    precision; ``required`` the NOT NULL columns; ``screenable`` the constraints that a query can foresee; ``obstacles``
    say why a COPY would not be exact.
    """

    oid: int
    triggers: tuple[str, ...]
    types: dict[str, str]
    required: frozenset[str]
    screenable: tuple[UniqueKey | Check | ParentKey, ...]
    obstacles: tuple[str, ...]
    is_partitioned: bool
    may_stage: bool  # temporary tables and PL/pgSQL are there for us


def catalog_entry(connection: Connection, table: Table) -> CatalogEntry:
    """Look ``table`` up. Nothing is written."""
    oid = connection.scalar(_OID.bindparams(sa.bindparam("schema", table.schema, sa.Text), table=table.name))
    assert oid is not None
    facts = connection.execute(_FACTS, {"oid": oid}).one()
    columns = connection.execute(_COLUMNS, {"oid": oid}).all()
    return CatalogEntry(
        oid=oid,
        triggers=tuple(facts.triggers),
        types={column.name: column.type for column in columns},
        required=frozenset(column.name for column in columns if column.is_required),
        screenable=tuple(_screenable(connection, oid)) if facts.may_read and facts.may_stage else (),
        obstacles=tuple(_obstacles(facts)),
        is_partitioned=facts.relkind == "p",
        may_stage=facts.may_stage,
    )


def _screenable(connection: Connection, oid: int) -> Iterator[UniqueKey | Check | ParentKey]:
    for found in connection.execute(_CONSTRAINTS, {"oid": oid}):
        if found.contype == "c":
            yield Check(found.name, tuple(found.columns), found.expression)
        elif found.contype != "f":
            yield UniqueKey(found.name, tuple(found.columns))
        elif found.may_read_parent:
            parent_columns = tuple(found.parent_columns)
            yield ParentKey(found.name, tuple(found.columns), found.parent_schema, found.parent, parent_columns)


def _obstacles(facts: sa.Row[Any]) -> Iterator[str]:
    if facts.relkind not in ("r", "p"):
        yield "it is no plain table"
    if facts.triggers:
        yield f"triggers ({', '.join(facts.triggers)}) see each row as an INSERT of its own"
    if facts.is_self_referencing:
        yield "a foreign key refers to the table itself: in one COPY a parent may come later in the file"
    if facts.relhasrules:
        yield "COPY does not apply its rules"
    if facts.row_security:
        yield "COPY does not support its row level security"


# By name, not through regclass: its text would have to be quoted, and SQLAlchemy's quoting doubles a percent sign.
_OID = sa.text("""
SELECT c.oid FROM pg_catalog.pg_class c
WHERE c.relname = :table AND CASE WHEN :schema IS NULL THEN pg_table_is_visible(c.oid)
      ELSE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = :schema) END
""")

# tgtype 4: fires on INSERT (src/include/catalog/pg_trigger.h)
_FACTS = sa.text("""
SELECT c.relkind, c.relhasrules, row_security_active(c.oid) AS row_security,
       ARRAY(SELECT DISTINCT t.tgname::text AS name FROM pg_catalog.pg_trigger t
             WHERE NOT t.tgisinternal AND t.tgtype & 4 = 4
               AND t.tgrelid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid))
             ORDER BY name) AS triggers,
       EXISTS (SELECT FROM pg_catalog.pg_constraint f
               WHERE f.contype = 'f' AND f.conrelid = c.oid
                 AND f.confrelid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)
                                     UNION SELECT relid FROM pg_partition_ancestors(c.oid))) AS is_self_referencing,
       has_database_privilege(current_database(), 'TEMP')
         AND EXISTS (SELECT FROM pg_catalog.pg_language
                     WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE')) AS may_stage,
       has_table_privilege(c.oid, 'SELECT') AS may_read
FROM pg_catalog.pg_class c WHERE c.oid = :oid
""")

_COLUMNS = sa.text("""
SELECT attname::text AS name, format_type(atttypid, -1) AS type, attnotnull AS is_required
FROM pg_catalog.pg_attribute WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped
""")

# indnullsnotdistinct came with PostgreSQL 15
_CONSTRAINTS = sa.text("""
SELECT k.contype::text, k.conname::text AS name,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS m (attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = m.attnum
             ORDER BY m.place) AS columns,
       pg_get_expr(k.conbin, k.conrelid) AS expression,
       n.nspname::text AS parent_schema, p.relname::text AS parent,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS m (attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = m.attnum
             ORDER BY m.place) AS parent_columns,
       p.oid IS NOT NULL AND has_table_privilege(p.oid, 'SELECT') AS may_read_parent
FROM pg_catalog.pg_constraint k
LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u')
LEFT JOIN pg_catalog.pg_class p ON p.oid = k.confrelid AND k.contype = 'f'
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
WHERE k.conrelid = :oid AND k.contype IN ('p', 'u', 'c', 'f')
  AND NOT coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
ORDER BY k.contype <> 'p', k.conname
""")
