"""``method = "bulk"``: many rows in one savepoint; only a piece that fails is settled, row by row or by halves.

Both writers send the rows in file order, so that what is written when nothing fails is what the row loop would have
written: ``HalvingBulkWriter`` an INSERT for each row, ``SqliteBulkWriter`` one for a group of rows where that makes no
difference.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import IdentifierPreparer

from etl.database import Target
from etl.errors import TargetError
from etl.records import Outcome, Refusal
from etl.writers.refusing import null_key_refusals, refusal
from etl.writers.values import FlatRows, Values, row_values

SINGLE_ROWS = 16  # a piece of so few rows, or fewer, that fails is settled row by row: halves would cost more

_PlacedRow = tuple[int, Values]


@dataclass(frozen=True, slots=True)
class HalvingBulkWriter:
    """Settles a piece that fails by halves: no driver fact is needed but "something in it was refused"."""

    method: ClassVar[str] = "bulk"
    target: Target

    def write(self, session: Session, rows: pa.RecordBatch) -> Outcome:
        """Insert the rows in order; refused ones leave no trace. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        piece = [(index, row) for index, row in enumerate(row_values(rows, self.target)) if index not in refused]
        settled = self._settle(session, piece) if piece else ()
        return Outcome(rows.num_rows, (*refused.values(), *settled))

    def _settle(self, session: Session, piece: Sequence[_PlacedRow]) -> Iterator[Refusal]:
        """Write ``piece``; yield the refusals. The first half is settled before the second one is tried.

        So a row is a duplicate only when the row that holds its key has been written.
        """
        try:
            with session.begin_nested():
                session.execute(sa.insert(self.target.table), [values for _, values in piece])
        except (IntegrityError, DataError) as error:
            if len(piece) == 1:
                index, values = piece[0]
                yield refusal(error, index, values, session, self.target)
                return
            size = (len(piece) + 1) // 2 if len(piece) > SINGLE_ROWS else 1
            for start in range(0, len(piece), size):
                yield from self._settle(session, piece[start : start + size])


GROUP_ROWS = 100  # rows of one INSERT … VALUES (…), (…): a third of the time of one by one, and more gain nothing
GROUP_PATIENCE = 3  # groups of a piece that may fail before the rest of it goes row by row


@dataclass(frozen=True, slots=True)
class SqliteBulkWriter:
    """Goes on behind the row that failed: SQLite undoes that one statement only, and the driver says where it was.

    A constraint's default conflict resolution, ABORT, "backs out any changes made by the current SQL statement and
    preserves changes of prior SQL statements in the same transaction" (sqlite.org/lang_conflict.html). So rows go in
    groups of one statement each, and a group that fails goes again row by row. Triggers could choose FAIL, which backs
    out nothing, so that tables with triggers are for ``HalvingBulkWriter``.
    """

    method: ClassVar[str] = "bulk"
    target: Target

    def write(self, session: Session, rows: pa.RecordBatch) -> Outcome:
        """Insert the rows in order; refused ones leave no trace. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        places = [index for index in range(rows.num_rows) if index not in refused] if refused else range(rows.num_rows)
        piece = FlatRows.of(rows.take(pa.array(places, pa.int64())) if refused else rows, self.target)
        with session.begin_nested():
            found = [
                refusal(error, places[at], piece.row(at), session, self.target)
                for at, error in self._refused(session, piece)
            ]
        return Outcome(rows.num_rows, (*refused.values(), *found))

    def _refused(self, session: Session, piece: FlatRows) -> Iterator[tuple[int, sqlite3.Error]]:
        """Insert all rows of ``piece`` and yield the place and the error of each row that was refused."""
        connection = session.connection().connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        quoter = session.connection().dialect.identifier_preparer
        single, size = self._insert_statement(quoter, piece.names, 1), self._group_rows(connection, len(piece.names))
        groups = piece.groups(0, len(piece), size) if size > 1 else []
        done = 0
        failed_groups = self._each_refused(connection, self._insert_statement(quoter, piece.names, size), groups)
        for failures, (at, _) in enumerate(failed_groups, start=1):
            done = (at + 1) * size
            for place, error in self._each_refused(connection, single, piece.groups(at * size, done, 1)):
                yield at * size + place, error
            if failures == GROUP_PATIENCE:
                break
        else:
            done = len(groups) * size
        for place, error in self._each_refused(connection, single, piece.groups(done, len(piece), 1)):
            yield done + place, error

    def _each_refused(
        self, connection: sqlite3.Connection, statement: str, parameters: Sequence[list[Any]]
    ) -> Iterator[tuple[int, sqlite3.Error]]:
        """Execute ``statement`` with each of ``parameters``; yield the place and the error of each that was refused.

        ``executemany`` takes its parameters one at a time: what is left in the iterator tells which failed, and the
        same iterator goes on behind it.
        """
        remaining = iter(parameters)
        while operator.length_hint(remaining):
            try:
                connection.executemany(statement, remaining)
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                _require_transaction(connection, self.target)
                yield len(parameters) - operator.length_hint(remaining) - 1, error

    def _group_rows(self, connection: sqlite3.Connection, columns: int) -> int:
        """How many rows one statement may hold without a difference to one each.

        A foreign key is checked at the end of the statement: a row might refer to a later one of its own table. A
        constraint that is declared ON CONFLICT may leave a part of the statement's rows behind.
        """
        if self.target.has_conflict_clause or any(key.parent is self.target.table for key in self.target.foreign_keys):
            return 1
        most: int = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // columns
        return max(1, min(GROUP_ROWS, most))

    def _insert_statement(self, quoter: IdentifierPreparer, names: Sequence[str], rows: int) -> str:
        columns = ", ".join(quoter.quote(name) for name in names)
        row = f"({', '.join('?' * len(names))})"
        return f"INSERT INTO {quoter.format_table(self.target.table)} ({columns}) VALUES {', '.join([row] * rows)}"


def _require_transaction(connection: sqlite3.Connection, target: Target) -> None:
    """A constraint declared with ON CONFLICT ROLLBACK has thrown the good rows away with the bad one."""
    if not connection.in_transaction:
        raise TargetError(
            f"A constraint of {target.name} is declared ON CONFLICT ROLLBACK: one bad row rolled the transaction back.",
            "Declare it without ON CONFLICT.",
        )
