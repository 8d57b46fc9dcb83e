"""``method = "row"``: the definition of a verdict. Every other writer must end with the same rows and verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from etl.database import Duplicates, Target
from etl.records import Encoded, Outcome, Reason, Verdict
from etl.writers.refusing import grouped, null_key_refusals, refusal
from etl.writers.upsert import tally_of, upsert_statement
from etl.writers.values import Values, row_values

# What may refuse an object: the database, or a type or a validator of its class.
OBJECT_REFUSALS = (IntegrityError, DataError, StatementError, ValueError)


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
            except OBJECT_REFUSALS as error:
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


@dataclass(frozen=True, slots=True)
class MergingRowWriter:
    """The same through the mapped class of the user: the object that has the key takes the new values as attributes.

    So its validators see them, and a change is flushed with the events, the ``onupdate`` defaults and the version
    counter of the class. What the session calls modified is an update; an object that is not modified is not sent.
    """

    method: ClassVar[str] = "row"
    piece_rows: ClassVar[int] = 1_000
    target: Target
    duplicates: Duplicates

    def encode(self, rows: pa.RecordBatch) -> None:
        """Nothing: the mapped class is given Python's values."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert or update in order; a refused row is rolled back to its savepoint. Nothing is committed."""
        refused = null_key_refusals(rows, self.target)
        became: Counter[Verdict] = Counter()
        for index, values in enumerate(row_values(rows, self.target)):
            if index in refused:
                continue
            try:
                became[self._merge(session, values)] += 1
            except OBJECT_REFUSALS as error:
                refused[index] = refusal(error, index, values, session, self.target)
        return Outcome(rows.num_rows, grouped(refused.values()), 0, became[Verdict.UPDATED], became[Verdict.UNCHANGED])

    def _merge(self, session: Session, values: Values) -> Verdict:
        """Add an object, or change the one that is there. Raises what refuses the row, and nothing of it stays."""
        try:
            with session.begin_nested():
                return self._changed(session, values) or self._added(session, values)
        except IntegrityError as error:
            if not self._is_of_key(error, session, values):
                raise
            with session.begin_nested():  # another session has added it in this moment
                verdict = self._changed(session, values)
            if verdict is None:
                raise
            return verdict

    def _added(self, session: Session, values: Values) -> Verdict:
        session.add(constructed(self.target, values))  # flushed on leaving the savepoint
        return Verdict.WRITTEN

    def _changed(self, session: Session, values: Values) -> Verdict | None:
        """Give the values to the object with the key, if there is one and they are newer."""
        found = session.execute(self._question(values)).first()
        if found is None:
            return None
        there, is_newer = found
        for name in self.duplicates.changed(values) if is_newer else ():
            self._set(there, name, values[name])
        return Verdict.UPDATED if session.is_modified(there) else Verdict.UNCHANGED

    def _set(self, there: object, name: str, value: Any) -> None:
        attribute_name = self.target.attributes[name]
        if value is None and name in self.target.json_nulls:
            if getattr(there, attribute_name) is None:
                return
            value = sa.null()
        setattr(there, attribute_name, value)

    def _question(self, values: Values) -> sa.Select[tuple[Any, bool]]:
        """The object with the key as it is now, kept for this transaction, and whether the values are newer.

        What is equal and what is newer is the database's to say.
        """
        assert self.target.entity is not None
        assert self.duplicates.key is not None
        nulls_are_equal = self.duplicates.key.nulls_are_equal
        same = (
            same_value(self.target, name, values[name], nulls_are_equal=nulls_are_equal)
            for name in self.duplicates.key.columns
        )
        question = sa.select(self.target.entity, self._is_newer(values)).where(*same)
        return question.with_for_update(of=self.target.entity).execution_options(populate_existing=True)

    def _is_newer(self, values: Values) -> sa.ColumnElement[bool]:
        name = self.duplicates.newer_by
        if name is None:
            return sa.true()
        if values[name] is None:
            return sa.false()
        there = attribute(self.target, name)
        return sa.or_(there.is_(None), there < values[name])

    def _is_of_key(self, error: IntegrityError, session: Session, values: Values) -> bool:
        assert self.duplicates.key is not None
        cause = refusal(error, 0, values, session, self.target).cause
        return cause.reason is Reason.UNIQUE and cause.constraint in self.duplicates.key.names


def attribute(target: Target, name: str) -> Any:
    """The attribute of the mapped class for a column."""
    return getattr(target.entity, target.attributes[name])


def same_value(target: Target, name: str, value: Any, *, nulls_are_equal: bool = False) -> sa.ColumnElement[bool]:
    """Whether a column has this value, by the equality of the database."""
    there = attribute(target, name)
    new = sa.literal(value, there.type)
    is_same: sa.ColumnElement[bool] = there.is_not_distinct_from(new) if nulls_are_equal else there == new
    return is_same


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
