"""What only PostgreSQL's catalog knows of a target, as far as COPY depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index over plain columns in which NULLs are distinct, so that ``=`` is its equality.

    It uses the columns' own collations and default operator classes, and covers every row. A primary key and a UNIQUE
    constraint have the name of their index.
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
    """A foreign key whose parent may be read, every row of it. A row with a NULL in it needs no parent."""

    name: str
    columns: tuple[str, ...]
    parent_schema: str
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What COPY needs to know of a table.

    ``triggers`` are those that an INSERT fires, in a partition too; ``types`` the columns' SQL types without length or
    precision; ``required`` the NOT NULL columns; ``screenable`` the constraints that a query can foresee; ``loose``
    the columns in which values may be equal that are not the same; ``obstacles`` say why a COPY would not be exact.
    ``unjudged`` are columns whose domain judges the NULL that an INSERT fills in, and not that of a COPY.
    ``may_return`` says whether an INSERT may ask back for what it wrote.
    """

    oid: int
    triggers: tuple[str, ...]
    types: dict[str, str]
    required: frozenset[str]
    loose: frozenset[str]
    unjudged: frozenset[str]
    screenable: tuple[UniqueKey | Check | ParentKey, ...]
    obstacles: tuple[str, ...]
    may_stage: bool  # temporary tables and PL/pgSQL are there for us, and a staged row is read as one that is sent
    may_return: bool
    may_upsert: bool = True  # an INSERT … ON CONFLICT, which rules do not go with


def catalog_entry(connection: Connection, table: Table) -> CatalogEntry:
    """Look ``table`` up. Nothing is written."""
    oid = _oid_of(connection, table.name, table.schema)
    facts = connection.execute(_FACTS, {"oid": oid}).one()
    columns = connection.execute(_COLUMNS, {"oid": oid}).all()
    return CatalogEntry(
        oid=oid,
        triggers=tuple(facts.triggers),
        types={column.name: column.type for column in columns},
        required=frozenset(column.name for column in columns if column.is_required),
        loose=frozenset(column.name for column in columns if not column.is_strict),
        unjudged=frozenset(column.name for column in columns if column.is_unjudged),
        screenable=tuple(_screenable(connection, oid)) if facts.may_read and facts.may_stage else (),
        obstacles=tuple(_obstacles(facts)),
        # A rule may leave out the query that would have read a staged text, and refused it.
        may_stage=facts.may_stage and not facts.relhasrules,
        may_return=facts.may_read and not facts.relhasrules and not facts.row_security,
        may_upsert=not facts.relhasrules,
    )


def has_newline_in_a_foreign_key(connection: Connection, table: str, schema: str | None) -> bool:
    """Whether the SQL of one of the table's foreign keys has a newline, so in a name."""
    return bool(connection.scalar(_NEWLINE, {"oid": _oid_of(connection, table, schema)}))


def _oid_of(connection: Connection, table: str, schema: str | None) -> int:
    oid = connection.scalar(_OID.bindparams(sa.bindparam("schema", schema, sa.Text), table=table))
    assert oid is not None
    return int(oid)


def _screenable(connection: Connection, oid: int) -> Iterator[UniqueKey | Check | ParentKey]:
    for key in connection.execute(_KEYS, {"oid": oid}):
        yield UniqueKey(key.name, tuple(key.columns))
    for found in connection.execute(_CONSTRAINTS, {"oid": oid}):
        if found.contype == "c":
            yield Check(found.name, tuple(found.columns), found.expression)
        elif found.may_read_parent:
            parent_columns = tuple(found.parent_columns)
            yield ParentKey(found.name, tuple(found.columns), found.parent_schema, found.parent, parent_columns)


def _obstacles(facts: sa.Row[Any]) -> Iterator[str]:
    if facts.relkind not in ("r", "p"):
        yield "it is no plain table"
    if facts.triggers:
        yield f"triggers ({', '.join(facts.triggers)}) see each row as an INSERT of its own"
    if facts.functions:
        yield (
            f"a CHECK or a default calls {', '.join(facts.functions)}, not declared IMMUTABLE: "
            "what it says may depend on the rows before"
        )
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

_NEWLINE = sa.text("""
SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint
               WHERE contype = 'f' AND conrelid = :oid AND strpos(pg_get_constraintdef(oid), chr(10)) > 0)
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
       ARRAY(WITH RECURSIVE tables AS (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)),
             domains AS (SELECT atttypid AS oid FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attnum > 0
                         UNION SELECT typbasetype FROM pg_catalog.pg_type JOIN domains USING (oid) WHERE typtype = 'd'),
             judges AS (SELECT 'pg_type'::regclass AS class, oid FROM pg_catalog.pg_type
                        WHERE typtype = 'd' AND oid IN (SELECT * FROM domains)
                        UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_catalog.pg_constraint
                        WHERE contype = 'c' AND (conrelid IN (SELECT * FROM tables)
                                                 OR contypid IN (SELECT * FROM domains))
                        UNION ALL SELECT 'pg_attrdef'::regclass, oid FROM pg_catalog.pg_attrdef
                        WHERE adrelid IN (SELECT * FROM tables))
             SELECT DISTINCT p.proname::text AS name FROM judges j
             JOIN pg_catalog.pg_depend d ON d.classid = j.class AND d.objid = j.oid
             LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
             JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
                                       OR d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
             WHERE p.provolatile <> 'i' ORDER BY name) AS functions,
       has_database_privilege(current_database(), 'TEMP')
         AND EXISTS (SELECT FROM pg_catalog.pg_language
                     WHERE lanname = 'plpgsql' AND has_language_privilege(oid, 'USAGE')) AS may_stage,
       has_table_privilege(c.oid, 'SELECT') AS may_read
FROM pg_catalog.pg_class c WHERE c.oid = :oid
""")

# Texts that differ may be equal: of citext, and under a collation that is not deterministic.
_COLUMNS = sa.text("""
SELECT a.attname::text AS name, format_type(a.atttypid, -1) AS type, a.attnotnull AS is_required,
       coalesce(l.collisdeterministic, true) AND format_type(a.atttypid, -1) IN (
           'smallint', 'integer', 'bigint', 'numeric', 'boolean', 'date', 'time without time zone', 'uuid', 'bytea',
           'timestamp without time zone', 'timestamp with time zone', 'text', 'character varying') AS is_strict,
       NOT a.atthasdef AND a.attidentity = '' AND coalesce((
           WITH RECURSIVE types AS (
               SELECT oid, typtype, typbasetype, typnotnull, typdefault FROM pg_catalog.pg_type WHERE oid = a.atttypid
               UNION ALL SELECT t.oid, t.typtype, t.typbasetype, t.typnotnull, t.typdefault
               FROM pg_catalog.pg_type t JOIN types d ON d.typtype = 'd' AND t.oid = d.typbasetype)
           SELECT bool_or(typnotnull OR EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contypid = types.oid))
                  AND NOT bool_or(typdefault IS NOT NULL) FROM types WHERE typtype = 'd'), false) AS is_unjudged
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
""")

# Of a partitioned table none: a partition refuses a row in the name of its own index. By way of JSON: that NULLs are
# not distinct came with PostgreSQL 15, keys WITHOUT OVERLAPS with 18.
_KEYS = sa.text("""
SELECT n.relname::text AS name,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS m (attnum, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = m.attnum
             WHERE m.place <= i.indnkeyatts ORDER BY m.place) AS columns
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class n ON n.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
                                        AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = :oid AND i.indisunique AND n.relkind = 'i' AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
  AND NOT coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
  AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[], i.indcollation::oid[], i.indclass::oid[])
                              WITH ORDINALITY AS m (attnum, collation_oid, class_oid, place)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = m.attnum
                  LEFT JOIN pg_catalog.pg_opclass c ON c.oid = m.class_oid
                  WHERE m.place <= i.indnkeyatts AND (m.collation_oid <> a.attcollation OR NOT c.opcdefault))
ORDER BY NOT i.indisprimary, n.relname
""")

# With PostgreSQL 18 came constraints that are NOT ENFORCED, and foreign keys with a PERIOD. MATCH FULL wants either all
# columns or none, and the parent's row level security hides rows from a query that the constraint sees.
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
       k.confmatchtype = 's' AND has_table_privilege(p.oid, 'SELECT') AND NOT row_security_active(p.oid)
         AS may_read_parent
FROM pg_catalog.pg_constraint k
LEFT JOIN pg_catalog.pg_class p ON p.oid = k.confrelid AND k.contype = 'f'
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
WHERE k.conrelid = :oid AND k.contype IN ('c', 'f') AND cardinality(k.conkey) > 0
  AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
  AND NOT coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
ORDER BY k.conname
""")
