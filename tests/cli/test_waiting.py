"""`etl load` where another run of the job is at work, or was killed a moment ago, each in a process of its own."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import make_url

import etl
from etl.config import Database
from etl.database import connected
from etl.ledger import job_lock
from etl.progress import Silence
from tests.commands import (
    ITEMS,
    RESULT_KEYS,
    Job,
    call,
    count,
    execute,
    is_postgresql,
    items_csv,
    items_job,
    ledger,
    query,
    wait_until,
)
from tests.databases import connect

pytestmark = pytest.mark.newest_is_enough

ROWS = [(number, f"item {number}") for number in range(1, 101)]

# The rows behind the 20th take a while; with PostgreSQL as long as the brake is held.
SLOW_ON_SQLITE = [
    "CREATE TABLE brake (n INTEGER)",
    f"INSERT INTO brake VALUES {', '.join(['(1)'] * 30)}",
    "CREATE TRIGGER slowly BEFORE INSERT ON items WHEN new.id > 20 BEGIN"
    " SELECT count(*) FROM brake a, brake b, brake c, brake d; END",
]
SLOW_ON_POSTGRESQL = [
    "CREATE TABLE brake (n INTEGER)",
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN IF new.id > 20 THEN PERFORM FROM brake; END IF; RETURN new; END'",
    "CREATE TRIGGER slowly BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION slow()",
]


def commit(connection: Any) -> None:
    connection.execute("COMMIT")


@contextlib.contextmanager
def brake(url: str) -> Iterator[Callable[[], None]]:
    """What a run waits for behind its 20th row, until the call of what it gives."""
    if not is_postgresql(url):
        yield lambda: execute(url, "DROP TRIGGER slowly")
        return
    with connect(make_url(url)) as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE brake")
        yield lambda: commit(connection)


def test_same_command_goes_on_at_once_where_the_run_was_killed(tmp_path, database_url, monkeypatch):
    """The killed run's connection to PostgreSQL has the lock as long as its statement, and is waited for."""
    slow = SLOW_ON_POSTGRESQL if is_postgresql(database_url) else SLOW_ON_SQLITE
    job = items_job(tmp_path, database_url, ITEMS, *slow)
    job.write("items.csv", items_csv(ROWS))
    job.configure('source = "items.csv"\ntable = "items"\ncommit_every = 10\nmethod = "row"')
    monkeypatch.setenv("TEST_DATABASE_URL", database_url)
    told: list[str] = []

    with brake(database_url) as release, job.started() as run:
        wait_until(lambda: count(database_url, "items") >= 20)
        if is_postgresql(database_url):
            wait_until(lambda: query(database_url, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
        refused = job.call("load", "--wait", "0", "--json")
        run.process.kill()
        run.process.wait()
        if not is_postgresql(database_url):
            release()

        def waiting(sentence: str) -> None:
            told.append(sentence)
            release()

        resumed = etl.load(job.config, reporter=Waiting(waiting))

    ((run_id,),) = query(database_url, f"SELECT id FROM {ledger(database_url, 'etl_run')}")
    at_work = f"Another run of job.toml is at work on this database: run {run_id}, since "
    assert refused.exit_code == 5
    assert refused.result["error"].startswith(at_work)
    if is_postgresql(database_url):
        assert told[0].startswith(at_work)
        assert told[0].endswith(". Waiting for it to end, for 5 s at most.")
    else:
        assert f"(process {run.process.pid})" in refused.result["error"]
        assert told == []
    assert (resumed.run_id, resumed.counts.written) == (run_id, 100)
    assert query(database_url, "SELECT id, name FROM items ORDER BY id") == ROWS


class Waiting(Silence):
    """Hands on what it is told of a wait."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def waiting(self, sentence: str) -> None:
        self._tell(sentence)


def ends_the_wait(job: Job, number: signal.Signals) -> int:
    """The exit code of a run that a signal has told to end while it waited."""
    job.write("items.csv", items_csv(ROWS))
    with (
        connected(Database(url=job.url)) as connection,
        job_lock(connection, "job.toml"),
        job.started("--wait", "600", "--json") as run,
    ):
        assert run.process.stderr is not None
        told = run.process.stderr.readline().decode()
        ended = run.end(number)
    assert told.startswith("Another run of job.toml is at work on this database: since ")
    assert told.endswith(". Waiting for it to end, for 600 s at most.\n")
    assert ended.output.count("\n") == 1
    assert list(ended.result) == RESULT_KEYS
    assert (ended.result["exit_code"], ended.result["run_id"]) == (ended.exit_code, None)
    assert count(job.url, "items") == 0
    return ended.exit_code


SIGNALS = pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["130 by SIGINT", "143 by SIGTERM"],
)


@SIGNALS
def test_a_signal_ends_the_wait(tmp_path, sqlite_url, number, exit_code):
    assert ends_the_wait(items_job(tmp_path, sqlite_url), number) == exit_code


@pytest.mark.long
@SIGNALS
def test_a_signal_ends_the_wait_for_a_lock_of_postgresql(tmp_path, postgres_url, number, exit_code):
    assert ends_the_wait(items_job(tmp_path, postgres_url), number) == exit_code


def test_quiet_waits_without_a_word(tmp_path, sqlite_url):
    job = items_job(tmp_path, sqlite_url)
    job.write("items.csv", items_csv(ROWS))
    with connected(Database(url=sqlite_url)) as connection, job_lock(connection, "job.toml"):
        ended = job.call("load", "--quiet", "--wait", "1")
    assert ended.exit_code == 5
    assert ended.errors.count("\n") == 1
    assert ended.errors.startswith("etl: Another run of job.toml is at work on this database: since ")


@pytest.mark.parametrize("seconds", ["-1", "soon", "nan", "1.5"])
def test_wait_is_a_number_of_whole_seconds(seconds):
    ended = call("load", "job.toml", "--wait", seconds)
    assert ended.exit_code == 2
    assert "Invalid value for '--wait'" in ended.errors
