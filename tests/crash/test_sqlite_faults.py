"""A SQLite file that is locked, read-only, full, broken or none at all: a clear error, and the same command goes on."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.crash.nursery import Done
from tests.crash.steps import Step
from tests.crash.three_files import Job, make_job

# Root may write everywhere, unless it gives up the capabilities to (linux/capability.h, version 3).
WITHOUT_ROOT = """
import ctypes, os, struct, sys
if os.geteuid() == 0:
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    assert libc.capget(header, data) == 0, ctypes.get_errno()
    low = int.from_bytes(data.raw[:4], sys.byteorder) & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    data[:4] = low.to_bytes(4, sys.byteorder)
    assert libc.capset(header, data) == 0, ctypes.get_errno()
"""
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: root's rights are taken by capabilities")


@pytest.fixture
def job(sqlite_url: str, tmp_path: Path) -> Job:
    return make_job(sqlite_url, tmp_path, "bulk", 50, 120)


def assert_told(done: Done, *words: str) -> None:
    """Exit code 1, and the error in a sentence that names the database."""
    assert done.exit_code == 1
    told = done.errors.splitlines()[-1]
    assert told.startswith("etl: ")
    assert done.result["error"] == told.removeprefix("etl: ")
    for word in ("target.db", *words):
        assert word in told


def with_url(job: Job, query: str) -> Job:
    job.path.write_text(job.path.read_text().replace(job.url, job.url + query))
    return job


def test_database_that_another_process_writes_to_is_waited_for_as_long_as_the_url_says(job, tmp_path, nursery):
    with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = nursery.run("load", with_url(job, "?timeout=0.1").path, "--json")

    assert_told(done, "database is locked. Another process is at work on it", "`?timeout=SECONDS`")
    job.finish(nursery)


@pytest.mark.long
def test_commit_that_a_reader_is_in_the_way_of_is_rolled_back(job, tmp_path, nursery):
    """It has begun to read before the load began: without WAL a commit waits for all readers."""
    nursery.run("load", job.path, step=Step("rows", number=3))
    with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM t").fetchall()
        done = nursery.run("load", with_url(job, "?timeout=0.1").path, "--json")

    assert_told(done, "database is locked")
    job.check_commit()
    job.finish(nursery)


@needs_linux
@pytest.mark.parametrize(("name", "words"), [("target.db", "readonly"), ("", "cannot be made: Permission denied")])
def test_file_or_folder_that_may_not_be_written_to(job, tmp_path, nursery, name, words):
    path, mode = tmp_path / name, (tmp_path / name).stat().st_mode
    path.chmod(mode & ~0o222)
    try:
        done = nursery.run("load", job.path, "--json", first=WITHOUT_ROOT)
    finally:
        path.chmod(mode)

    assert_told(done, words, "grant" if not name else "Grant the user that runs etl the right to write")
    job.check_commit()
    job.finish(nursery)


def test_file_that_is_no_database(job, tmp_path, nursery):
    database = tmp_path / "target.db"
    content = database.read_bytes()
    database.write_bytes(b"id,n\n1,1\n" * 1000)

    done = nursery.run("load", job.path, "--json")

    assert_told(done, "file is not a database. Correct the url.")
    database.write_bytes(content)
    job.finish(nursery)


def test_database_with_broken_pages_is_told_and_a_copy_of_before_goes_on(job, tmp_path, nursery):
    """Its pages are overwritten behind a checkpoint."""
    nursery.run("load", job.path, step=Step("rows", number=4, signal=signal.SIGTERM))
    database = tmp_path / "target.db"
    content = database.read_bytes()
    database.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))

    done = nursery.run("load", job.path, "--json")

    assert_told(done, "database disk image is malformed. Restore it from a backup")
    database.write_bytes(content)
    job.check_commit()
    job.finish(nursery)


SMALL_CACHE = """
import sqlalchemy as sa
from sqlalchemy.engine import Engine
sa.event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA cache_size = 4"))
"""


def test_journal_that_a_kill_has_left_is_rolled_back_by_the_resume(sqlite_url, tmp_path, nursery):
    """With a cache of four pages the rows are in the file before the commit."""
    job = make_job(sqlite_url, tmp_path, "bulk", "run", 900)
    expected = job.left_alone(nursery)
    size = (tmp_path / "target.db").stat().st_size

    killed = nursery.run("load", job.path, step=Step("checkpoint", number=3), first=SMALL_CACHE)

    assert killed.exit_code == -signal.SIGKILL
    assert (tmp_path / "target.db-journal").stat().st_size > 0
    assert (tmp_path / "target.db").stat().st_size > size
    job.finish(nursery)
    assert job.outcome() == expected


@pytest.mark.parametrize("name", ["rows", pytest.param("commit", marks=pytest.mark.long)])
def test_database_in_wal_mode_goes_on_after_a_kill(job, tmp_path, nursery, name):
    expected = job.left_alone(nursery)
    with contextlib.closing(sqlite3.connect(tmp_path / "target.db")) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)

    killed = nursery.run("load", job.path, step=Step(name, "after", 4))

    assert killed.exit_code == -signal.SIGKILL
    assert (tmp_path / "target.db-wal").exists()
    job.finish(nursery)
    assert job.outcome() == expected


# No space

FULL = """
import sqlalchemy as sa
from sqlalchemy.engine import Engine
sa.event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = {pages}"))
"""
# A file may not grow beyond this; Python has SIGXFSZ ignored, so that a write fails.
TOO_LARGE = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


@pytest.mark.parametrize(
    ("method", "commit_every"),
    [("bulk", 50), *(pytest.param("row", each, marks=pytest.mark.long) for each in (50, "run"))],
)
def test_full_database_is_told_and_goes_on_once_there_is_space(sqlite_url, tmp_path, nursery, method, commit_every):
    job = make_job(sqlite_url, tmp_path, method, commit_every, 400)
    expected = job.left_alone(nursery)

    for pages in (2, 12, 14):
        done = nursery.run("load", job.path, "--json", first=FULL.format(pages=pages))
        assert_told(done, "database or disk is full. Free space on its disk")
        job.check_commit()

    job.finish(nursery)
    assert job.outcome() == expected


@pytest.mark.long
def test_write_that_the_system_refuses_is_told_and_the_run_goes_on(job, nursery):
    expected = job.left_alone(nursery)

    done = nursery.run("load", job.path, "--json", first=TOO_LARGE.format(size=36_000))

    assert_told(done, "disk I/O error. See to its disk")
    job.check_commit()
    job.finish(nursery)
    assert job.outcome() == expected


# Memory


NOWHERE = [Step("plans", signal=0), Step("map", signal=0)]


@pytest.mark.parametrize(
    "step",
    [Step("rows", number=3, signal=0), *(pytest.param(step, marks=pytest.mark.long) for step in NOWHERE)],
    ids=str,
)
def test_run_that_gets_no_more_memory_is_told_and_goes_on(job, nursery, step):
    expected = job.left_alone(nursery)

    done = nursery.run("load", job.path, "--json", step=step)

    assert done.exit_code == 1
    assert done.result["error"].startswith("There is not enough memory; the open transaction was rolled back.")
    job.check_commit()
    job.finish(nursery)
    assert job.outcome() == expected


LITTLE = """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
most = pages * resource.getpagesize() + ({mebibytes} << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""


@pytest.mark.long
@needs_linux
def test_run_with_little_memory_never_ends_in_a_half(sqlite_url, tmp_path, nursery):
    """However it ends: an error, an abort of one of its libraries, or all is loaded."""
    job = make_job(sqlite_url, tmp_path, "bulk", 5_000, 20_000)
    expected = job.left_alone(nursery)

    for mebibytes in range(0, 400, 8):
        child = nursery.start("load", job.path, "--json", first=LITTLE.format(mebibytes=mebibytes))
        assert child.has_ended(60)
        job.check_commit()
        if job.is_completed():
            assert job.outcome() == expected
            job.start_over()
    job.finish(nursery)
    assert job.outcome() == expected
