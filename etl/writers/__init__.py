"""Putting rows into the target, and saying what became of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from sqlalchemy.orm import Session

from etl.config import Method
from etl.database import Target
from etl.records import Outcome
from etl.writers.bulk import HalvingBulkWriter, SqliteBulkWriter
from etl.writers.row import CoreRowWriter, RowWriter

__all__ = ["Choice", "Writer", "choose_writer"]


class Writer(Protocol):
    """Writes rows in file order inside the session's transaction. It never commits, and never rolls back but to a
    savepoint of its own."""

    @property
    def method(self) -> str: ...

    def write(self, session: Session, rows: pa.RecordBatch) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A writer, and why it is the right one."""

    writer: Writer
    reason: str


def choose_writer(target: Target, method: Method) -> Choice:
    """The writer for ``target``: the fastest that is exact where ``method`` is ``auto``."""
    if method == "row":
        return Choice(_row_writer(target), "the method is given")
    if method == "auto" and target.is_users_model:
        return Choice(_row_writer(target), "the validators, defaults and events of the mapped class run for each row")
    writer = _bulk_writer(target)
    if method != "auto":
        return Choice(writer, "the method is given")
    if target.dialect == "sqlite" and target.triggers:
        return Choice(writer, f"a piece that fails is settled by halves: triggers ({', '.join(target.triggers)})")
    return Choice(writer, "many rows under one savepoint, settled when one is refused")


def _row_writer(target: Target) -> Writer:
    if target.entity is None or (target.triggers and not target.is_users_model):
        return CoreRowWriter(target)
    return RowWriter(target)


def _bulk_writer(target: Target) -> Writer:
    plain = not (target.is_users_model or target.triggers or target.is_view)
    return SqliteBulkWriter(target) if target.dialect == "sqlite" and plain else HalvingBulkWriter(target)
