"""``on_duplicate = "update"``: the INSERT … ON CONFLICT DO UPDATE that says what an update is, and who counts them.

The statement for one row is the definition. What a row was is told by the database, where it decides: the WHERE of the
update is asked once for each row whose key is there, and counts it as updated or unchanged. So a row that was neither
was written, whatever a trigger has made of it.

PostgreSQL counts in two settings of the transaction, which a rollback to a savepoint takes back with the rows. SQLite
calls a function of the connection, whose counts are put back by hand.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from etl.database import Duplicates, Target

OLD = "etl_old"  # the row that is there; the new one is ``excluded``


class Updates(NamedTuple):
    """How many rows whose key was there have changed, and how many have not."""

    updated: int = 0
    unchanged: int = 0


class Tally(Protocol):
    """Counts the updates of a session, from the moment that it was made."""

    def mark(self) -> Updates:
        """What ``restore`` goes back to."""

    def restore(self, mark: Updates) -> None:
        """Forget what was counted since ``mark``: the rows were rolled back."""

    def read(self) -> Updates: ...


@dataclass(frozen=True, slots=True)
class NoTally:
    """Of a load that does not update."""

    def mark(self) -> Updates:
        return Updates()

    def restore(self, mark: Updates) -> None: ...

    def read(self) -> Updates:
        return Updates()


NO_TALLY = NoTally()


@dataclass(frozen=True, slots=True)
class PostgresqlTally:
    """Reads two settings of the transaction, which PostgreSQL rolls back by itself."""

    session: Session

    def mark(self) -> Updates:
        return Updates()

    def restore(self, mark: Updates) -> None: ...

    def read(self) -> Updates:
        return Updates(*map(int, self.session.execute(_COUNTED).one()))


_BEGIN = sa.text("SELECT set_config('etl.updated', '0', true), set_config('etl.unchanged', '0', true)")
_COUNTED = sa.text("SELECT current_setting('etl.updated'), current_setting('etl.unchanged')")


class SqliteTally:
    """The function ``etl_changes`` of the WHERE: it is given whether the row changes, and says the same."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._counted = [0, 0]  # unchanged, updated
        connection.create_function("etl_changes", 1, self._note)

    def _note(self, changes: int) -> int:
        self._counted[changes] += 1
        return changes

    def mark(self) -> Updates:
        return self.read()

    def restore(self, mark: Updates) -> None:
        self._counted[:] = mark.unchanged, mark.updated

    def read(self) -> Updates:
        unchanged, updated = self._counted
        return Updates(updated, unchanged)


class Marking:
    """Groups of rows for ``executemany``, which asks for the next one when it has written the one before: then what
    was counted so far is marked."""

    def __init__(self, groups: Sequence[list[Any]], tally: Tally) -> None:
        self._groups = iter(groups)
        self._tally = tally
        self.marked = tally.mark()

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        self.marked = self._tally.mark()
        return next(self._groups)

    def __length_hint__(self) -> int:
        return operator.length_hint(self._groups)


def tally_of(session: Session, target: Target, duplicates: Duplicates) -> Tally:
    """A tally that begins now, for the INSERTs of ``upsert_statement`` or ``conflict_clause`` in this transaction."""
    if not duplicates.is_updating:
        return NO_TALLY
    if target.dialect == "sqlite":
        connection = session.connection().connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return SqliteTally(connection)
    session.execute(_BEGIN)
    return PostgresqlTally(session)


# The statement


def upsert_statement(target: Target, duplicates: Duplicates, names: Sequence[str]) -> str:
    """The INSERT of one row, for the driver of the target's database."""
    columns = ", ".join(map(quoted, names))
    statement = f"INSERT INTO {table_name(target)} AS {OLD} ({columns}) VALUES "
    clause = conflict_clause(target, duplicates, names)
    if target.dialect == "sqlite":
        return f"{statement}({', '.join('?' * len(names))}) {clause}"
    marks = ", ".join(["%s"] * len(names))
    return f"{statement.replace('%', '%%')}({marks}) {clause.replace('%', '%%')}"


def conflict_clause(target: Target, duplicates: Duplicates, names: Sequence[str]) -> str:
    """What follows the VALUES of rows with the columns ``names``; the table is called ``OLD``."""
    key = duplicates.key
    assert key is not None
    changed = duplicates.changed(names)
    assigned = [f"{quoted(name)} = excluded.{quoted(name)}" for name in changed]
    # Without a column to change, the row is met all the same, and is unchanged.
    first = quoted(key.columns[0])
    values = ", ".join(assigned) or f"{first} = {OLD}.{first}"
    is_change = change_condition(target, duplicates, names, "excluded")
    counted = _COUNT_ON_SQLITE if target.dialect == "sqlite" else _COUNT_ON_POSTGRESQL
    meant = ", ".join(map(quoted, key.columns))
    where = f"ON CONSTRAINT {quoted(key.name)}" if key.is_constraint else f"({meant})"
    return f"ON CONFLICT {where} DO UPDATE SET {values} WHERE {counted.replace('<change>', is_change)}"


_COUNT_ON_SQLITE = "etl_changes(<change>)"
_COUNT_ON_POSTGRESQL = (
    "CASE WHEN <change>"
    " THEN set_config('etl.updated', (current_setting('etl.updated')::bigint + 1)::text, true) IS NOT NULL"
    " ELSE set_config('etl.unchanged', (current_setting('etl.unchanged')::bigint + 1)::text, true) IS NULL END"
)


def change_condition(target: Target, duplicates: Duplicates, names: Sequence[str], new: str) -> str:
    """Whether the row ``new``, an alias, is to change the row ``OLD`` with the same key."""
    changed = duplicates.changed(names)
    differs = " OR ".join(difference(target, duplicates, name, new) for name in changed) or "1 = 0"
    if duplicates.newer_by is None:
        return f"({differs})"
    newer, older = (f"{row}.{quoted(duplicates.newer_by)}" for row in (new, OLD))
    return f"({newer} IS NOT NULL AND ({older} IS NULL OR {newer} > {older}) AND ({differs}))"


def difference(target: Target, duplicates: Duplicates, name: str, new: str) -> str:
    """Whether a column differs: numbers and moments by their values, texts letter for letter."""
    ours, theirs = f"{OLD}.{quoted(name)}", f"{new}.{quoted(name)}"
    if target.dialect == "sqlite":
        return f"{ours} COLLATE BINARY IS NOT {theirs}"
    if name in duplicates.text_columns:
        return f'{ours}::text COLLATE "C" IS DISTINCT FROM {theirs}::text COLLATE "C"'
    return f"{ours} IS DISTINCT FROM {theirs}"


def quoted(name: str) -> str:
    """A name as both databases take it; not for a driver that has its parameters marked by %."""
    return '"' + name.replace('"', '""') + '"'


def table_name(target: Target) -> str:
    """The quoted name of the target's table, with its schema."""
    table = target.table
    return f"{quoted(table.schema)}.{quoted(table.name)}" if table.schema else quoted(table.name)
