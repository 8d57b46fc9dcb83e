"""Any bytes, in any dialect, against Python's csv module in strict mode.

Python's reader and ours differ in what is told here as a model, and in nothing else: the csv module takes a quote
within a bare field for text, it knows no NULL, and leaves a NUL byte and invalid text to others. So a record that the
csv module reads is given by us with the same values, or it is a reject for one of these reasons; and one that we
give is one of the csv module's.

``ETL_FUZZ_SECONDS`` says how long the campaign of ``make test-long`` takes: 30 minutes unless told otherwise.
"""

from __future__ import annotations

import csv
import io
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.readers.csv import CsvReader
from etl.records import Position, Reason
from tests.files import Dialect

SECONDS = float(os.environ.get("ETL_FUZZ_SECONDS", 30 * 60))
Row = tuple[str, ...]


DIALECTS = st.builds(
    Dialect,
    delimiter=st.sampled_from(",;\t|a"),
    quote=st.sampled_from(['"', '"', '"', "'", ""]),
    header=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8", "latin-1", "cp1252", "utf-16-le"]),
    null=st.sampled_from([("",), ("", "b")]),
)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Dialect, bytes, int]:
    """A dialect, the bytes of a file, and the size of the blocks in which it is read."""
    dialect = draw(DIALECTS)
    d, q = dialect.delimiter, dialect.quote or '"'
    pieces = [d, d, q, q, q + q, "\n", "\n", "\r\n", "\r", "b", "é", "\0", "\ufeff", f"{q}b{d}\n{q}", f"b{d}b\n", "\\"]
    text = "".join(draw(st.lists(st.sampled_from(pieces), max_size=40)))
    content = (draw(st.sampled_from(["", f"b{d}c\n", f"b{d}c{d}d\n"])) + text).encode(dialect.encoding, "replace")
    for place in draw(st.lists(st.integers(0, len(content)), max_size=2)):
        content = content[:place] + draw(st.binary(max_size=2)) + content[place:]
    return dialect, content, draw(st.integers(1, 64))


@dataclass(frozen=True)
class Read:
    """By number: the values of each record, or the reason and raw text of a reject; and the batches' ends."""

    rows: dict[int, tuple[str | None, ...]]
    rejects: dict[int, tuple[int | None, Reason, str | None]]
    ends: list[Position]


def read(reader: CsvReader, start: Position) -> Read:
    found = Read({}, {}, [])
    for batch in reader.batches(start, reader.schema.names):
        rows = zip(*(column.to_pylist() for column in batch.columns.columns), strict=True)
        found.rows.update(zip(batch.numbers.tolist(), rows, strict=True))
        found.rejects.update((each.record, (each.line, each.reason, each.raw)) for each in batch.rejects)
        found.ends.append(batch.end)
    return found


def by_csv_module(text: str, dialect: Dialect) -> list[Row] | None:
    """The records by the csv module; None when it refuses the text."""
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        return [tuple(record) for record in lines]
    except csv.Error:
        return None


def has_bare_quote(text: str, dialect: Dialect) -> bool:
    """Whether a quote is in a field that does not begin with one: what the csv module takes for text.

    Found by taking the quoted fields out of text that the csv module can read, and looking for what is left.
    """
    if not dialect.quote:
        return False
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote)
    quoted = re.compile(f"(?:(?<=^)|(?<=[{d}\r\n])){q}(?:[^{q}]|{q}{q})*{q}(?=[{d}\r\n]|$)", re.ASCII)
    return dialect.quote in quoted.sub("", text)


def check(path: Path, dialect: Dialect, content: bytes, block_size: int) -> None:
    path.write_bytes(content)
    try:
        reader = CsvReader(path, "in.csv", dialect)
    except SourceError:
        return
    whole = read(reader, Position())
    numbers = sorted([*whole.rows, *whole.rejects])
    assert numbers == list(range(1, len(numbers) + 1))
    check_blocks_and_checkpoints(path, dialect, whole, block_size)
    check_against_csv_module(content, dialect, len(reader.schema), whole)


def check_blocks_and_checkpoints(path: Path, dialect: Dialect, whole: Read, block_size: int) -> None:
    reader = CsvReader(path, "in.csv", dialect, block_size=block_size)
    in_blocks = read(reader, Position())
    assert (in_blocks.rows, in_blocks.rejects) == (whole.rows, whole.rejects)
    for end in in_blocks.ends[:: max(1, len(in_blocks.ends) // 3)]:
        rest = read(reader, end)
        assert rest.rows == {number: row for number, row in whole.rows.items() if number > end.record}
        assert rest.rejects == {number: why for number, why in whole.rejects.items() if number > end.record}


def check_against_csv_module(content: bytes, dialect: Dialect, width: int, whole: Read) -> None:
    try:
        text = content.decode(dialect.encoding).removeprefix("\ufeff")
    except UnicodeDecodeError:
        assert any(reason is Reason.ENCODING for _, reason, _ in whole.rejects.values()) or whole.rejects
        return
    if "\0" in text:
        return  # The csv module's own rules for it changed between versions of Python.
    records = by_csv_module(text, dialect)
    if records is None or has_bare_quote(text, dialect):
        assert any(reason is Reason.QUOTE for _, reason, _ in whole.rejects.values())
        return
    # A blank line is an empty record to the csv module; to us it is none, but a NULL in a file of one column.
    if dialect.header:
        del records[: records.index(next(filter(None, records))) + 1]
    expected = [record or ("",) for record in records if record or width == 1]
    given = [whole.rows.get(number) for number in range(1, len(whole.rows) + len(whole.rejects) + 1)]
    assert len(given) == len(expected)
    for ours, theirs in zip(given, expected, strict=True):
        if ours is None:
            assert len(theirs) != width
        else:
            assert tuple(value or "" for value in ours) == tuple(
                "" if value is None else theirs[place] for place, value in enumerate(ours)
            )
            assert all(value is not None or theirs[place] in dialect.null for place, value in enumerate(ours))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs())
@example((Dialect(), b'a,b\n1,"two"\nlines"\n3,4\n', 4))
@example((Dialect(), b'a,b\n1,two\nlines"\n3,4\n', 1))
def test_any_bytes_are_read_as_the_csv_module_reads_them_or_rejected(
    tmp_path: Path, given_input: tuple[Dialect, bytes, int]
) -> None:
    check(tmp_path / "in.csv", *given_input)


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 300)
def test_campaign_finds_no_bytes_that_are_read_in_another_way(tmp_path: Path) -> None:
    end = time.monotonic() + SECONDS

    @settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(inputs())
    def campaign(given_input: tuple[Dialect, bytes, int]) -> None:
        check(tmp_path / "in.csv", *given_input)

    while time.monotonic() < end:
        campaign()
