"""``method = "copy"``: COPY in a savepoint, and the verdict of each row where something in a piece is refused.

All that is learned from a COPY that fails is that something was refused: unique errors come when its buffer is
flushed, foreign keys at its end and without a line. What decides is the INSERT of the row loop, for each row in file
order and in a subtransaction of its own, run by a function on the server (``settling``).

A constraint that was seen to fail is asked first from then on (``screening``), so that the COPY of the rest does not
fail: optimistic with the piece, exact with the failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from etl.database import CatalogEntry, Fate, Target, fault_of
from etl.records import Outcome, Refusal
from etl.writers.bulk import HalvingBulkWriter
from etl.writers.encoding import copy_in, cursor_of, quoted
from etl.writers.screening import Screen
from etl.writers.settling import ServerSettler


@dataclass(frozen=True, slots=True)
class CopyWriter:
    """Sends pieces by COPY; for a target on which that would not be exact, settles each one on the server."""

    method: ClassVar[str] = "copy"
    target: Target
    catalog: CatalogEntry
    settler: ServerSettler
    screen: Screen

    def write(self, session: Session, rows: pa.RecordBatch) -> Outcome:
        """Insert the rows, with the verdicts of the row loop; refused ones leave no row. Nothing is committed."""
        refusals = None if self.catalog.obstacles else self._write_screened(session, rows)
        if refusals is None:
            refusals = self._settle(session, rows, np.arange(rows.num_rows))
            self.screen.notice(refusals)
        return Outcome(rows.num_rows, tuple(refusals))

    def _write_screened(self, session: Session, rows: pa.RecordBatch) -> list[Refusal] | None:
        """The refusals, if everything went as the screen foresaw; else None, and nothing was written.

        Suspects are tried before the clean rows: they will be refused by what they hold themselves, or by the lack of
        a parent, whatever is in the table. Were one of them written, it might be in the way of a row before it, so
        the piece is settled in order then.
        """
        screened = self.screen.screen(session, rows)
        repeats = screened.certain_repeats()
        suspects = sorted(screened.suspects - screened.there.keys())
        clean = np.delete(np.arange(rows.num_rows), sorted(screened.unclean))
        if repeats is None:
            return None
        with session.begin_nested() as savepoint:
            refused = self._settle(session, rows, np.array(suspects, dtype=np.int64))
            if len(refused) == len(suspects) and self._copy(session, rows, clean):
                return [*screened.there.values(), *repeats.values(), *refused]
            savepoint.rollback()
        return None

    def _copy(self, session: Session, rows: pa.RecordBatch, places: NDArray[np.int64]) -> bool:
        """Whether a COPY of these rows was taken; if not, it has been rolled back to its savepoint."""
        types = [self.catalog.types[name] for name in rows.schema.names]
        try:
            with session.begin_nested():
                copy_in(cursor_of(session), quoted(self.target), _chosen(rows, places), types)
        except psycopg.Error as error:
            if fault_of(error).fate is not Fate.REFUSE:
                raise
            return False
        return True

    def _settle(self, session: Session, rows: pa.RecordBatch, places: NDArray[np.int64]) -> list[Refusal]:
        """Settle the rows at ``places`` on the server, by halves where it cannot even stage them."""
        if not len(places):
            return []
        piece = _chosen(rows, places)
        found: Sequence[Refusal] | None = None
        if self.catalog.may_stage:
            found = self._settle_on_the_server(session, piece)
        if found is None:
            found = HalvingBulkWriter(self.target).write(session, piece).refusals
        return [refusal.at(int(places[refusal.index])) for refusal in found]

    def _settle_on_the_server(self, session: Session, piece: pa.RecordBatch) -> list[Refusal] | None:
        try:
            with session.begin_nested():
                return self.settler.settle(cursor_of(session), piece)
        except psycopg.Error as error:
            if fault_of(error).fate is not Fate.REFUSE:
                raise
            return None


def _chosen(rows: pa.RecordBatch, places: NDArray[np.int64]) -> pa.RecordBatch:
    return rows if len(places) == rows.num_rows else rows.take(pa.array(places, pa.int64()))
