"""Which unique constraint a load means by ``key``, and what has to be known of a table whose rows are updated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from etl.config import Load
from etl.database.tables import Target
from etl.errors import ConfigError, TargetMismatch
from etl.records import Kind

_WITHOUT_ORDER = frozenset({Kind.JSON, Kind.BOOLEAN, Kind.OTHER})


@dataclass(frozen=True, slots=True)
class Key:
    """A unique constraint or index that can be meant by ``key``.

    ``names`` are what the database may call it when it is broken: a partition has a name of its own for it.
    ``is_constraint`` says that ``ON CONFLICT ON CONSTRAINT`` knows it; an index is told by its columns.
    ``nulls_are_equal``: it has NULLS NOT DISTINCT.
    """

    name: str
    columns: tuple[str, ...]
    names: frozenset[str]
    is_constraint: bool = False
    nulls_are_equal: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else notices that a row is updated.

    ``sensitive`` are the columns whose new value another row may notice: those of other unique and exclusion
    constraints, and those that foreign keys refer to. ``triggers`` are those that an UPDATE fires.
    """

    sensitive: frozenset[str] = frozenset()
    triggers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What becomes of a row whose key is there already.

    Without a ``key`` each unique constraint is one. With ``is_replacing`` a record with children takes the place of the
    one that has its key. ``update_columns`` are those that an update changes, all that a
    row has but the key's if there are none here. ``text_columns`` are compared by their texts to find out whether
    they change, the others by the equality of their type.
    """

    key: Key | None = None
    is_updating: bool = False
    is_replacing: bool = False
    update_columns: tuple[str, ...] = ()
    newer_by: str | None = None
    text_columns: frozenset[str] = frozenset()
    surroundings: Surroundings = Surroundings()

    @property
    def repetition_is_written(self) -> bool:
        """Whether a row that repeats the key is written, over the one that is there."""
        return self.is_updating or self.is_replacing

    def changed(self, names: Iterable[str]) -> tuple[str, ...]:
        """The columns that an update by a row of columns ``names`` may change."""
        kept = self.key.columns if self.key else ()
        return tuple(name for name in names if name not in kept and name in (self.update_columns or names))


SKIPPED = Duplicates()


def duplicates_of(connection: Connection, load: Load, target: Target, given: Collection[str]) -> Duplicates:
    """What ``load`` does with duplicates; ``given`` are the columns of ``target`` that each of its sources feeds.

    Raises TargetMismatch where ``key`` is no unique constraint of the table, and ConfigError where a column that is
    named is not fed.
    """
    is_updating = load.on_duplicate == "update"
    if not is_updating and (load.update_columns or load.newer_by is not None):
        raise ConfigError(
            f'Load {load.name}: update_columns and newer_by go with on_duplicate = "update".',
            "Say so, or leave them out.",
        )
    is_replacing = load.on_duplicate == "replace"
    if not (is_updating or is_replacing or load.key):
        return SKIPPED
    if is_updating:
        _require_updatable(load, target)
    key = _key(connection, load, target)
    _require_fed(load, "key", key.columns, given)
    _require_fed(load, "update_columns", load.update_columns, given)
    if load.newer_by is not None:
        _require_fed(load, "newer_by", (load.newer_by,), given)
        _require_order(load, target, load.newer_by)
    if kept := [name for name in key.columns if name in (*load.update_columns, load.newer_by)]:
        raise ConfigError(f"Load {load.name}: {kept[0]} is in the key, whose columns keep their values.")
    texts = _text_columns(target)
    around = _surroundings(connection, target, key) if is_updating else Surroundings()
    return Duplicates(key, is_updating, is_replacing, load.update_columns, load.newer_by, texts, around)


def _require_updatable(load: Load, target: Target) -> None:
    what = f'Load {load.name}: on_duplicate = "update"'
    if target.is_view:
        raise TargetMismatch(f"{what} is for tables, and {target.name} is a view.", "Load into its table.")
    if target.catalog is not None and not target.catalog.may_upsert:
        raise TargetMismatch(
            f"{what} cannot be done: {target.name} has rules, with which PostgreSQL takes no ON CONFLICT.",
            "Make them triggers, or load into another table.",
        )


def _require_fed(load: Load, what: str, columns: Iterable[str], given: Collection[str]) -> None:
    if missing := [name for name in columns if name not in given]:
        raise ConfigError(
            f"Load {load.name}: {what} needs {', '.join(missing)}, which not every source feeds.",
            f"Fed are {', '.join(given)}: name a source column for it under [load.columns].",
        )


def _require_order(load: Load, target: Target, name: str) -> None:
    kind = next(column.type.kind for column in target.columns if column.name == name)
    if kind in _WITHOUT_ORDER:
        raise ConfigError(
            f"Load {load.name}: newer_by = {name} is of type {kind.value}, of which no value is newer than another.",
            "Name a column of a number, a date, a time or a text.",
        )


# The key


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A unique index; ``flaw`` says why it cannot be the key of a load."""

    key: Key
    is_primary: bool
    flaw: str | None


def _key(connection: Connection, load: Load, target: Target) -> Key:
    found = list(_of_sqlite(connection, target) if target.catalog is None else _of_postgresql(connection, target))
    wanted = set(load.key)
    meant = [one for one in found if (set(one.key.columns) == wanted if wanted else one.is_primary)]
    usable = [one for one in meant if one.flaw is None]
    if usable:
        return usable[0].key
    others = "; ".join(f"{', '.join(one.key.columns)} ({one.key.name})" for one in found if one.flaw is None)
    remedy = f"Its unique constraints are {others}." if others else "It has no unique constraint: make one."
    named = "its primary key" if not wanted else "key = [" + ", ".join(f'"{name}"' for name in load.key) + "]"
    if meant:
        raise TargetMismatch(
            f"Load {load.name}: {named} cannot be used for {target.name}: {meant[0].key.name} {meant[0].flaw}.", remedy
        )
    if wanted:
        raise TargetMismatch(f"Load {load.name}: {named} is no unique constraint of {target.name}.", remedy)
    remedy = f"Name one of its unique constraints by key: {others}." if others else remedy
    raise TargetMismatch(f"Load {load.name}: {target.name} has no primary key to tell duplicates by.", remedy)


def _of_postgresql(connection: Connection, target: Target) -> Iterator[_Candidate]:
    assert target.catalog is not None
    for row in connection.execute(_POSTGRESQL_KEYS, {"oid": target.catalog.oid}):
        columns = tuple(name or "…" for name in row.columns)
        key = Key(row.name, columns, frozenset(row.names), row.is_constraint, row.nulls_are_equal)
        yield _Candidate(key, row.indisprimary, row.flaw)


def _of_sqlite(connection: Connection, target: Target) -> Iterator[_Candidate]:
    indexes = connection.execute(
        sa.text('SELECT name, origin, partial FROM pragma_index_list(:table) WHERE "unique"'),
        {"table": target.table.name},
    ).all()
    if target.primary_key and all(index.origin != "pk" for index in indexes):  # the rowid, which has no index
        yield _Candidate(_sqlite_key(target, target.primary_key, "the rowid"), True, None)
    for index in indexes:
        members = connection.execute(
            sa.text("SELECT name FROM pragma_index_info(:index) ORDER BY seqno"), {"index": index.name}
        ).scalars()
        columns = tuple(name or "…" for name in members)
        flaw = "covers a part of the rows only" if index.partial else "is on an expression" if "…" in columns else None
        yield _Candidate(_sqlite_key(target, columns, index.name), index.origin == "pk", flaw)


def _sqlite_key(target: Target, columns: tuple[str, ...], index: str) -> Key:
    name = next((name for known, name in target.unique.items() if set(known) == set(columns)), index)
    return Key(name, columns, frozenset({name}))


# What else is there


def _text_columns(target: Target) -> frozenset[str]:
    """Compared by their texts: what has no equality, such as json, or one that is coarser than what is seen.

    Of citext and under collations that ignore case a text of other letters would be equal, and a correction lost.
    """
    if target.catalog is None:
        return frozenset()
    types = target.catalog.types
    return frozenset(
        name for name, type_ in types.items() if type_ not in _BY_EQUALITY or name in target.catalog.loose
    ) - frozenset(name for name, type_ in types.items() if type_ in _NUMBERS)


_NUMBERS = frozenset({"real", "double precision", "jsonb"})
_BY_EQUALITY = _NUMBERS | {
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "boolean",
    "date",
    "time without time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "uuid",
    "bytea",
    "text",
    "character varying",
}


def _surroundings(connection: Connection, target: Target, key: Key) -> Surroundings:
    if target.catalog is None:
        referred = connection.execute(_SQLITE_REFERRED, {"table": target.table.name}).scalars()
        sensitive = {name for to in referred for name in ([to] if to is not None else target.primary_key)}
        return Surroundings(frozenset(sensitive))
    row = connection.execute(_POSTGRESQL_SURROUNDINGS, {"oid": target.catalog.oid, "key": key.name}).one()
    sensitive = set(target.catalog.types) if row.is_generated else set(row.sensitive)
    return Surroundings(frozenset(sensitive), tuple(row.triggers))


# A key that a partition has under a name of its own is the same key.
_POSTGRESQL_KEYS = sa.text("""
SELECT n.relname::text AS name, i.indisprimary, k.conname IS NOT NULL AS is_constraint,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_are_equal,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS m (attnum, place)
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = m.attnum AND m.attnum > 0
             WHERE m.place <= i.indnkeyatts ORDER BY m.place) AS columns,
       ARRAY(SELECT relname::text FROM pg_catalog.pg_class
             WHERE oid IN (SELECT i.indexrelid UNION SELECT relid FROM pg_partition_tree(i.indexrelid))) AS names,
       CASE WHEN coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) THEN 'is WITHOUT OVERLAPS'
            WHEN NOT i.indimmediate THEN 'is DEFERRABLE, and PostgreSQL takes no such constraint for ON CONFLICT'
            WHEN i.indexprs IS NOT NULL THEN 'is on an expression'
            WHEN i.indpred IS NOT NULL THEN 'covers a part of the rows only'
            WHEN NOT i.indisvalid THEN 'is not valid' END AS flaw
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class n ON n.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
                                        AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = :oid AND i.indisunique
ORDER BY NOT i.indisprimary, n.relname
""")

# tgtype 16: fires on UPDATE (src/include/catalog/pg_trigger.h)
_POSTGRESQL_SURROUNDINGS = sa.text("""
WITH others AS (
    SELECT i.indexrelid, i.indkey, i.indnatts FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class n ON n.oid = i.indexrelid
    WHERE i.indrelid = :oid AND (i.indisunique OR i.indisexclusion) AND n.relname <> :key),
columns AS (
    SELECT unnest(indkey::int2[]) AS attnum FROM others
    UNION SELECT d.refobjsubid FROM others JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_class'::regclass AND d.objid = indexrelid AND d.refclassid = 'pg_class'::regclass
           AND d.refobjid = :oid
    UNION SELECT unnest(confkey) FROM pg_catalog.pg_constraint
    WHERE contype = 'f' AND confrelid IN (SELECT CAST(:oid AS oid) UNION SELECT relid FROM pg_partition_tree(:oid)
                                          UNION SELECT relid FROM pg_partition_ancestors(:oid)))
SELECT ARRAY(SELECT attname::text FROM columns JOIN pg_catalog.pg_attribute USING (attnum)
             WHERE attrelid = :oid AND attnum > 0) AS sensitive,
       EXISTS (SELECT FROM columns JOIN pg_catalog.pg_attribute USING (attnum)
               WHERE attrelid = :oid AND attgenerated <> '') AS is_generated,
       ARRAY(SELECT DISTINCT t.tgname::text AS name FROM pg_catalog.pg_trigger t
             WHERE NOT t.tgisinternal AND t.tgtype & 16 = 16
               AND t.tgrelid IN (SELECT CAST(:oid AS oid) UNION SELECT relid FROM pg_partition_tree(:oid))
             ORDER BY name) AS triggers
""")

_SQLITE_REFERRED = sa.text("""
SELECT f."to" FROM sqlite_master m, pragma_foreign_key_list(m.name) f
WHERE m.type = 'table' AND lower(f."table") = lower(:table)
""")
