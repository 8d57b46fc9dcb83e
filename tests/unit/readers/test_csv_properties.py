"""What holds for any CSV file: blocks and resume change nothing, damage is contained."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.readers.csv import CsvReader
from etl.records import Position, Reject
from tests.files import Dialect

BEGINNING = Position()


def read(
    content: bytes, start: Position = BEGINNING, *, block_size: int = 1 << 20, max_record_bytes: int = 1 << 24
) -> tuple[dict[int, tuple[object, ...]], list[tuple[Position, int]]]:
    """Read the records behind ``start``: by number line and values, or line and reject; each batch's end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "in.csv")
        path.write_bytes(content)
        records: dict[int, tuple[object, ...]] = {}
        ends = []
        reader = CsvReader(path, "in.csv", Dialect(), block_size=block_size, max_record_bytes=max_record_bytes)
        for batch in reader.batches(start, []):
            assert batch.lines is not None
            for index, number in enumerate(batch.numbers.tolist()):
                values = (column[index].as_py() for column in batch.columns.columns)
                records[number] = (int(batch.lines[index]), *values)
            for reject in batch.rejects:
                assert reject.record not in records
                records[reject.record] = (reject.line, reject)
            assert batch.end.record == start.record + len(records)
            ends.append((batch.end, len(records)))
    assert sorted(records) == list(range(start.record + 1, start.record + len(records) + 1))
    return dict(sorted(records.items())), ends


@dataclass(frozen=True)
class Written:
    """A well-formed file and what must be read from it: line and values of each record."""

    content: bytes
    records: list[tuple[object, ...]]


TEXTS = st.text(st.sampled_from("ab,\"\n\r '\\é😀\ufeff"), max_size=6)
LINE_END = re.compile("\r\n?|\n")


@st.composite
def well_formed_files(draw: st.DrawFn, most_columns: int = 4) -> Written:
    """A file whose fields the csv module has written, with line ends of all sorts."""
    width = draw(st.integers(1, most_columns))
    text = ",".join("abcd"[:width]) + "\n"
    records: list[tuple[object, ...]] = []
    for row in draw(st.lists(st.tuples(*[st.none() | TEXTS] * width), max_size=12)):
        if width > 1:
            text += draw(st.sampled_from(["", "", "", "\r\n"]))
        records.append((1 + len(LINE_END.findall(text)), *row))
        # A blank line's LF behind a CR would be one line end with it.
        ends = ["\r", "\r\n"] if row == (None,) else ["\n", "\r", "\r\n"]
        text += ",".join(draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]).map(write(value))) for value in row)
        text += draw(st.sampled_from(ends))
    if records and records[-1][1:] != (None,) and draw(st.booleans()):
        text = text[: -len(LINE_END.findall(text)[-1])]
    return Written(text.encode(), records)


def write(value: str | None) -> Callable[[int], str]:
    def written(quoting: int) -> str:
        if value is None:
            return ""
        target = io.StringIO()
        csv.writer(target, quoting=quoting if value else csv.QUOTE_ALL).writerow([value])  # type: ignore[arg-type]
        return target.getvalue().removesuffix("\r\n")

    return written


@given(well_formed_files(), st.integers(1, 200))
def test_well_formed_file_gives_what_the_csv_module_wrote(file: Written, block_size: int) -> None:
    records, _ = read(file.content, block_size=block_size)
    assert list(records.values()) == file.records


PIECES = st.sampled_from(
    [b"", b"1", b"x", b'""', b'"q"', b'"a\nb"', b'"a""b"', b'"a,b"', b'x"y', b'"a"b', b'"u', b"\xff"]
)
LINES = st.lists(PIECES, min_size=1, max_size=4).map(b",".join)
DIRTY_LINES = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])).map(b"".join), max_size=15)
DIRTY_BYTES = st.lists(st.sampled_from([*b'"""",,,a\n\n\r\xff\0']), max_size=80).map(bytes)
DIRTY_FILES = st.tuples(st.sampled_from([b"a\n", b"a,b\n", b"a,b,c\r\n"]), DIRTY_BYTES | DIRTY_LINES.map(b"".join)).map(
    b"".join
)


@given(DIRTY_FILES, st.integers(1, 60), st.sampled_from([7, 40, 1 << 24]))
def test_any_bytes_give_the_same_records_and_rejects_whatever_the_blocks(
    content: bytes, block_size: int, most: int
) -> None:
    whole, _ = read(content, max_record_bytes=most)
    assert read(content, block_size=block_size, max_record_bytes=most)[0] == whole


@given(DIRTY_FILES, st.integers(1, 60), st.sampled_from([7, 40, 1 << 24]))
def test_reading_on_at_the_end_of_any_batch_gives_the_rest(content: bytes, block_size: int, most: int) -> None:
    records, ends = read(content, block_size=block_size, max_record_bytes=most)
    for end, count in ends:
        rest, _ = read(content, end, block_size=block_size, max_record_bytes=most)
        assert rest == dict(list(records.items())[count:])


def sample_lines() -> list[str]:
    """84 physical lines: 63 records, a third of them over two lines."""
    kinds = ["{0},plain {0},x", '{0},"quoted, {0}","say ""hi"""', '{0},"two\nlines {0}",""']
    return [kinds[number % 3].format(number) for number in range(63)]


CLEAN = ("a,b,c\n" + "\n".join(sample_lines()) + "\n").encode()
TRUTH = {record[1:] for record in read(CLEAN)[0].values()}
BODY = range(CLEAN.index(b"\n") + 1, len(CLEAN))


def damage_of(content: bytes) -> tuple[int, int, int]:
    """Count the rejects, the records the clean file has not, and those of it that are gone."""
    records, _ = read(content)
    values = {record[1:] for record in records.values() if not isinstance(record[1], Reject)}
    return (
        len([1 for record in records.values() if isinstance(record[1], Reject)]),
        len(values - TRUTH),
        len(TRUTH - values),
    )


def test_quote_put_in_anywhere_costs_at_most_its_own_record() -> None:
    for place in BODY:
        rejects, strange, gone = damage_of(CLEAN[:place] + b'"' + CLEAN[place:])
        assert strange <= gone <= 1, place
        assert rejects <= 1, place


def test_quote_taken_out_anywhere_costs_at_most_its_own_record() -> None:
    for place in (place for place in BODY if CLEAN[place : place + 1] == b'"'):
        rejects, strange, gone = damage_of(CLEAN[:place] + CLEAN[place + 1 :])
        assert rejects <= 1, place
        assert strange <= gone <= 1, place


@pytest.mark.parametrize("delimiters", [b"", b",,"])
def test_delimiter_too_many_or_too_few_costs_at_most_its_own_record(delimiters: bytes) -> None:
    for place in (place for place in BODY if CLEAN[place : place + 1] == b","):
        rejects, strange, gone = damage_of(CLEAN[:place] + delimiters + CLEAN[place + 1 :])
        assert rejects <= 1, place
        assert strange <= gone <= 1, place


def test_stray_quote_in_every_line_costs_every_record_a_reject_of_its_own() -> None:
    records, _ = read(b"a,b,c\n" + b'1,x"y,2\n' * 500, block_size=64)
    assert [record[0] for record in records.values()] == list(range(2, 502))
    assert all(isinstance(record[1], Reject) for record in records.values())
