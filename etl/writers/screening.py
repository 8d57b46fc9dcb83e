"""Asking the database, before a piece is sent, which of its rows a constraint under suspicion will refuse.

A constraint comes under suspicion when it has refused a row, and is let go when it finds nothing any more. A screen
saves COPY from failing, and the table from dead tuples; what it says is taken for a verdict in one case only: a key
that is there already, by the database's own equality. All other suspects are tried, and their refusal is the verdict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import Cursor, sql
from sqlalchemy.orm import Session

from etl.database import CatalogEntry, Check, Fate, ParentKey, Target, UniqueKey, fault_of
from etl.records import Reason, Refusal
from etl.writers.encoding import copy_in, cursor_of, quoted

PATIENCE = 8  # pieces without a find, after which a constraint is no longer screened

Screenable = UniqueKey | Check | ParentKey


@dataclass(frozen=True, slots=True)
class Screened:
    """What is to be expected of the rows of a piece, by their place in it.

    ``there``: the key is in the table. ``suspects``: a CHECK, NOT NULL or foreign key will refuse the row.
    ``repeats``: an earlier row of the piece has the key; each first row with it, and the constraint.
    """

    there: dict[int, Refusal] = field(default_factory=dict)
    suspects: set[int] = field(default_factory=set)
    repeats: dict[int, list[tuple[int, str]]] = field(default_factory=dict)

    @property
    def unclean(self) -> frozenset[int]:
        """The places of all rows that something was found about."""
        return frozenset(self.there.keys() | self.suspects | self.repeats.keys())

    def certain_repeats(self) -> dict[int, Refusal] | None:
        """The duplicates within the piece if all clean rows are written; None where that is open.

        A key is held by its first row, unless that row is not clean itself: then it may be refused and a later one be
        written, which only doing it in order can tell.
        """
        certain, unclean = {}, self.unclean
        for place in self.repeats.keys() - self.there.keys() - self.suspects:
            held = next((name for first, name in self.repeats[place] if first not in unclean), None)
            if held is None:
                return None
            certain[place] = duplicate(place, held)
        return certain


def duplicate(place: int, constraint: str) -> Refusal:
    """The refusal of a row whose key is held by another one, in PostgreSQL's words."""
    message = f'duplicate key value violates unique constraint "{constraint}"'
    return Refusal(place, Reason.UNIQUE, message, "23505", constraint)


@dataclass
class Screen:
    """Screens pieces of ``target`` for the constraints that were seen to fail."""

    target: Target
    catalog: CatalogEntry
    _idle: dict[str, int] = field(default_factory=dict)  # by constraint: pieces since its last find

    def notice(self, refusals: Iterable[Refusal]) -> None:
        """Screen from now on for the constraints that have refused a row."""
        failed = {refusal.constraint for refusal in refusals}
        self._idle |= {known.name: 0 for known in self.catalog.screenable if known.name in failed}

    def screen(self, session: Session, rows: pa.RecordBatch) -> Screened:
        """What is to be expected of ``rows``: nothing, as long as no constraint is under suspicion."""
        screened = Screened(suspects=self._nulls(rows))
        active = [known for known in self._active() if set(known.columns) <= set(rows.schema.names)]
        if not active:
            return screened
        try:
            with session.begin_nested():
                self._ask(cursor_of(session), rows, active, screened)
        except psycopg.Error as error:
            if fault_of(error).fate is not Fate.REFUSE:
                raise
            self._idle.clear()  # a value that cannot be staged, a CHECK that divides by zero: the piece is settled
        return screened

    def _active(self) -> list[Screenable]:
        return [known for known in self.catalog.screenable if known.name in self._idle]

    def _nulls(self, rows: pa.RecordBatch) -> set[int]:
        """NULLs where the catalog says NOT NULL need no question."""
        found: set[int] = set()
        for name in self.catalog.required & set(rows.schema.names):
            values = rows.column(name)
            if values.null_count:
                found.update(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist())
        return found

    def _ask(self, cursor: Cursor[Any], rows: pa.RecordBatch, active: Sequence[Screenable], screened: Screened) -> None:
        stage = self._stage(cursor, rows, sorted({column for known in active for column in known.columns}))
        for known in active:
            found = self._find(cursor, stage, known, screened)
            self._idle[known.name] = 0 if found else self._idle[known.name] + 1
            if self._idle[known.name] >= PATIENCE:
                del self._idle[known.name]

    def _stage(self, cursor: Cursor[Any], rows: pa.RecordBatch, names: Sequence[str]) -> sql.Identifier:
        """The columns ``names`` in a temporary table, with their own types and collations: these say what is equal."""
        digest = hashlib.sha256(repr((self.catalog.oid, *names)).encode()).hexdigest()[:16]
        stage = sql.Identifier("pg_temp", f"etl_screen_{digest}")
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        known = cursor.execute("SELECT to_regclass(%s)", [stage.as_string(cursor)]).fetchone()
        if known is not None and known[0] is not None:
            cursor.execute(sql.SQL("TRUNCATE {}").format(stage))
        else:
            made = "CREATE TEMP TABLE {} AS SELECT 0 AS etl_ordinal, {} FROM {} WITH NO DATA"
            cursor.execute(sql.SQL(made).format(stage, columns, quoted(self.target)))
        ordinals = pa.array(np.arange(rows.num_rows, dtype=np.int32))
        staged = pa.RecordBatch.from_arrays(
            [ordinals, *(rows.column(name) for name in names)], names=["etl_ordinal", *names]
        )
        copy_in(cursor, stage, staged, ["integer", *(self.catalog.types[name] for name in names)])
        return stage

    def _find(self, cursor: Cursor[Any], stage: sql.Identifier, known: Screenable, screened: Screened) -> bool:
        if not isinstance(known, UniqueKey):
            query = _broken_check(stage, known) if isinstance(known, Check) else _orphans(stage, known)
            found = [place for (place,) in cursor.execute(query)]
            screened.suspects.update(found)
            return bool(found)
        there = cursor.execute(self._there(stage, known)).fetchall()
        for (place,) in there:
            screened.there.setdefault(place, duplicate(place, known.name))
        repeats = cursor.execute(_repeats(stage, known)).fetchall()
        for place, first in repeats:
            screened.repeats.setdefault(place, []).append((first, known.name))
        return bool(there or repeats)

    def _there(self, stage: sql.Identifier, key: UniqueKey) -> sql.Composed:
        """ONLY: a unique constraint reaches into the partitions of its table, not into tables that inherit from it."""
        only = sql.SQL("" if self.catalog.is_partitioned else "ONLY")
        return sql.SQL("SELECT s.etl_ordinal FROM {} s, LATERAL ({}) there").format(
            stage, _matching(only, quoted(self.target), key.columns, key.columns)
        )


def _matching(only: sql.SQL, table: sql.Composable, columns: Sequence[str], staged: Sequence[str]) -> sql.Composed:
    """One row of ``table`` with the staged values.

    LIMIT 1 keeps the planner at the index: it knows nothing of a temporary table's size, and would read all of the
    target for it.
    """
    equal = sql.SQL(" AND ").join(
        sql.SQL("t.{} = s.{}").format(sql.Identifier(column), sql.Identifier(name))
        for column, name in zip(columns, staged, strict=True)
    )
    return sql.SQL("SELECT 1 FROM {} {} t WHERE {} LIMIT 1").format(only, table, equal)


def _repeats(stage: sql.Identifier, key: UniqueKey) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, key.columns))
    return sql.SQL(
        "SELECT etl_ordinal, first FROM (SELECT etl_ordinal, min(etl_ordinal) OVER (PARTITION BY {}) AS first FROM {}"
        " WHERE {}) s WHERE etl_ordinal <> first"
    ).format(columns, stage, _all_given(key.columns))


def _broken_check(stage: sql.Identifier, check: Check) -> sql.Composed:
    return sql.SQL("SELECT etl_ordinal FROM {} WHERE NOT ({})").format(stage, sql.SQL(check.expression))


def _orphans(stage: sql.Identifier, key: ParentKey) -> sql.Composed:
    parent = sql.Identifier(key.parent_schema, key.parent)
    return sql.SQL("SELECT s.etl_ordinal FROM {} s WHERE {} AND NOT EXISTS ({})").format(
        stage, _all_given(key.columns), _matching(sql.SQL(""), parent, key.parent_columns, key.columns)
    )


def _all_given(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(name)) for name in names)
