"""Cutting a record batch in two: every record lands in one part, and a part's end is where the other begins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from etl.readers import rebatch
from etl.readers.rebatch import FIRST_PIECE, in_pieces, split_before, split_rows, up_to
from etl.records import Phase, Position, Reason, RecordBatch, Reject


@dataclass(frozen=True)
class Record:
    """What a record batch should hold of one record."""

    number: int
    line: int
    offset: int
    is_bad: bool


def make_batch(records: list[Record], end: Position) -> RecordBatch:
    """A CSV batch of ``records``: the good ones have their number as their only value."""
    good = [record for record in records if not record.is_bad]
    return RecordBatch(
        columns=pa.record_batch({"value": pa.array([f"value {record.number}" for record in good], pa.string())}),
        numbers=np.array([record.number for record in good], np.int64),
        lines=np.array([record.line for record in good], np.int64),
        rejects=tuple(
            Reject(record.number, record.line, Phase.READ, Reason.QUOTE, "bad", raw=f"raw {record.number}")
            for record in records
            if record.is_bad
        ),
        end=end,
        consumed=end.offset + 3,
        offsets=np.array([record.offset for record in records], np.int64),
    )


def parquet_batch(first: int, count: int) -> RecordBatch:
    numbers = np.arange(first, first + count, dtype=np.int64)
    values = pa.record_batch({"value": pa.array([f"value {number}" for number in numbers], pa.string())})
    return RecordBatch(values, numbers, None, (), Position(record=first + count - 1), 99)


def records_of(batch: RecordBatch) -> list[Record]:
    """The reverse of ``make_batch``."""
    assert batch.lines is not None
    assert batch.offsets is not None
    assert batch.columns["value"].to_pylist() == [f"value {number}" for number in batch.numbers]
    found = [(int(number), int(line), False) for number, line in zip(batch.numbers, batch.lines, strict=True)]
    found += [(reject.record, reject.line or 0, True) for reject in batch.rejects]
    return [
        Record(number, line, int(offset), is_bad)
        for (number, line, is_bad), offset in zip(sorted(found), batch.offsets, strict=True)
    ]


@st.composite
def csv_batches(draw: st.DrawFn) -> tuple[list[Record], Position]:
    """Records with gaps between their lines (blank ones) and of any length, some of them bad."""
    number = draw(st.integers(1, 1_000))
    offset, line, records = draw(st.integers(0, 500)), draw(st.integers(1, 500)), []
    for _ in range(draw(st.integers(1, 12))):
        offset += draw(st.integers(0, 4))
        line += draw(st.integers(0, 2))
        records.append(Record(number, line, offset, draw(st.booleans())))
        number, offset, line = number + 1, offset + draw(st.integers(1, 9)), line + draw(st.integers(1, 3))
    return records, Position(number - 1, offset, line)


@given(csv_batches(), st.data())
def test_both_parts_hold_every_record_once_with_its_place(batch, data):
    records, end = batch
    cut = data.draw(st.integers(0, len(records) - 1))

    head, rest = split_before(make_batch(records, end), records[cut].number)

    assert records_of(head) == records[:cut]
    assert records_of(rest) == records[cut:]
    assert (head.read, rest.read) == (cut, len(records) - cut)


@given(csv_batches(), st.data())
def test_the_first_part_ends_where_the_second_begins(batch, data):
    records, end = batch
    cut = data.draw(st.integers(0, len(records) - 1))
    next_one = records[cut]

    head, rest = split_before(make_batch(records, end), next_one.number)

    assert head.end == Position(next_one.number - 1, next_one.offset, next_one.line)
    assert rest.end == end


@given(csv_batches(), st.data())
def test_so_many_rows_are_in_the_first_part_and_bad_records_count_as_none(batch, data):
    records, end = batch
    good = [record for record in records if not record.is_bad]
    if not good:
        return
    count = data.draw(st.integers(0, len(good) - 1))

    head, rest = split_rows(make_batch(records, end), count)

    assert len(head.numbers) == count
    assert records_of(head) + records_of(rest) == records
    # Bad records in front of the row at the cut go with the first part.
    assert records_of(rest)[0] == good[count]


def in_batches(records: list[Record], end: Position, size: int) -> list[RecordBatch]:
    """Batches of ``size`` records, as a reader would give them."""
    ends = [Position(record.number - 1, record.offset, record.line) for record in records[size::size]]
    parts = [records[start : start + size] for start in range(0, len(records), size)]
    return [make_batch(part, behind) for part, behind in zip(parts, [*ends, end], strict=True)]


sizes = st.integers(1, 12)


@given(batch=csv_batches(), size=sizes, most=st.integers(1, 9), rows=st.integers(1, 9), data=st.data())
def test_a_piece_ends_behind_each_so_many_rows_and_nothing_is_lost(batch, size, most, rows, data):
    records, end = batch
    open_rows = data.draw(st.integers(0, rows - 1))

    pieces = list(in_pieces(in_batches(records, end, size), most, commit_every=rows, open_rows=open_rows))

    assert [record for piece in pieces for record in records_of(piece)] == records
    assert pieces[-1].end == end
    ends, total = set(), open_rows
    for piece in pieces:
        assert len(piece.numbers) <= most
        assert total % rows + len(piece.numbers) <= rows  # never beyond a commit
        total += len(piece.numbers)
        ends.add(total)
    assert ends >= set(range(rows, total + 1, rows))  # and one at each


@given(batch=csv_batches(), size=sizes, most=st.integers(1, 9), rows=st.none() | st.integers(1, 9))
def test_each_piece_begins_where_the_one_before_ended(batch, size, most, rows):
    records, end = batch
    begin_of = {record.number: Position(record.number - 1, record.offset, record.line) for record in records}

    pieces = list(in_pieces(in_batches(records, end, size), most, commit_every=rows))

    for piece, following in pairwise(pieces):
        assert piece.end == begin_of[records_of(following)[0].number]


@given(count=st.integers(1, 60), size=sizes, most=st.integers(1, 20))
def test_pieces_are_full_however_small_the_batches(count, size, most):
    records = [Record(number, 10 * number, number + 1, is_bad=False) for number in range(1, count + 1)]

    pieces = list(in_pieces(in_batches(records, Position(count, 10 * count + 10, count + 2), size), most))

    full, rest = divmod(count, most)
    assert [len(piece.numbers) for piece in pieces] == [most] * full + [rest] * (rest > 0)


def test_the_first_pieces_are_small_ones():
    count = 10 * FIRST_PIECE
    records = [Record(number, 10 * number, number + 1, is_bad=False) for number in range(1, count + 1)]

    pieces = in_pieces([make_batch(records, Position(count, 10 * count + 10, count + 2))], 4 * FIRST_PIECE)

    assert [len(piece.numbers) / FIRST_PIECE for piece in pieces] == [1, 2, 4, 3]


def test_bad_records_without_a_row_are_not_kept_back_for_long():
    count = 1_000
    records = [Record(number, 10 * number, number + 1, is_bad=True) for number in range(1, count + 1)]

    pieces = list(in_pieces(in_batches(records, Position(count, 10 * count + 10, count + 2), 10), 50))

    assert max(len(piece.rejects) for piece in pieces) <= 100
    assert sum(len(piece.rejects) for piece in pieces) == count


MOST = 3_000  # bytes


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), every=st.integers(1, 9))
def test_long_values_are_not_joined_and_a_piece_still_ends_at_each_commit(sizes, every):
    texts = ["x" * (size * MOST // 30) for size in sizes]
    columns = [pa.record_batch({"value": [text]}) for text in texts]
    batches = [
        RecordBatch(values, np.array([number]), None, (), Position(record=number), 99)
        for number, values in enumerate(columns, 1)
    ]

    with mock.patch.object(rebatch, "MOST_BYTES", MOST):
        pieces = list(in_pieces(batches, 100, commit_every=every))

    assert [length for piece in pieces for length in pc.binary_length(piece.columns["value"]).to_pylist()] == [
        len(text) for text in texts
    ]
    assert all(piece.columns.nbytes <= MOST or len(piece.numbers) == 1 for piece in pieces)
    assert {piece.end.record for piece in pieces} >= set(range(every, len(sizes) + 1, every))
    for piece, following in pairwise(pieces):  # as much as goes in
        is_full = piece.columns.nbytes + following.columns.slice(0, 1).nbytes > MOST
        assert is_full or piece.end.record % every == 0


@given(batch=csv_batches(), size=st.integers(1, 12), data=st.data())
def test_a_limit_ends_behind_its_record_and_reads_no_further(batch, size, data):
    records, end = batch
    count = data.draw(st.integers(1, len(records)))
    begins = [Position(record.number - 1, record.offset, record.line) for record in records]
    unread = iter(in_batches(records, end, size))

    parts = list(up_to(records[count - 1].number, unread))

    assert [record for part in parts for record in records_of(part)] == records[:count]
    assert parts[-1].end == [*begins, end][count]
    assert sum(part.read for part in unread) == max(0, len(records) - -(-count // size) * size)


def test_a_limit_beyond_the_end_gives_everything():
    records = [Record(1, 2, 0, False), Record(2, 3, 5, True)]

    (part,) = up_to(10, iter([make_batch(records, Position(2, 9, 4))]))

    assert records_of(part) == records


@given(first=st.integers(1, 1_000), count=st.integers(1, 50), data=st.data())
def test_a_parquet_batch_is_cut_by_its_numbers_alone(first, count, data):
    cut = data.draw(st.integers(0, count - 1))

    head, rest = split_rows(parquet_batch(first, count), cut)

    assert head.numbers.tolist() == list(range(first, first + cut))
    assert rest.numbers.tolist() == list(range(first + cut, first + count))
    assert head.columns["value"].to_pylist() == [f"value {number}" for number in head.numbers]
    assert rest.columns["value"].to_pylist() == [f"value {number}" for number in rest.numbers]
    assert (head.end, rest.end) == (Position(record=first + cut - 1), Position(record=first + count - 1))
    assert (head.lines, rest.lines) == (None, None)


def test_the_whole_batch_is_not_changed():
    records = [Record(1, 2, 0, False), Record(2, 3, 5, True), Record(3, 6, 9, False)]
    batch = make_batch(records, Position(3, 20, 7))

    split_before(batch, 2)

    assert records_of(batch) == records
    assert batch.end == Position(3, 20, 7)
