"""``method = "copy"``: COPY in a savepoint, and the verdict of each row where something in a piece is refused.

All that is learned from a COPY that fails is that something was refused: unique errors come when its buffer is
flushed, foreign keys at its end and without a line. What decides is the INSERT of the row loop, for each row in file
order and in a subtransaction of its own, run by a function on the server (``settling``).

A constraint that was seen to fail is asked first from then on (``screening``), so that the COPY of the rest does not
fail: optimistic with the piece, exact with the failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from etl.database import CatalogEntry, Fate, Target, fault_of
from etl.database.copying import copy_blocks, cursor_of, encode, encode_kept, quoted
from etl.records import Encoded, Outcome, Refused
from etl.writers.bulk import HalvingBulkWriter
from etl.writers.screening import Screen, Screened, marked
from etl.writers.settling import ServerSettler
from etl.writers.updating import Updater
from etl.writers.upsert import Updates, tally_of

PART_CHUNKS = 4  # chunks of the encoding that are tried together, where a piece as a whole cannot be copied
DISTRUST = 8  # pieces that are settled from the start, after one of which most parts had to be


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows and their encoding; ``start`` is the place of the first one among the rows that were given."""

    rows: pa.RecordBatch
    encoded: Encoded
    start: int = 0

    def parts(self) -> Iterator[_Piece]:
        """A piece for every few chunks of the encoding."""
        chunk_rows = self.encoded.chunk_rows
        for first in range(0, len(self.encoded.chunks), PART_CHUNKS):
            rows = self.rows.slice(first * chunk_rows, PART_CHUNKS * chunk_rows)
            yield _Piece(rows, self.encoded.part(first, PART_CHUNKS), self.start + first * chunk_rows)


class _InDoubt(Exception):
    """Something is not as it was expected, and may be in the way of a row before it: so all goes in order.

    A row that was to be refused was not, or one that was to be updated is not there.
    """


@dataclass
class CopyWriter:
    """Sends pieces by COPY; for a target on which that would not be exact, settles each one on the server.

    With an ``updater``, the rows whose key is there are updated, once COPY has taken the others.
    """

    method: ClassVar[str] = "copy"
    piece_rows: ClassVar[int] = 100_000
    target: Target
    catalog: CatalogEntry
    settler: ServerSettler
    screen: Screen
    updater: Updater | None = None
    _distrusted: int = 0  # pieces that are still to be settled from the start

    def encode(self, rows: pa.RecordBatch) -> Encoded | None:
        """The data of a COPY of ``rows``, unless none will be made."""
        return None if self._is_inexact(rows) else encode(rows, self._types(rows))

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Insert the rows, with the verdicts of the row loop; refused ones leave no row. Nothing is committed."""
        if self._is_inexact(rows) or self._distrusted:
            self._distrusted = max(0, self._distrusted - 1)
            return self._settle(session, rows)
        piece = _Piece(rows, encoded or encode(rows, self._types(rows)))
        return self._try(session, piece) or self._write_parts(session, list(piece.parts()))

    def _is_inexact(self, rows: pa.RecordBatch) -> bool:
        return bool(self.catalog.obstacles) or not self.catalog.unjudged <= set(rows.schema.names)

    def _write_parts(self, session: Session, parts: Sequence[_Piece]) -> Outcome:
        """A piece that cannot be copied, in parts and in order: each is written or settled before the next one."""
        outcomes: list[Outcome] = []
        for part in parts:
            tried = self._try(session, part) if len(parts) > 1 else None
            outcomes.append(tried or _moved(self._settle(session, part.rows), part.start))
        whole = _joined(outcomes)
        self._distrusted = DISTRUST if whole.settled > len(parts) // 2 else 0
        return whole

    def _try(self, session: Session, piece: _Piece) -> Outcome | None:
        """What became of the rows, if COPY took what was sent; else None, and nothing was written.

        A constraint that makes COPY fail is screened for, and the piece tried again: once for each at most.
        """
        while True:
            try:
                with session.begin_nested():
                    return self._screened(session, piece)
            except _InDoubt:
                return None
            except psycopg.Error as error:
                fault = fault_of(error)
                if fault.fate is not Fate.REFUSE:
                    raise
                if not self.screen.suspect(fault, piece.rows.schema.names):
                    return None

    def _screened(self, session: Session, piece: _Piece) -> Outcome:
        """What became of the rows; COPY has taken what was sent. Raises what COPY raises, or _InDoubt.

        Suspects are tried before the others: they will be refused by what they hold themselves, or by the lack of a
        parent, whatever is in the table.
        """
        rows = piece.rows.num_rows
        screened = self.screen.screen(session, piece.rows)
        suspects = np.flatnonzero(screened.suspects)
        tried = self._settle(session, _chosen(piece.rows, suspects)).refused if len(suspects) else ()
        refused = tuple(Refused(suspects[group.places], group.cause) for group in tried)
        if sum(len(group.places) for group in refused) < len(suspects):
            raise _InDoubt
        repeating = (*screened.there, *screened.repeats())
        self._copy(session, piece, marked(rows, (*refused, *repeating)))
        if self.updater is None:
            return _moved(Outcome(rows, (*refused, *repeating)), piece.start)
        updates = self._update(session, self.updater, piece, screened, marked(rows, repeating))
        return _moved(Outcome(rows, refused, 0, *updates), piece.start)

    def _update(
        self, session: Session, updater: Updater, piece: _Piece, screened: Screened, is_repeating: NDArray[np.bool_]
    ) -> Updates:
        """Update by the rows whose key is there by now."""
        places = np.flatnonzero(is_repeating)
        if not len(places):
            return Updates()
        (keyed,) = screened.keyed
        updates = updater.update(session, piece.rows, places, keyed.classes[places])
        if updates is None:
            raise _InDoubt
        return updates

    def _copy(self, session: Session, piece: _Piece, is_refused: NDArray[np.bool_]) -> None:
        types = self._types(piece.rows)
        blocks: Iterable[bytes] = piece.encoded
        if is_refused.all():
            return
        if is_refused.any():
            blocks = encode_kept(piece.rows, types, piece.encoded, ~is_refused)
        copy_blocks(cursor_of(session), quoted(self.target.table), piece.rows.schema, types, blocks)

    def _settle(self, session: Session, rows: pa.RecordBatch) -> Outcome:
        """Settle the rows on the server, or by halves where it cannot even stage them."""
        outcome = self._settle_on_the_server(session, rows) if self.catalog.may_stage else None
        if outcome is None:
            outcome = HalvingBulkWriter(self.target, self.settler.duplicates).write(session, rows)
        return replace(outcome, settled=1)

    def _settle_on_the_server(self, session: Session, rows: pa.RecordBatch) -> Outcome | None:
        try:
            with session.begin_nested():
                tally = tally_of(session, self.target, self.settler.duplicates)
                refused = self.settler.settle(cursor_of(session), rows)
                return Outcome(rows.num_rows, refused, 0, *tally.read())
        except psycopg.Error as error:
            if fault_of(error).fate is not Fate.REFUSE:
                raise
            return None

    def _types(self, rows: pa.RecordBatch) -> list[str]:
        return [self.catalog.types[name] for name in rows.schema.names]


def _chosen(rows: pa.RecordBatch, places: NDArray[np.int64]) -> pa.RecordBatch:
    return rows if len(places) == rows.num_rows else rows.take(pa.array(places))


def _moved(outcome: Outcome, start: int) -> Outcome:
    """The same, by the places among the rows of which these are a part."""
    return replace(outcome, refused=tuple(Refused(group.places + start, group.cause) for group in outcome.refused))


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        sum(outcome.rows for outcome in outcomes),
        tuple(group for outcome in outcomes for group in outcome.refused),
        sum(outcome.settled for outcome in outcomes),
        sum(outcome.updated for outcome in outcomes),
        sum(outcome.unchanged for outcome in outcomes),
    )
