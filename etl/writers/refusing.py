"""From a driver's error to the refusal of one row, with the constraint named where the database did not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import Session

from etl.database import Fate, Target, fault_of
from etl.records import Cause, Column, Reason, Refusal, Refused


def refusal(error: Exception, index: int, values: Mapping[str, Any], session: Session, target: Target) -> Refusal:
    """The refusal that ``error`` means for the row at ``index``; an error that refuses no row is raised again.

    To be called when the row's savepoint has been rolled back: SQLite's foreign keys are named by asking it.
    """
    if target.is_users_model and not isinstance(error, DBAPIError):
        return _users_refusal(error, index)
    fault = fault_of(error)
    if fault.fate is not Fate.REFUSE:
        raise error
    constraint = fault.constraint
    if constraint is None and fault.reason is Reason.UNIQUE:
        constraint = _unique_name(fault.columns, target)
    if constraint is None and fault.reason is Reason.FOREIGN_KEY:
        constraint = _broken_foreign_key(values, session, target)
    return Refusal(index, Cause(fault.reason, fault.message, fault.sqlstate, constraint, fault.column))


def grouped(refusals: Iterable[Refusal]) -> tuple[Refused, ...]:
    """The refusals by their cause."""
    places: dict[Cause, list[int]] = {}
    for refusal in refusals:
        places.setdefault(refusal.cause, []).append(refusal.index)
    return tuple(Refused(np.array(found, dtype=np.int64), cause) for cause, found in places.items())


def null_key_refusals(rows: pa.RecordBatch, target: Target) -> dict[int, Refusal]:
    """On SQLite, the rows with a NULL in the primary key, by their place; nothing on PostgreSQL, which sees to it.

    SQLite would take them: it fills an INTEGER PRIMARY KEY in, and by a bug kept for compatibility lets NULL into
    the others (sqlite.org/lang_createtable.html, "The PRIMARY KEY"). The SQL standard and PostgreSQL do not.
    """
    if target.dialect != "sqlite":
        return {}
    keys = [column for column in target.columns if column.is_primary_key]
    return {index: Refusal(index, _null_key(key)) for key in reversed(keys) for index in _nulls(rows, key)}


def null_key_cause(values: Mapping[str, Any], target: Target, link: Collection[str]) -> Cause | None:
    """The same for one child, whose columns ``link`` the relationship fills in; None where there is no such NULL."""
    if target.dialect != "sqlite":
        return None
    for key in target.columns:
        is_null = values[key.name] is None if key.name in values else not key.has_default
        if key.is_primary_key and key.name not in link and is_null:
            return _null_key(key)
    return None


def _null_key(key: Column) -> Cause:
    return Cause(Reason.NOT_NULL, f"{key.name} is NULL in the primary key", "23502", column=key.name)


def _users_refusal(error: Exception, index: int) -> Refusal:
    """A validator or a type of the user's mapped class said no before the database saw the row."""
    if isinstance(error, StatementError):
        return Refusal(index, Cause(Reason.TYPE, str(error.orig)))
    return Refusal(index, Cause(Reason.CHECK, str(error)))


def _nulls(rows: pa.RecordBatch, key: Column) -> Iterable[int]:
    if key.name not in rows.schema.names:
        return () if key.has_default else range(rows.num_rows)
    values = rows.column(key.name)
    if values.null_count == 0:
        return ()
    return [index for index, is_null in enumerate(values.is_null().to_pylist()) if is_null]


def _unique_name(columns: tuple[str, ...], target: Target) -> str | None:
    return next((name for key, name in target.unique.items() if set(key) == set(columns)), None)


def _broken_foreign_key(values: Mapping[str, Any], session: Session, target: Target) -> str | None:
    """SQLite says that a foreign key is broken and not which: ask for each parent."""
    for key in target.foreign_keys:
        wanted = [values.get(name) for name in key.columns]
        own = [values.get(name) for name in key.parent_columns] if key.parent is target.table else None
        if None in wanted or wanted == own:  # a row may be its own parent
            continue
        matches = (key.parent.c[name] == value for name, value in zip(key.parent_columns, wanted, strict=True))
        if session.scalar(sa.select(sa.literal(1)).select_from(key.parent).where(*matches).limit(1)) is None:
            return key.name
    return None
