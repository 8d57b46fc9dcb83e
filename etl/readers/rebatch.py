"""Cutting record batches where a transaction is full or a limit is reached, each part with its exact position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from etl.records import Position, RecordBatch


def cut_every(rows: int, open_rows: int, batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
    """``batches`` cut so that a batch ends behind each multiple of ``rows`` rows, ``open_rows`` counted already."""
    room = rows - open_rows
    for records in batches:
        while len(records.numbers) > room:
            head, records = split_rows(records, room)
            yield head
            room = rows
        yield records
        room = room - len(records.numbers) or rows


def at_most(rows: int, batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
    """``batches`` cut so that none of them has more than ``rows`` rows."""
    for records in batches:
        while len(records.numbers) > rows:
            head, records = split_rows(records, rows)
            yield head
        yield records


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
