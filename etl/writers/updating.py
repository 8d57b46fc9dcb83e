"""Updating the rows of a piece whose keys are in the table, all at once, where that is what the row loop would do.

The rows are staged in a table like the target, with its CHECKs and NOT NULLs, so that a row is refused which its INSERT
would be refused for. Then an UPDATE takes the first row of each key, another one the second, and so on. As long as no
other row can notice an update, their order does not matter but among the rows of one key. Whatever is not as it was
expected makes the piece go row by row: a refusal, a key that another session has removed, a new value in a column that
others refer to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import Cursor, sql
from sqlalchemy.orm import Session

from etl.database import CatalogEntry, Check, Duplicates, Fate, Key, ParentKey, Target, UniqueKey, fault_of
from etl.database.copying import copy_in, cursor_of, emptied
from etl.writers.upsert import OLD, Updates, change_condition, quoted, table_name

MOST_ROUNDS = 8  # rows of a piece that may have the same key, and be updated all at once

Places = NDArray[np.int64]


def for_updates(catalog: CatalogEntry, duplicates: Duplicates, names: Sequence[str]) -> CatalogEntry:
    """The same with what is in the way of updates, and without the constraints of which a query cannot foresee what
    they say of an update; ``names`` are the columns that a row has.

    Of the unique keys that leaves the one that is meant. A foreign key is foreseen if each row with a parent that is
    not there is refused, whether its key is there or not: if the update changes the reference, or the key holds it.
    """
    key = duplicates.key
    assert key is not None
    known = [one for one in catalog.screenable if isinstance(one, UniqueKey) and one.name == key.name]
    foreseen = [one for one in catalog.screenable if _is_foreseen(one, key, duplicates, names)]
    obstacles = list(catalog.obstacles)
    if not known:
        obstacles.append(f"{key.name} cannot be asked about beforehand")
    if triggers := [name for name in duplicates.surroundings.triggers if name not in catalog.triggers]:
        obstacles.append(f"triggers ({', '.join(triggers)}) see each row as an UPDATE of its own")
    return replace(catalog, screenable=(*known, *foreseen), obstacles=tuple(obstacles))


def _is_foreseen(
    constraint: UniqueKey | Check | ParentKey, key: Key, duplicates: Duplicates, names: Sequence[str]
) -> bool:
    if isinstance(constraint, ParentKey):
        changed = duplicates.changed(names) if duplicates.newer_by is None else ()
        return set(constraint.columns) <= {*changed, *key.columns}
    return isinstance(constraint, Check)


# A plan for a table of this size, whatever the planner believes: along the key's index. Its costs then look high, and
# must not make it compile.
_FUNCTION = """
CREATE FUNCTION {stage}(int, bigint, OUT etl_met bigint, OUT etl_changed bigint) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off
AS {body}
"""
_ROUND = """
#variable_conflict use_column
BEGIN
    IF $1 = 1 AND {is_noticed} THEN
        etl_met := -1;
        RETURN;
    END IF;
    UPDATE ONLY {target} AS {old} SET {assigned} FROM {stage} AS etl_new WHERE {same} AND {change};
    GET DIAGNOSTICS etl_changed = ROW_COUNT;
    etl_met := etl_changed;
    IF etl_changed < $2 THEN
        SELECT count(*) INTO etl_met FROM {stage} AS etl_new, ONLY {target} AS {old} WHERE {same};
    END IF;
END
"""
_NOTICED = """
EXISTS (SELECT FROM {stage} AS etl_new, ONLY {target} AS {old}
        WHERE {key} AND ROW({olds})::record *<> ROW({news})::record)
"""


@dataclass
class Updater:
    """Updates rows of ``target`` by a statement for many."""

    target: Target
    catalog: CatalogEntry
    duplicates: Duplicates
    _has_stage: bool = True  # until one cannot be made

    def update(self, session: Session, rows: pa.RecordBatch, places: Places, classes: Places) -> Updates | None:
        """Update by the rows at ``places``, each of which repeats a key of the table.

        Rows of one class have the same key. None where that must be settled row by row: then the session is to be
        rolled back to where it was. Raises what the database refuses.
        """
        rounds = _rounds(classes)
        counts = np.bincount(rounds, minlength=2)[1:]
        if len(counts) > MOST_ROUNDS:
            return None
        cursor, names = cursor_of(session), rows.schema.names
        stage = self._stage(session, cursor, names)
        if stage is None:
            return None
        arrays = [*rows.take(pa.array(places)).columns, pa.array(rounds.astype(np.int32))]
        staged = pa.RecordBatch.from_arrays(arrays, names=[*names, self._round_column])
        copy_in(cursor, stage, staged, [*(self.catalog.types[name] for name in names), "integer"])
        updated = 0
        for number, expected in enumerate(counts.tolist(), start=1):
            call = sql.SQL("SELECT etl_met, etl_changed FROM {}(%s, %s)").format(stage)
            met, changed = cursor.execute(call, [number, expected]).fetchone() or (0, 0)
            if met != expected:
                return None
            updated += changed
        return Updates(updated, len(places) - updated)

    @property
    def _round_column(self) -> str:
        name = "etl_round"
        while name in self.catalog.types:
            name += "_"
        return name

    def _stage(self, session: Session, cursor: Cursor[object], names: Sequence[str]) -> sql.Identifier | None:
        """An empty table with its function; None where there can be none, as for a CHECK of the whole row."""
        facts = repr((self.catalog.oid, *names, self.duplicates.key, self.duplicates.changed(names)))
        facts += repr(self.duplicates.newer_by)
        stage = sql.Identifier("pg_temp", f"etl_update_{hashlib.sha256(facts.encode()).hexdigest()[:16]}")
        if not self._has_stage or emptied(cursor, stage):
            return stage if self._has_stage else None
        try:
            with session.begin_nested():
                self._make_stage(cursor, stage, names)
        except psycopg.Error as error:
            if fault_of(error).fate is Fate.RETRY:
                raise
            self._has_stage = False
            return None
        return stage

    def _make_stage(self, cursor: Cursor[object], stage: sql.Identifier, names: Sequence[str]) -> None:
        like = "CREATE TEMP TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED, {} integer)"
        target, number = sql.SQL(table_name(self.target)), sql.Identifier(self._round_column)
        cursor.execute(sql.SQL(like).format(stage, target, number))
        for column in self.target.table.columns:
            if column.identity is not None and column.name not in names:  # its numbers are not staged
                dropped = "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL"
                cursor.execute(sql.SQL(dropped).format(stage, sql.Identifier(column.name)))
        body = self._body(stage.as_string(cursor), names)
        cursor.execute(sql.SQL(_FUNCTION).format(stage=stage, body=sql.Literal(body)))

    def _body(self, stage: str, names: Sequence[str]) -> str:
        key, changed = self.duplicates.key, self.duplicates.changed(names)
        assert key is not None
        parts = {"stage": stage, "target": table_name(self.target), "old": OLD}
        equal = " AND ".join(f"{OLD}.{name} = etl_new.{name}" for name in map(quoted, key.columns))
        first = quoted(key.columns[0])
        noticed = [quoted(name) for name in changed if name in self.duplicates.surroundings.sensitive]
        olds, news = (", ".join(f"{row}.{name}" for name in noticed) for row in (OLD, "etl_new"))
        return _ROUND.format(
            **parts,
            is_noticed=_NOTICED.format(**parts, key=equal, olds=olds, news=news) if noticed else "false",
            assigned=", ".join(f"{name} = etl_new.{name}" for name in map(quoted, changed))
            or f"{first} = {OLD}.{first}",
            same=f"etl_new.{quoted(self._round_column)} = $1 AND {equal}",
            change=change_condition(self.target, self.duplicates, names, "etl_new"),
        )


def _rounds(classes: Places) -> Places:
    """For each row how many rows up to it have its class, itself among them."""
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    is_first = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    firsts = np.flatnonzero(is_first)
    rounds = np.empty(len(classes), dtype=np.int64)
    rounds[order] = np.arange(len(classes)) - firsts[np.cumsum(is_first) - 1] + 1
    return rounds
