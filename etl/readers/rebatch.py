"""Cutting and joining record batches: as large as the writer wants them, cut where a transaction is full or a limit is
reached, each with its exact position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.records import Position, RecordBatch

FIRST_PIECE = 8_192  # rows; each piece behind it may be twice as large
MOST_BYTES = 16 << 20  # of a piece's values: mapped, encoded and as rejects they are kept a dozen times over


def in_pieces(
    batches: Iterable[RecordBatch], most: int, *, commit_every: int | None = None, open_rows: int = 0
) -> Iterator[RecordBatch]:
    """``batches`` cut and joined: ``most`` rows each, and one ends behind each multiple of ``commit_every`` rows, of
    which ``open_rows`` have come already.

    The first ones are smaller, so that the database need not wait for a large one to be read; so is one with more bad
    records than rows, since these are kept in memory too. Batches are not joined to more than ``MOST_BYTES``.
    """
    plan = _Plan(most, commit_every, commit_every - open_rows if commit_every else most, min(most, FIRST_PIECE))
    held: list[RecordBatch] = []
    for records in batches:
        if held and _bytes_of([*held, records]) > MOST_BYTES:
            yield plan.piece(held)
            held = []
        rest: RecordBatch | None = records
        while rest is not None:
            head, rest = _parted(rest, plan.rows - _rows_of(held))
            held.append(head)
            if plan.is_full(held):
                yield plan.piece(held)
                held = []
    if held:
        yield plan.piece(held)


@dataclass(slots=True)
class _Plan:
    """How large the next piece may be: ``room`` rows to the next commit, and ``size`` rows grow to ``most``."""

    most: int
    commit_every: int | None
    room: int
    size: int

    @property
    def rows(self) -> int:
        return min(self.size, self.room)

    def is_full(self, held: Sequence[RecordBatch]) -> bool:
        return _rows_of(held) >= self.rows or sum(part.read for part in held) >= 2 * self.size

    def piece(self, held: Sequence[RecordBatch]) -> RecordBatch:
        """What is held as one; from here on it is about the piece behind it."""
        self.room = (self.room - _rows_of(held) or self.commit_every) if self.commit_every else self.most
        self.size = min(self.most, 2 * self.size)
        return _joined(held)


def _bytes_of(batches: Sequence[RecordBatch]) -> int:
    return sum(records.columns.nbytes for records in batches)


def _rows_of(batches: Sequence[RecordBatch]) -> int:
    return sum(len(records.numbers) for records in batches)


def _parted(records: RecordBatch, rows: int) -> tuple[RecordBatch, RecordBatch | None]:
    """At most so many rows, and what is left."""
    return split_rows(records, rows) if len(records.numbers) > rows else (records, None)


def _joined(batches: Sequence[RecordBatch]) -> RecordBatch:
    """Batches that follow one another, as one."""
    if len(batches) == 1:
        return batches[0]
    return replace(
        batches[-1],
        columns=pa.concat_batches([records.columns for records in batches]),
        numbers=np.concatenate([records.numbers for records in batches]),
        lines=_concatenated([records.lines for records in batches]),
        rejects=tuple(reject for records in batches for reject in records.rejects),
        offsets=_concatenated([records.offsets for records in batches]),
    )


def _concatenated(arrays: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    given = [array for array in arrays if array is not None]
    return np.concatenate(given) if given else None


def up_to(number: int, batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
    """The records up to the one with this number; what comes behind is not read."""
    for records in batches:
        if records.end.record >= number:
            yield records if records.end.record == number else split_before(records, number + 1)[0]
            return
        yield records


def split_rows(records: RecordBatch, count: int) -> tuple[RecordBatch, RecordBatch]:
    """The part of ``records`` with its first ``count`` rows, and the rest.

    Records that could not be read count as no rows: those before the first row of the rest go with the first part.
    ``count`` is less than the number of rows.
    """
    return split_before(records, int(records.numbers[count]))


def split_before(records: RecordBatch, number: int) -> tuple[RecordBatch, RecordBatch]:
    """The records before the record ``number``, and the rest, which begins with it."""
    count = int(np.searchsorted(records.numbers, number))
    cut = _position_before(records, number)
    lines = records.lines
    offsets = records.offsets
    done = number - _first_number(records)
    head = replace(
        records,
        columns=records.columns.slice(0, count),
        numbers=records.numbers[:count],
        lines=None if lines is None else lines[:count],
        rejects=tuple(reject for reject in records.rejects if reject.record < number),
        end=cut,
        offsets=None if offsets is None else offsets[:done],
    )
    rest = replace(
        records,
        columns=records.columns.slice(count),
        numbers=records.numbers[count:],
        lines=None if lines is None else lines[count:],
        rejects=tuple(reject for reject in records.rejects if reject.record >= number),
        offsets=None if offsets is None else offsets[done:],
    )
    return head, rest


def _first_number(records: RecordBatch) -> int:
    return records.end.record - records.read + 1


def _position_before(records: RecordBatch, number: int) -> Position:
    if records.offsets is None:
        return Position(record=number - 1)
    offset = int(records.offsets[number - _first_number(records)])
    return Position(number - 1, offset, _line_of(records, number))


def _line_of(records: RecordBatch, number: int) -> int:
    for reject in records.rejects:
        if reject.record == number and reject.line is not None:
            return reject.line
    assert records.lines is not None
    return int(records.lines[np.searchsorted(records.numbers, number)])
