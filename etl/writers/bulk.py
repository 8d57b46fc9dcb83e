"""``method = "bulk"``: many rows in one savepoint; only a piece that fails is settled, row by row or by halves.

Both writers send one INSERT for each row, in file order (``executemany``), so that each row meets the table as the
rows before it have left it: what is written when nothing fails is what the row loop would have written.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from etl.database import Target
from etl.errors import TargetError
from etl.records import Outcome, Refusal
from etl.writers.refusing import null_key_refusals, refusal
from etl.writers.values import Values, row_tuples, row_values

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


@dataclass(frozen=True, slots=True)
class SqliteBulkWriter:
    """Goes on behind the row that failed: SQLite undoes that one statement only, and the driver says where it was.

    A constraint's default conflict resolution, ABORT, "backs out any changes made by the current SQL statement and
    preserves changes of prior SQL statements in the same transaction" (sqlite.org/lang_conflict.html). Triggers
    could choose FAIL, which does not, so that tables with triggers are for ``HalvingBulkWriter``.
    """

    method: ClassVar[str] = "bulk"
    target: Target

    def write(self, session: Session, rows: pa.RecordBatch) -> Outcome:
        """Insert the rows in order; refused ones leave no trace. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        values = list(row_tuples(rows, self.target))
        if refused:
            values = [row for index, row in enumerate(values) if index not in refused]
        places = [index for index in range(rows.num_rows) if index not in refused] if refused else range(rows.num_rows)
        names = rows.schema.names
        with session.begin_nested():
            found = [
                refusal(error, places[at], dict(zip(names, values[at], strict=True)), session, self.target)
                for at, error in self._refused(session, names, values)
            ]
        return Outcome(rows.num_rows, (*refused.values(), *found))

    def _refused(
        self, session: Session, names: Sequence[str], values: list[tuple[Any, ...]]
    ) -> Iterator[tuple[int, sqlite3.Error]]:
        """Insert all of ``values`` and yield the place and the error of each row that was refused.

        ``executemany`` takes its rows one at a time: what is left in the iterator tells which one failed, and the
        same iterator goes on behind it.
        """
        connection = session.connection().connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        statement = self._insert_statement(names)
        remaining = iter(values)
        while operator.length_hint(remaining):
            try:
                connection.executemany(statement, remaining)
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                _require_transaction(connection, self.target)
                yield len(values) - operator.length_hint(remaining) - 1, error

    def _insert_statement(self, names: Sequence[str]) -> str:
        quoter = sqlite.dialect().identifier_preparer
        columns = ", ".join(quoter.quote(name) for name in names)
        return (
            f"INSERT INTO {quoter.format_table(self.target.table)} ({columns}) VALUES ({', '.join('?' * len(names))})"
        )


def _require_transaction(connection: sqlite3.Connection, target: Target) -> None:
    """A constraint declared with ON CONFLICT ROLLBACK has thrown the good rows away with the bad one."""
    if not connection.in_transaction:
        raise TargetError(
            f"A constraint of {target.name} is declared ON CONFLICT ROLLBACK: one bad row rolled the transaction back.",
            "Declare it without ON CONFLICT.",
        )
