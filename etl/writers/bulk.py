"""``method = "bulk"``: many rows in one savepoint; only a piece that fails is settled, row by row or by halves.

Both writers send the rows in file order, so that what is written when nothing fails is what the row loop would have
written: ``HalvingBulkWriter`` an INSERT for each row, ``SqliteBulkWriter`` one for a group of rows where that makes no
difference.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from etl.database import SKIPPED, Duplicates, Target, fault_of
from etl.errors import TargetError
from etl.records import Cause, Encoded, Outcome, Reason, Refusal
from etl.writers.refusing import grouped, null_key_refusals, refusal
from etl.writers.sqlite_table import PlacedError, Repeats, SqliteTable, repeats_in
from etl.writers.upsert import Marking, Tally, conflict_clause, tally_of, upsert_statement
from etl.writers.values import FlatRows, Values, row_values

SINGLE_ROWS = 16  # a piece of so few rows, or fewer, that fails is settled row by row: halves would cost more

_PlacedRow = tuple[int, Values]


@dataclass(frozen=True, slots=True)
class HalvingBulkWriter:
    """Settles a piece that fails by halves: no driver fact is needed but "something in it was refused"."""

    method: ClassVar[str] = "bulk"
    piece_rows: ClassVar[int] = 20_000
    target: Target
    duplicates: Duplicates = SKIPPED

    def encode(self, rows: pa.RecordBatch) -> None:
        """Nothing: the driver is given Python's values."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert the rows in order; refused ones leave no trace. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        piece = [(index, row) for index, row in enumerate(row_values(rows, self.target)) if index not in refused]
        tally = tally_of(session, self.target, self.duplicates)
        settled = list(self._settle(session, piece, tally)) if piece else ()
        return Outcome(rows.num_rows, grouped([*refused.values(), *settled]), 0, *tally.read())

    def _settle(self, session: Session, piece: Sequence[_PlacedRow], tally: Tally) -> Iterator[Refusal]:
        """Write ``piece``; yield the refusals. The first half is settled before the second one is tried.

        So a row is a duplicate only when the row that holds its key has been written.
        """
        mark = tally.mark()
        try:
            with session.begin_nested():
                self._insert(session, [values for _, values in piece])
        except (IntegrityError, DataError) as error:
            tally.restore(mark)
            if len(piece) == 1:
                index, values = piece[0]
                yield refusal(error, index, values, session, self.target)
                return
            size = (len(piece) + 1) // 2 if len(piece) > SINGLE_ROWS else 1
            for start in range(0, len(piece), size):
                yield from self._settle(session, piece[start : start + size], tally)

    def _insert(self, session: Session, rows: Sequence[Values]) -> None:
        if not self.duplicates.is_updating:
            session.execute(sa.insert(self.target.table).inline(), rows)  # nothing is asked back
            return
        statement = upsert_statement(self.target, self.duplicates, tuple(rows[0]))
        session.connection().exec_driver_sql(statement, [tuple(values.values()) for values in rows])


GROUP_ROWS = 100  # rows of one INSERT … VALUES (…), (…): a third of the time of one by one, and more gain nothing
GROUP_PATIENCE = 3  # groups of a piece that may fail before its duplicates are set apart, or the rest goes row by row


@dataclass(frozen=True, slots=True)
class SqliteBulkWriter:
    """Goes on behind the row that failed: SQLite undoes that one statement only, and the driver says where it was.

    A constraint's default conflict resolution, ABORT, "backs out any changes made by the current SQL statement and
    preserves changes of prior SQL statements in the same transaction" (sqlite.org/lang_conflict.html). So rows go in
    groups of one statement each, and a group that fails goes again row by row. Where many fail for their key, the rows
    that repeat one are set apart, so that the others can go in groups again. Triggers could choose FAIL, which backs
    out nothing, so that tables with triggers are for ``HalvingBulkWriter``.
    """

    method: ClassVar[str] = "bulk"
    piece_rows: ClassVar[int] = 20_000
    target: Target
    duplicates: Duplicates = SKIPPED

    def encode(self, rows: pa.RecordBatch) -> None:
        """Nothing: the driver is given Python's values."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert the rows in order; refused ones leave no trace. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        places = [index for index in range(rows.num_rows) if index not in refused] if refused else range(rows.num_rows)
        piece = FlatRows.of(rows.take(pa.array(places, pa.int64())) if refused else rows, self.target)
        tally = tally_of(session, self.target, self.duplicates)
        with session.begin_nested():
            found = list(self._refusals(session, piece, places, tally))
        return Outcome(rows.num_rows, grouped([*refused.values(), *found]), 0, *tally.read())

    def _refusals(self, session: Session, piece: FlatRows, places: Sequence[int], tally: Tally) -> Iterator[Refusal]:
        """Insert all rows of ``piece``, whose places in the piece that was given are ``places``."""
        connection = session.connection().connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        ending = conflict_clause(self.target, self.duplicates, piece.names) if self.duplicates.is_updating else ""
        quoter = session.connection().dialect.identifier_preparer
        table = SqliteTable(connection, self.target, quoter, ending, tally)
        told: tuple[sqlite3.Error, Cause] | None = None
        for at, error in self._refused(table, piece):
            if told is None or told[0] is not error:  # one error for many duplicates
                told = error, refusal(error, places[at], piece.row(at), session, self.target).cause
            yield Refusal(places[at], told[1])

    def _refused(self, table: SqliteTable, piece: FlatRows) -> Iterator[PlacedError]:
        """Insert all rows of ``piece`` and yield the place and the error of each row that was refused."""
        size = self._group_rows(table.connection, piece.names)
        groups = piece.groups(0, len(piece), size) if size > 1 else []
        done, causes = 0, []
        for at, error in self._each_refused(table, piece.names, size, groups):
            done = (at + 1) * size
            causes.append(fault_of(error).reason)
            for place, cause in self._each_refused(table, piece.names, 1, piece.groups(at * size, done, 1)):
                yield at * size + place, cause
            if len(causes) == GROUP_PATIENCE:
                break
        else:
            done, causes = len(groups) * size, []
        rest = piece.behind(done)
        is_apart = Reason.UNIQUE in causes and not self.duplicates.is_updating
        refused = self._set_apart(table, rest) if is_apart else None
        if refused is None:
            refused = self._each_refused(table, rest.names, 1, rest.groups(0, len(rest), 1))
        yield from ((done + place, error) for place, error in refused)

    def _set_apart(self, table: SqliteTable, rows: FlatRows) -> Iterable[PlacedError] | None:
        """Insert the rows whose key is new, then show that no other can be; None, and nothing written, where one can.

        In file order the rows that repeat a key would have been refused too: the key was in the table before, or its
        first row in the piece, its holder, was written. As none of them is written, they make no difference to the
        other rows, which are in file order among themselves.
        """
        repeats = repeats_in(rows, table)
        if not repeats.places:
            return None
        table.connection.execute("SAVEPOINT etl_apart")
        try:
            refused = self._refused_apart(table, rows, repeats)
        except (sqlite3.IntegrityError, sqlite3.DataError):  # a row breaks more than its key, and will be told for it
            refused = None
        if refused is None:
            table.connection.execute("ROLLBACK TO etl_apart")
        table.connection.execute("RELEASE etl_apart")
        return refused

    def _refused_apart(self, table: SqliteTable, rows: FlatRows, repeats: Repeats) -> list[PlacedError] | None:
        new = np.delete(np.arange(len(rows)), repeats.places)
        refused = [(int(new[at]), error) for at, error in self._refused(table, rows.only(new))]
        if not repeats.holders.isdisjoint(place for place, _ in refused):
            return None
        tried = rows.only(np.array(repeats.places))
        before = table.connection.total_changes
        for size, start in _cut(len(tried), self._group_rows(table.connection, rows.names)):
            statement = table.insert_statement(rows.names, size, "ON CONFLICT DO NOTHING")
            table.connection.executemany(statement, tried.groups(start, len(tried), size))
        if table.connection.total_changes != before:
            return None
        # All of them break the one key and nothing else: one error, in the database's own words, says it of each.
        told = [error for _, error in self._each_refused(table, rows.names, 1, tried.groups(0, 1, 1))]
        return [*refused, *product(repeats.places, told)]

    def _each_refused(
        self, table: SqliteTable, names: Sequence[str], size: int, groups: Sequence[list[Any]]
    ) -> Iterator[PlacedError]:
        """Insert ``groups`` of ``size`` rows each; yield the place and the error of each group that was refused.

        ``executemany`` takes its parameters one at a time: what is left in the iterator tells which failed, and the
        same iterator goes on behind it.
        """
        statement = table.insert_statement(names, size, table.ending)
        remaining = Marking(groups, table.tally) if self.duplicates.is_updating else iter(groups)
        while operator.length_hint(remaining):
            try:
                table.connection.executemany(statement, remaining)
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                _require_transaction(table.connection, self.target)
                if isinstance(remaining, Marking):
                    table.tally.restore(remaining.marked)
                yield len(groups) - operator.length_hint(remaining) - 1, error

    def _group_rows(self, connection: sqlite3.Connection, names: Sequence[str]) -> int:
        """How many rows one statement may hold without a difference to one each.

        A foreign key is checked at the end of the statement: a row might refer to a later one of its own table, or
        give up a value that another table refers to, which a later one takes. A constraint that is declared ON
        CONFLICT may leave a part of the statement's rows behind.
        """
        if self.target.has_conflict_clause or any(key.parent is self.target.table for key in self.target.foreign_keys):
            return 1
        if not self.duplicates.surroundings.sensitive.isdisjoint(self.duplicates.changed(names)):
            return 1
        most: int = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(names)
        return max(1, min(GROUP_ROWS, most))


def _cut(rows: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Groups of ``size`` rows, from the first row on, and of one row each, from where the last of them ends."""
    return (size, 0), (1, rows // size * size)


def _require_transaction(connection: sqlite3.Connection, target: Target) -> None:
    """A constraint declared with ON CONFLICT ROLLBACK has thrown the good rows away with the bad one."""
    if not connection.in_transaction:
        raise TargetError(
            f"A constraint of {target.name} is declared ON CONFLICT ROLLBACK: one bad row rolled the transaction back.",
            "Declare it without ON CONFLICT.",
        )
