"""What a repeated key means where a load names one: of that key a duplicate, of another one a reject."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa
from sqlalchemy.orm import Session

from etl.database import Duplicates
from etl.records import Cause, Encoded, Outcome, Reason, Refused


class _Writer(Protocol):
    @property
    def method(self) -> str: ...

    @property
    def piece_rows(self) -> int: ...

    def encode(self, rows: pa.RecordBatch) -> Encoded | None: ...

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class KeyedWriter:
    """Another writer, whose refusals by a unique constraint are judged by the load's key.

    Where rows are updated or replaced, a row that repeats the key is none of the refused, and who is refused for a
    unique constraint would have taken a value that another row has.
    """

    writer: _Writer
    duplicates: Duplicates

    @property
    def method(self) -> str:
        return self.writer.method

    @property
    def piece_rows(self) -> int:
        return self.writer.piece_rows

    def encode(self, rows: pa.RecordBatch) -> Encoded | None:
        return self.writer.encode(rows)

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        outcome = self.writer.write(session, rows, encoded)
        refused = tuple(Refused(group.places, self._judged(group.cause)) for group in outcome.refused)
        return replace(outcome, refused=refused)

    def _judged(self, cause: Cause) -> Cause:
        key = self.duplicates.key
        is_of_key = not self.duplicates.repetition_is_written and key is not None and cause.constraint in key.names
        return cause if cause.reason is not Reason.UNIQUE or is_of_key else replace(cause, is_elsewhere=True)
