"""Two runs at once: of one job, which take turns and say who is at work, and of two jobs, side by side."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import functools
import getpass
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import etl
import etl.database.engine
from etl.config import Database
from etl.database import connected, session_factory
from etl.errors import Locked, TargetUnavailable
from etl.ledger import job_lock, open_run, upgrade_ledger
from etl.progress import Silence
from etl.records import Counts, RunResult
from tests.files import write_csv, write_job
from tests.jobs import fetch, is_sqlite, ledger, run_sql

pytestmark = pytest.mark.newest_is_enough

KEYED = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)"
HEADER = ("id", "n")
MOST_SECONDS = 30


class Listener(Silence):
    """Calls what it is given for an event: ``waiting`` with the sentence, ``done`` at the first batch of each file."""

    def __init__(
        self, waiting: Callable[[str], object] | None = None, done: Callable[[], object] | None = None
    ) -> None:
        self._waiting, self._done = waiting, done

    def waiting(self, sentence: str) -> None:
        if self._waiting is not None:
            self._waiting(sentence)

    def records_done(self, size: int, counts: Counts) -> None:
        if self._done is not None:
            self._done()


def ids(numbers: Sequence[int]) -> list[tuple[object, object]]:
    return [(number, number) for number in numbers]


def make_job(folder: Path, url: str, numbers: Sequence[int] = (1, 2, 3), name: str = "job.toml", **load: Any) -> Path:
    folder.mkdir(exist_ok=True)
    source = write_csv(folder / f"{name}.csv", HEADER, ids(numbers))
    return write_job(folder, url, {"source": source.name, "table": "t"} | load, name=name)


@contextlib.contextmanager
def lock_held(url: str, job: str = "job.toml", **database: Any) -> Iterator[Callable[[], None]]:
    """The job's lock, held by another connection until the with ends or what it gives is called."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(connected(Database(url=url, **database)))
        stack.enter_context(job_lock(connection, job))
        yield stack.close


def refusal(job: Path, **options: Any) -> str:
    with pytest.raises(Locked) as refused:
        etl.load(job, wait=0, **options)
    return str(refused.value)


def since(told: str) -> dt.datetime:
    found = re.search(r"since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", told)
    assert found, told
    return dt.datetime.fromisoformat(f"{found[1]}+00:00")


# One job


def test_second_run_is_told_which_run_is_at_work_since_when_and_where(database_url: str, tmp_path: Path) -> None:
    """Since this execution began: the run itself was begun long ago, and is resumed. A job is its name, wherever."""
    run_sql(database_url, KEYED)
    here, there = (make_job(tmp_path / name, database_url) for name in ("here", "there"))
    with pytest.raises(KeyboardInterrupt):
        etl.load(here, reporter=Listener(done=interrupt))
    run_sql(database_url, f"UPDATE {ledger(database_url)}etl_run SET started_at = '2001-01-01 00:00:00+00'")
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    told: list[str] = []

    def meet() -> None:
        told.extend([refusal(here), refusal(there), refusal(here, dry_run=True)])

    result = etl.load(here, reporter=Listener(done=meet))

    assert told == [told[0]] * 3
    assert told[0].startswith(f"Another run of job.toml is at work on this database: run {result.run_id}, since ")
    assert told[0].endswith("Wait until it has ended, or give --wait SECONDS to wait here.")
    assert before <= since(told[0]) <= dt.datetime.now(dt.UTC)
    if is_sqlite(database_url):
        where = f", by {getpass.getuser()} on {os.uname().nodename} (process {os.getpid()})."
    else:
        # As the server sees it: from within a container this machine is another one.
        address = fetch(database_url, "SELECT host(inet_client_addr())")[0][0]
        where = f", by tester from {address} (etl, server process "
    assert where in told[0]
    assert result.counts.written == 3


def interrupt() -> None:
    raise KeyboardInterrupt


def test_run_that_was_killed_before_is_not_named_for_a_dry_run(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    job = make_job(tmp_path, database_url)
    with connected(Database(url=database_url)) as connection, session_factory(connection)() as session:
        upgrade_ledger(session.connection(), None if is_sqlite(database_url) else "etl")
        killed = open_run(session, "job.toml").id
    told: list[str] = []

    etl.load(job, dry_run=True, reporter=Listener(done=lambda: told.append(refusal(job))))

    assert killed not in told[0]
    assert "at work on this database: since " in told[0]


def test_role_that_may_see_nothing_of_the_other_session_is_told_since_when(
    postgres_url: str, unprivileged_url: str, tmp_path: Path
) -> None:
    run_sql(postgres_url, KEYED)
    mine = make_job(tmp_path / "mine", postgres_url)
    theirs = make_job(tmp_path / "theirs", unprivileged_url)
    told: list[str] = []

    etl.load(mine, reporter=Listener(done=lambda: told.append(refusal(theirs))))

    assert re.search(r"database: since [-0-9]+ [:0-9]+ UTC, by tester \(etl, server process \d+\)\. ", told[0])


def test_run_waits_for_the_lock_and_is_told_for_whom(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    job = make_job(tmp_path, database_url)
    told: list[str] = []

    with lock_held(database_url) as release:

        def waiting(sentence: str) -> None:
            told.append(sentence)
            release()

        result = etl.load(job, wait=MOST_SECONDS, reporter=Listener(waiting))

    assert result.counts.written == 3
    assert len(told) == 1
    assert told[0].startswith("Another run of job.toml is at work on this database: since ")
    assert told[0].endswith(" Waiting for it to end, for 30 s at most.")


def test_wait_has_an_end(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, KEYED)
    job = make_job(tmp_path, sqlite_url)
    told: list[str] = []
    with lock_held(sqlite_url), pytest.raises(Locked):
        etl.load(job, wait=0.01, reporter=Listener(told.append))
    assert len(told) == 1
    assert fetch(sqlite_url, "SELECT * FROM t") == []


def test_lock_is_that_of_a_ledger(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, KEYED)
    job = make_job(tmp_path, postgres_url)
    with lock_held(postgres_url, ledger_schema="elsewhere"):
        assert etl.load(job, wait=0).counts.written == 3


def test_sqlite_database_by_another_path_is_the_same(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, KEYED)
    (tmp_path / "link.db").symlink_to("target.db")
    job = make_job(tmp_path, f"sqlite:///{tmp_path / 'link.db'}")
    with lock_held(sqlite_url):
        assert "is at work" in refusal(job)


@pytest.fixture
def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def lock_file(folder: Path) -> Path:
    (path,) = folder.glob("target.db.*.lock")
    return path


def test_what_a_killed_process_left_in_the_lock_file_is_never_told(
    sqlite_url: str, tmp_path: Path, ended_process: int
) -> None:
    run_sql(sqlite_url, KEYED)
    job = make_job(tmp_path, sqlite_url)
    etl.load(job)
    left = {"since": "2001-01-01T00:00:00+00:00", "user": "x", "host": os.uname().nodename, "process": ended_process}
    lock_file(tmp_path).write_text(json.dumps(left))
    with lock_file(tmp_path).open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        told = refusal(job)
    assert told.startswith("Another run of job.toml is at work on this database. ")
    assert etl.load(job, wait=0).counts.read == 0


def test_lock_file_that_cannot_be_read_names_nobody(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, KEYED)
    job = make_job(tmp_path, sqlite_url)
    with lock_held(sqlite_url):
        for content in ("", "{", '{"pid": 1}', "[1]", '{"since": "2001'):
            lock_file(tmp_path).write_text(content)
            assert refusal(job).startswith("Another run of job.toml is at work on this database. ")


# The ledger, made by two jobs at once


@pytest.mark.parametrize("isolation_level", [pytest.param("READ COMMITTED", marks=pytest.mark.long), "SERIALIZABLE"])
def test_ledger_that_another_job_makes_in_this_moment_is_used(
    postgres_url: str, tmp_path: Path, isolation_level: str
) -> None:
    run_sql(postgres_url, KEYED)
    job = make_job(tmp_path, postgres_url)
    job.write_text(job.read_text().replace("[database]", f'[database]\nisolation_level = "{isolation_level}"'))
    with connected(Database(url=postgres_url)) as connection, in_background() as start:
        with connection.begin():
            upgrade_ledger(connection, "etl")
            loaded = start(lambda: etl.load(job))
            wait_for(lambda: is_blocked(postgres_url), loaded)
        assert loaded.result(MOST_SECONDS).counts.written == 3
    assert fetch(postgres_url, "SELECT count(*) FROM etl.etl_version") == [(1,)]


def test_ledger_is_made_once_by_jobs_that_start_together(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, KEYED)
    jobs = [make_job(tmp_path, sqlite_url, name=f"{number}.toml") for number in range(3)]
    with in_background() as start:
        loaded = [start(functools.partial(etl.load, job)) for job in jobs]
        assert sum(run.result(MOST_SECONDS).counts.written for run in loaded) == 3
    assert fetch(sqlite_url, "SELECT count(*) FROM etl_version") == [(1,)]


@contextlib.contextmanager
def in_background() -> Iterator[Callable[[Callable[[], RunResult]], Future[RunResult]]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def wait_for(is_so: Callable[[], bool], other: Future[RunResult]) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        assert not other.done(), f"the other has ended: {other.result()}"
        time.sleep(0.01)


def is_blocked(url: str) -> bool:
    return fetch(url, "SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)]


# Two jobs into one table


def adds_up(url: str, results: Sequence[RunResult]) -> None:
    ((rows, distinct),) = fetch(url, "SELECT count(*), count(DISTINCT id) FROM t")
    assert rows == distinct == sum(result.counts.written for result in results)
    for result in results:
        assert result.counts.read == result.counts.written + result.counts.duplicates
    ((read, written, duplicates),) = fetch(
        url, f"SELECT sum(read_count), sum(written), sum(duplicates) FROM {ledger(url)}etl_file"
    )
    counts = sum((result.counts for result in results), Counts())
    assert (read, written, duplicates) == (counts.read, counts.written, counts.duplicates)


def test_jobs_with_other_keys_go_on_side_by_side(postgres_url: str, tmp_path: Path) -> None:
    """Two more begin and end while the first has its rows in an open transaction."""
    run_sql(postgres_url, KEYED)
    copy, bulk, row = (
        make_job(tmp_path, postgres_url, range(start, 150, 3), f"{method}.toml", method=method)
        for start, method in enumerate(("copy", "bulk", "row"))
    )
    others: list[RunResult] = []

    first = etl.load(copy, reporter=Listener(done=lambda: others.extend(map(etl.load, (bulk, row)))))

    assert [result.counts.written for result in (first, *others)] == [50, 50, 50]
    adds_up(postgres_url, [first, *others])


@pytest.mark.parametrize(("one", "other"), [("copy", "copy"), ("bulk", "row")])
def test_two_jobs_with_keys_in_common_write_each_key_once(
    postgres_url: str, tmp_path: Path, one: str, other: str
) -> None:
    """The second meets keys of a transaction that is open, and has to wait for what becomes of it."""
    run_sql(postgres_url, KEYED)
    first = make_job(tmp_path, postgres_url, range(60), "first.toml", method=one, commit_every=30)
    second = make_job(tmp_path, postgres_url, range(30, 90), "second.toml", method=other, commit_every=30)
    started: list[Future[RunResult]] = []

    with in_background() as start:

        def meet() -> None:
            committed = fetch(postgres_url, "SELECT count(*) FROM t")
            if committed == [(30,)] and not started:  # 30 to 59 are in the open transaction
                started.append(start(lambda: etl.load(second)))
                wait_for(lambda: is_blocked(postgres_url), started[0])

        results = [etl.load(first, reporter=Listener(done=meet)), started[0].result(MOST_SECONDS)]

    assert [(result.counts.written, result.counts.duplicates) for result in results] == [(60, 0), (30, 30)]
    adds_up(postgres_url, results)


def test_two_jobs_take_turns_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    """While the first has its rows in an open transaction, nothing of the second can be there."""
    run_sql(sqlite_url, KEYED)
    first = make_job(tmp_path, sqlite_url, range(60), "first.toml", commit_every="file")
    second = make_job(tmp_path, sqlite_url, range(30, 90), "second.toml", commit_every=10, method="row")
    started: list[Future[RunResult]] = []
    seen: list[object] = []

    with in_background() as start:

        def meet() -> None:
            started.append(start(lambda: etl.load(second)))
            seen.extend(fetch(sqlite_url, "SELECT * FROM t"))

        results = [etl.load(first, reporter=Listener(done=meet)), started[0].result(MOST_SECONDS)]

    assert seen == []
    assert [(result.counts.written, result.counts.duplicates) for result in results] == [(60, 0), (30, 30)]
    adds_up(sqlite_url, results)


@pytest.mark.usefixtures("hasty_retries")
def test_job_that_waits_too_long_for_sqlites_other_writer_fails_and_can_be_run_again(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etl.database.engine, "BUSY_TIMEOUT", 0.01)
    run_sql(sqlite_url, KEYED)
    first = make_job(tmp_path, sqlite_url, range(10), "first.toml")
    second = make_job(tmp_path, sqlite_url, range(5, 15), "second.toml")
    told: list[str] = []

    def meet() -> None:
        with pytest.raises(TargetUnavailable) as error:
            etl.load(second)
        told.append(str(error.value))

    results = [etl.load(first, reporter=Listener(done=meet)), etl.load(second)]

    assert "database is locked" in told[0]
    assert "run the same command again" in told[0]
    adds_up(sqlite_url, results)
