"""Text made to cost time or memory: neither grows faster than the text, and memory has a bound."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etl.errors import SourceError
from etl.readers.csv import CsvReader
from etl.records import Position
from tests.commands import ROOT
from tests.files import Dialect

MEGABYTE = 1 << 20


def seconds_of(path: Path, content: bytes) -> float:
    """The processor time that reading takes, the least of two."""
    path.write_bytes(content)
    taken = []
    for _ in range(2):
        start = time.process_time()
        for _ in CsvReader(path, "in.csv", Dialect()).batches(Position(), []):
            pass
        taken.append(time.process_time() - start)
    return min(taken)


def is_linear(path: Path, first: bytes, line: bytes, last: bytes, count: int = 400) -> bool:
    """Whether four times the lines take at most eight times as long; squared growth would take sixteen times."""
    once, more = (seconds_of(path, first + line * (count * times) + last) for times in (1, 4))
    return more < 8 * once + 0.02


@pytest.mark.parametrize(
    ("line", "last"),
    [
        # To who begins inside quotes, all of it is one well-formed record.
        (b'a","b\n', b""),
        (b'a","b\n', b'x"\n'),
        (b'a",,"b\n', b'x"\n'),
        (b'a",,"b\n', b'1,2\nx"\n1,2\n'),
        (b'"a\n', b""),
        (b'1,"x\n"",""\n', b""),
        (b"1\n", b'x"\n'),
        (b'"""\n', b""),
    ],
)
def test_time_is_linear_where_quotes_alternate(tmp_path: Path, line: bytes, last: bytes) -> None:
    assert is_linear(tmp_path / "in.csv", b"p,q\n", line, last)


@pytest.mark.long
@pytest.mark.parametrize("last", [b"", b'x"\n', b'x"\n1,2\n'])
def test_time_is_linear_for_every_short_line_that_repeats(tmp_path: Path, last: bytes) -> None:
    lines = [bytes(line) + b"\n" for size in range(1, 6) for line in itertools.product(b'a",', repeat=size)]
    path = tmp_path / "in.csv"
    slow = [line for line in lines if not is_linear(path, b"p,q\n", line, last, count=100)]
    assert [line for line in slow if not is_linear(path, b"p,q\n", line, last)] == []


# Memory: in a process of its own, whose peak is told by the system

PEAK = """
import resource, sys
from pathlib import Path
from etl.errors import SourceError
from etl.readers.csv import CsvReader
from etl.records import Position
from tests.files import Dialect
reader = CsvReader(Path(sys.argv[1]), "in.csv", Dialect())
records = rejects = 0
for batch in reader.batches(Position(), []):
    records, rejects = records + len(batch.numbers), rejects + len(batch.rejects)
print(records, rejects, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def records_rejects_and_megabytes(path: Path) -> tuple[int, int, int]:
    command = [sys.executable, "-c", PEAK, str(path)]
    ended = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, timeout=280)
    records, rejects, megabytes = map(int, ended.stdout.split())
    return records, rejects, megabytes


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param([b"a,b\n", *[b"x" * MEGABYTE] * 100, b"\n1,2\n"], (1, 1), id="one line of 100 MB"),
        pytest.param([b'a,b\n1,"', *[b"x" * MEGABYTE] * 100, b"\n1,2\n"], (1, 1), id="an open quote and 100 MB"),
        pytest.param([b"a,b\n", *[b"\n" * MEGABYTE] * 10, b"1,2\n"], (1, 0), id="10 million blank lines"),
        pytest.param([b"a,b\n", *[b'"' * MEGABYTE] * 40], (0, 1), id="quotes alone"),
        pytest.param([b"a,b\n", *[b"," * MEGABYTE] * 40], (0, 1), id="delimiters alone"),
        pytest.param([b"a,b\n", *[b'",' * MEGABYTE] * 20], (0, 1), id="quotes and delimiters"),
    ],
)
def test_memory_stays_below_500_megabytes(tmp_path: Path, content: list[bytes], expected: tuple[int, int]) -> None:
    path = tmp_path / "in.csv"
    with path.open("wb") as file:
        file.writelines(content)
    records, rejects, megabytes = records_rejects_and_megabytes(path)
    assert (records, rejects) == expected
    assert megabytes < 500


def test_more_columns_than_a_table_can_have_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b",".join([b"1"] * 40_000) + b"\n")
    with pytest.raises(SourceError, match=r"in\.csv has 40000 columns, and no table has more than 32767"):
        CsvReader(path, "in.csv", Dialect(header=False))
