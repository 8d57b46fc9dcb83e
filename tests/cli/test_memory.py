"""Files that would take all memory: the whole process of `etl load` stays below 500 MB."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.commands import ROOT, Job, execute, items_job, query

MOST = 500_000_000
KB = 1024 if sys.platform == "linux" else 1  # the unit of ru_maxrss
TABLE = "CREATE TABLE items (id INTEGER, name TEXT)"


@pytest.fixture
def job(tmp_path: Path, sqlite_url: str) -> Job:
    return items_job(tmp_path, sqlite_url, TABLE)


# A process that is small itself: the kernel counts the memory of who starts a process as that of the process.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def load(job: Job, source: str, more: str = "") -> tuple[int, str]:
    """Exit code and last words of `etl load` of one file, which must not take more memory than may be."""
    job.configure(f'source = "{source}"\ntable = "items"\n{more}')
    command = [sys.executable, "-m", "etl", "load", str(job.config), "-q"]
    environment = os.environ | {"TEST_DATABASE_URL": job.url}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    exit_code, memory = map(int, done.stdout.split())
    assert memory * KB < MOST, f"{memory * KB:,} bytes"
    return exit_code, done.stderr


def rejects(job: Job) -> list[tuple[Any, ...]]:
    return query(
        job.url, "SELECT record, line, phase, reason, column_name, length(raw) FROM etl_reject ORDER BY record"
    )


def ids(job: Job) -> list[int]:
    return [row[0] for row in query(job.url, "SELECT id FROM items ORDER BY id")]


def pack(path: Path, pieces: Iterator[bytes]) -> None:
    codec = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}.get(path.suffix)
    with pa.OSFile(str(path), "wb") as file:
        stream = pa.CompressedOutputStream(file, codec) if codec else file
        for piece in pieces:
            stream.write(piece)
        if codec:
            stream.close()


def around(filling: bytes, size: int) -> Iterator[bytes]:
    """A good record, ``size`` bytes of ``filling``, another good record."""
    yield b"id,name\n1,one\n"
    piece = filling * (1_000_000 // len(filling))
    for _ in range(size // len(piece)):
        yield piece
    yield b"\n3,three\n"


ENDLESS = {"one line": b"x", "blank lines": b"\n", "a quote that is never closed": b"a line of text that has no end\n"}


def endless(what: str, size: int) -> Iterator[bytes]:
    pieces = around(ENDLESS[what], size)
    yield next(pieces)
    yield b'2,"' if "quote" in what else b""
    yield from pieces


def assert_endless_costs_itself(job: Job, name: str, what: str, size: int) -> None:
    pack(job.folder / name, endless(what, size))
    exit_code, _ = load(job, name)
    assert ids(job) == [1, 3]
    if what == "blank lines":
        assert (exit_code, rejects(job)) == (0, [])
    else:
        assert (exit_code, rejects(job)) == (3, [(2, 3, "read", "too_long", None, 65_536)])


def test_an_endless_line_in_a_small_file_costs_itself(job):
    assert_endless_costs_itself(job, "items.csv.zst", "one line", 400_000_000)
    assert (job.folder / "items.csv.zst").stat().st_size < 100_000


def test_endless_blank_lines_in_a_small_file_cost_nothing(job):
    assert_endless_costs_itself(job, "items.csv.zst", "blank lines", 40_000_000)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".bz2", ".lz4"])
def test_an_endless_record_costs_itself(job, suffix, what):
    size = 4_000_000_000 if what == "one line" and suffix in (".zst", ".lz4") else 1_000_000_000
    assert_endless_costs_itself(job, f"items.csv{suffix}", what, size)


def repeated(value: str, times: int) -> pa.Array:
    """A column of one value, which is kept once, in memory as in the file."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), times), [value])


def write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd", write_statistics=False, store_schema=False)


def test_records_of_a_parquet_file_with_a_value_that_is_too_long_are_rejects(job):
    """30 records of 20 MB each, kept once in a dictionary, in a file of some kilobytes."""
    write(job.folder / "a.parquet", id=range(30), name=repeated("x" * 20_000_000, 30))

    exit_code, _ = load(job, "a.parquet")

    assert (job.folder / "a.parquet").stat().st_size < 20_000
    assert (exit_code, ids(job)) == (3, [])
    assert rejects(job) == [(record, None, "read", "too_long", "name", None) for record in range(1, 31)]


def test_a_parquet_file_whose_pages_unfold_to_more_than_may_be_is_an_error(job):
    write(job.folder / "a.parquet", id=[1], name=repeated("x" * 150_000_000, 1))

    exit_code, errors = load(job, "a.parquet")

    assert (job.folder / "a.parquet").stat().st_size < 100_000
    assert (exit_code, ids(job)) == (1, [])
    assert "a.parquet cannot be read in row group 0: its pages unfold to 150,000,0" in errors


@pytest.mark.long
@pytest.mark.parametrize(("length", "records"), [(100_000, 65_536), (3_000_000, 2_000), (15_000_000, 500)])
def test_long_values_that_a_dictionary_repeats_are_taken_a_few_at_a_time(job, length, records):
    """Some 7 GB of records that are not too long, in a file of some kilobytes; none of them is a name of a country."""
    execute(job.url, "DROP TABLE items", "CREATE TABLE items (id INTEGER, name VARCHAR(2))")
    write(job.folder / "a.parquet", id=range(records), name=repeated("x" * length, records))

    exit_code, errors = load(job, "a.parquet", 'max_rejects = 40\ncommit_every = "run"')

    assert (job.folder / "a.parquet").stat().st_size < 1_000_000
    assert (exit_code, ids(job)) == (4, [])
    assert "more than max_rejects = 40 allows" in errors
