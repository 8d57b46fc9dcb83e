"""A file that is damaged in one place: what it costs, in every place, judged without etl.

The damaged text is judged by a grammar of its own (``strictly_read``). Where it is well-formed it is simply another
file, and is read as it is written; there, and only there, a value may be another one. Where it is not, the undamaged
file's records, as Python's csv module reads them, say what may come out: at most one reject, and no value of another
kind. Left out, because the text has two explanations of the same size:

- a line in the middle of a quoted field that happens to be a record itself, behind one that is broken off or has one
  fault ("another single fault explains the text"): it is taken for what it looks like;
- two neighbouring lines that both have as many delimiters as a record has: two rejects.

A line break put into text that is not quoted gives two lines, each with few fields: two rejects.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from etl.readers.csv import CsvReader
from etl.records import Position, Reason
from tests.files import Dialect

WIDTH = 3
Row = tuple[str | None, ...]


def lines_of(kinds: list[str], line_end: str = "\n") -> bytes:
    """A header and 83 lines of data; a record may have several."""
    text = "a,b,c" + line_end
    number = 0
    while text.count(line_end) < 84:
        text += kinds[number % len(kinds)].format(number).replace("\n", line_end) + line_end
        number += 1
    return text.encode()


CLEAN = {
    "middle": lines_of(["{0},plain {0},x", '{0},"quoted, {0}","say ""hi"""', '{0},"two\nlines {0}",""']),
    "last": lines_of(["{0},plain {0},x", '{0},"quoted, {0}","say ""hi"""', '{0},y,"two\nlines {0}"']),
    "first": lines_of(["{0},plain {0},x", '"quoted, {0}",{0},"say ""hi"""', '"two\nlines {0}",y,{0}']),
    "three": lines_of(["{0},plain {0},x", '{0},"three\nshort\nlines {0}",z', '{0},{0},"three, a\nb, \nc {0}"']),
    "all quoted": lines_of(
        ['"{0}","plain {0}","x"', '"{0}","quoted, {0}",""', '"{0}","two, a\nlines, {0}","say ""hi"""']
    ),
    "CRLF": lines_of(["{0},plain {0},x", '{0},"quoted, {0}","say ""hi"""', '{0},"two\nlines {0}",""'], "\r\n"),
}

# Kinds of damage: what is put in before a place, or stands in place of its byte.
PUT_IN = {"quote": b'"', "doubled quote": b'""', "delimiter": b",", "backslash": b"\\", "escaped quote": b'\\"'}
INSTEAD = {"quote": b'"', "delimiter": b",", "backslash": b"\\", "nothing": b"", "LF": b"\n", "CR": b"\r"}
LINE_BREAKS = {"LF": b"\n", "CR": b"\r", "CRLF": b"\r\n"}


def damaged(clean: bytes, place: int) -> Iterator[tuple[str, bytes]]:
    before, byte, behind = clean[:place], clean[place : place + 1], clean[place + 1 :]
    for name, text in (PUT_IN | LINE_BREAKS).items():
        yield f"{name} put in", before + text + byte + behind
    for name, text in INSTEAD.items():
        if text != byte:
            yield f"{name} instead", before + text + behind


def strictly_read(text: bytes) -> list[Row] | None:
    """The records of well-formed text, blank lines left out; None when a quote does not enclose a field."""
    records: list[Row] = []
    place, size = 0, len(text)
    while place < size:
        if text[place] in b"\r\n":
            place += 1
            continue
        record: list[str | None] = []
        while True:
            value, place = (_quoted if text[place : place + 1] == b'"' else _bare)(text, place)
            if place < 0 or (place < size and text[place] not in b",\r\n"):
                return None
            record.append(value)
            place += 1
            if text[place - 1 : place] != b",":
                break
        records.append(tuple(record))
    return records


def _bare(text: bytes, place: int) -> tuple[str | None, int]:
    end = place
    while end < len(text) and text[end] not in b',"\r\n':
        end += 1
    return text[place:end].decode() or None, end


def _quoted(text: bytes, place: int) -> tuple[str | None, int]:
    value = b""
    while True:
        end = text.find(b'"', place + 1)
        if end < 0:
            return None, -1
        value += text[place + 1 : end]
        if text[end + 1 : end + 2] != b'"':
            return value.decode(), end + 1
        value, place = value + b'"', end + 1


def is_explained_by_one_fault(raw: str) -> bool:
    """Whether one byte more, less or other makes a record of it, or it is the beginning of one."""
    text = raw.encode()
    if any(_is_record(text + b'"' + b",x" * more) for more in range(WIDTH)):
        return True
    for place in range(len(text) + 1):
        before, behind = text[:place], text[place + 1 :]
        if _is_record(before + behind):
            return True
        if any(_is_record(before + byte + rest) for byte in (b'"', b",", b"x") for rest in (text[place:], behind)):
            return True
    return False


def _is_record(text: bytes) -> bool:
    records = strictly_read(text)
    return records is not None and [len(record) for record in records] == [WIDTH]


@dataclass(frozen=True)
class Outcome:
    rows: list[Row]
    raws: list[str]


def read(path: Path, content: bytes) -> Outcome:
    path.write_bytes(content)
    reader = CsvReader(path, "in.csv", Dialect())
    outcome = Outcome([], [])
    for batch in reader.batches(Position(), []):
        outcome.rows.extend(zip(*(column.to_pylist() for column in batch.columns.columns), strict=True))
        assert {reject.reason for reject in batch.rejects} <= {Reason.QUOTE, Reason.COLUMN_COUNT}
        outcome.raws.extend(reject.raw or "" for reject in batch.rejects)
    return outcome


@functools.cache
def records_of(clean: bytes) -> tuple[Row, ...]:
    """The records by Python's csv module, which has no NULL: only the base files' empty fields are quoted."""
    _, *records = csv.reader(io.StringIO(clean.decode(), newline=""), strict=True)
    return tuple(map(tuple, records))


def is_part_in_order(rows: list[Row], of: tuple[Row, ...]) -> bool:
    rest = iter(of)
    return all(any(row == other for other in rest) for row in rows)


def complaint(clean: bytes, place: int, content: bytes, outcome: Outcome) -> str | None:
    """What is wrong with the outcome for a damaged file; None when nothing is."""
    well_formed = strictly_read(content)
    if well_formed is not None:
        whole = [record for record in well_formed[1:] if len(record) == WIDTH]
        is_right = outcome.rows == whole and len(outcome.raws) == len(well_formed) - 1 - len(whole)
        return None if is_right else "well-formed text is read as something else"
    has_another_cause = len(outcome.raws) == 1 and is_explained_by_one_fault(outcome.raws[0])
    truth = records_of(clean)
    if not is_part_in_order(outcome.rows, truth):
        strange = [row for row in outcome.rows if row not in truth]
        return None if has_another_cause and len(strange) == 1 else "a value is altered"
    if len(outcome.raws) > 1:
        return None if _are_two_lines(outcome.raws) else f"{len(outcome.raws)} rejects"
    touched = 1 + (clean[place : place + 1] in (b"\r", b"\n"))
    lost = len(truth) - len(outcome.rows)
    return None if lost <= touched or has_another_cause else f"{lost} records are lost"


def _are_two_lines(raws: list[str]) -> bool:
    """Whether two rejects are lines that have the fields of a record when quotes are taken for text.

    Of a line that is broken by a line end, one part does.
    """
    counts = [raw.count(",") == WIDTH - 1 for raw in raws]
    return len(raws) == 2 and any(counts)


def complaints(path: Path, clean: bytes, places: range) -> list[tuple[int, str, str]]:
    found = []
    for place in places:
        for name, content in damaged(clean, place):
            problem = complaint(clean, place, content, read(path, content))
            splits = name.split()[0] in LINE_BREAKS and problem == "2 rejects"
            if problem is not None and not splits:
                found.append((place, name, problem))
    return found


def test_base_files_have_84_lines_and_are_read_as_the_csv_module_reads_them(tmp_path: Path) -> None:
    for name, clean in CLEAN.items():
        assert 84 <= len(clean.splitlines()) <= 86, name
        assert read(tmp_path / "in.csv", clean) == Outcome(list(records_of(clean)), [])
        assert strictly_read(clean) == [("a", "b", "c"), *records_of(clean)]


@pytest.mark.parametrize("name", CLEAN)
def test_damage_in_a_record_over_two_lines_costs_that_record_alone(tmp_path: Path, name: str) -> None:
    clean = CLEAN[name]
    line_end = b"\r\n" if name == "CRLF" else b"\n"
    lines = clean.split(line_end)
    start = len(line_end.join(lines[:5])) + 1
    assert complaints(tmp_path / "in.csv", clean, range(start, start + 46, 3)) == []


@pytest.mark.long
@pytest.mark.parametrize("name", CLEAN)
def test_damage_anywhere_costs_its_own_record_alone(tmp_path: Path, name: str) -> None:
    clean = CLEAN[name]
    assert complaints(tmp_path / "in.csv", clean, range(clean.index(b"\n") + 1, len(clean))) == []


# The rules by which a bad record ends, one by one


@pytest.mark.parametrize(
    ("bad", "raws"),
    [
        # A false quote closes a field before its line end; the last field, so that a record seems to end there.
        (b'2,y,"two"\nlines"', ['2,y,"two"\nlines"']),
        (b'2,"two"\nlines",y', ['2,"two"\nlines",y']),
        # An opening quote is missing.
        (b'2,y,two\nlines"', ['2,y,two\nlines"']),
        (b'2,two\nlines",y', ['2,two\nlines",y']),
        (b'2,three\nshort\nlines",y', ['2,three\nshort\nlines",y']),
        # A delimiter is missing before a quoted field over two lines, or there is text before its quote.
        (b'2"two\nlines",y', ['2"two\nlines",y']),
        (b'2,\\"two\nlines",y', ['2,\\"two\nlines",y']),
        # Two lines of which each would be a record without its quote are two records.
        (b'24",2,y\n27",2,y', ['24",2,y', '27",2,y']),
        (b'2"\n3"', ['2"', '3"']),
        # A record before a line with as many delimiters as a record has is left alone.
        (b'c,a,b",d', ['c,a,b",d']),
    ],
)
def test_lines_of_a_bad_record_are_one_reject(tmp_path: Path, bad: bytes, raws: list[str]) -> None:
    outcome = read(tmp_path / "in.csv", b"a,b,c\n1,1,1\n" + bad + b"\n3,3,3\n")
    assert outcome == Outcome([("1", "1", "1"), ("3", "3", "3")], raws)
