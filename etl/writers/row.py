"""``method = "row"``: the definition of a verdict. Every other writer must end with the same rows and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from etl.database import Duplicates, Target
from etl.records import Encoded, Outcome
from etl.writers.refusing import grouped, null_key_refusals, refusal
from etl.writers.upsert import tally_of, upsert_statement
from etl.writers.values import Values, row_values


@dataclass(frozen=True, slots=True)
class RowWriter:
    """Adds each row as an object of the mapped class, in a savepoint of its own."""

    method: ClassVar[str] = "row"
    piece_rows: ClassVar[int] = 1_000
    target: Target

    def encode(self, rows: pa.RecordBatch) -> None:
        """Nothing: the driver is given Python's values."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert the rows in order; a refused one is rolled back to its savepoint. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        for index, values in enumerate(row_values(rows, self.target)):
            if index in refused:
                continue
            try:
                with session.begin_nested():
                    # Transient, pending after ``add``, persistent once flushed; transient again when refused.
                    session.add(constructed(self.target, values))  # flushed on leaving
            except (IntegrityError, DataError, StatementError, ValueError) as error:
                refused[index] = refusal(error, index, values, session, self.target)
        return Outcome(rows.num_rows, grouped(refused.values()))


@dataclass(frozen=True, slots=True)
class CoreRowWriter:
    """The same for what the ORM cannot map or read back: each row as an INSERT on the Session, in its own savepoint.

    These are tables without a primary key, views, tables with triggers, which may change or drop the row that the ORM
    would look for, and tables that do not give a row back: without the right to read, with rules or policies.
    """

    method: ClassVar[str] = "row"
    piece_rows: ClassVar[int] = 1_000
    target: Target

    def encode(self, rows: pa.RecordBatch) -> None:
        """Nothing: the driver is given Python's values."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert the rows in order; a refused one is rolled back to its savepoint. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        insert = sa.insert(self.target.table).inline()  # nothing is asked back
        for index, values in enumerate(row_values(rows, self.target)):
            if index in refused:
                continue
            try:
                with session.begin_nested():
                    session.execute(insert, values)
            except (IntegrityError, DataError) as error:
                refused[index] = refusal(error, index, values, session, self.target)
        return Outcome(rows.num_rows, grouped(refused.values()))


@dataclass(frozen=True, slots=True)
class UpdatingRowWriter:
    """The definition of an update: each row as an INSERT … ON CONFLICT (key) DO UPDATE, in its own savepoint.

    The row that has the key takes the new values of the columns that are to be updated, if one of them differs and, by
    ``newer_by``, the new row is newer. It is refused for whatever that statement is refused for, by a constraint that
    the row itself breaks, or the updated one, and then the row that was there is as it was.
    """

    method: ClassVar[str] = "row"
    piece_rows: ClassVar[int] = 1_000
    target: Target
    duplicates: Duplicates

    def encode(self, rows: pa.RecordBatch) -> None:
        """Nothing: the driver is given Python's values."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert or update in order; a refused row is rolled back to its savepoint. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        statement = upsert_statement(self.target, self.duplicates, rows.schema.names)
        tally = tally_of(session, self.target, self.duplicates)
        for index, values in enumerate(row_values(rows, self.target)):
            if index in refused:
                continue
            mark = tally.mark()
            try:
                with session.begin_nested():
                    session.connection().exec_driver_sql(statement, tuple(values.values()))
            except (IntegrityError, DataError) as error:
                tally.restore(mark)
                refused[index] = refusal(error, index, values, session, self.target)
        return Outcome(rows.num_rows, grouped(refused.values()), 0, *tally.read())


def constructed(target: Target, values: Values) -> Any:
    """A new, transient object of the target's class.

    The identity map refers to it weakly, so that it is gone with the next one. The ORM takes None for "not given" where
    a column has a default or is a key: ``null()`` says that the source gave NULL.
    """
    assert target.entity is not None
    given = {
        target.attributes[name]: sa.null() if value is None and name in target.filled_in else value
        for name, value in values.items()
    }
    return target.entity(**given)
