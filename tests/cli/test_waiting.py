"""`etl load` where another run of the job is at work, or was killed a moment ago, each in a process of its own."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.config import Database
from etl.database import connected
from etl.ledger import job_lock
from tests.commands import (
    ITEMS,
    RESULT_KEYS,
    Job,
    Started,
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

ROWS = [(number, f"item {number}") for number in range(1, 101)]

# The rows behind the 20th take a while, but for the brake's being released.
BRAKE_OF_SQLITE = [
    "CREATE TABLE brake (n INTEGER)",
    "CREATE TRIGGER slowly BEFORE INSERT ON items WHEN new.id > 20 AND EXISTS (SELECT 1 FROM brake) BEGIN"
    " SELECT count(*) FROM brake a, brake b, brake c, brake d; END",
    f"INSERT INTO brake VALUES {', '.join(['(1)'] * 60)}",
]
BRAKE_OF_POSTGRESQL = [
    "CREATE TABLE brake (n INTEGER)",
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN IF new.id > 20 AND EXISTS (SELECT FROM brake) THEN PERFORM pg_sleep(2); END IF; RETURN new; END'",
    "CREATE TRIGGER slowly BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION slow()",
    "INSERT INTO brake VALUES (1)",
]


@pytest.fixture
def braked_job(tmp_path: Path, database_url: str) -> Job:
    brake = BRAKE_OF_POSTGRESQL if is_postgresql(database_url) else BRAKE_OF_SQLITE
    job = items_job(tmp_path, database_url, ITEMS, *brake)
    job.write("items.csv", items_csv(ROWS))
    job.configure('source = "items.csv"\ntable = "items"\ncommit_every = 10\nmethod = "row"')
    return job


@contextlib.contextmanager
def at_work_behind_twenty_rows(job: Job) -> Iterator[Started]:
    """A run with 20 rows committed; on PostgreSQL the server is asleep in its 21st."""
    with job.started() as run:
        wait_until(lambda: count(job.url, "items") == 20)
        if is_postgresql(job.url):
            asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
            wait_until(lambda: query(job.url, asleep) == [(1,)])
        yield run


def test_same_command_goes_on_at_once_where_the_run_was_killed(braked_job):
    """The killed run's connection to PostgreSQL has the lock for two seconds yet, and is waited for."""
    job = braked_job
    with at_work_behind_twenty_rows(job) as run:
        refused = job.call("load", "--wait", "0", "--json")
        run.process.kill()
        run.process.wait()
        if is_postgresql(job.url):
            execute(job.url, "DELETE FROM brake")
        else:
            execute(job.url, "DROP TRIGGER slowly")
        resumed = job.call("load", "--json")

    ((run_id,),) = query(job.url, f"SELECT id FROM {ledger(job.url, 'etl_run')}")
    assert refused.exit_code == 5
    assert refused.result["error"].startswith(f"Another run of job.toml is at work on this database: run {run_id}, ")
    if is_postgresql(job.url):
        assert resumed.errors.startswith(f"Another run of job.toml is at work on this database: run {run_id}, since ")
        assert ". Waiting for it to end, for 5 s at most.\n" in resumed.errors
    else:
        assert f"(process {run.process.pid})" in refused.result["error"]
        assert "Another run" not in resumed.errors
    assert (resumed.exit_code, resumed.result["run_id"], resumed.result["written"]) == (0, run_id, 100)
    assert query(job.url, "SELECT id, name FROM items ORDER BY id") == ROWS


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


def test_130_when_sigint_ends_the_wait(tmp_path, sqlite_url):
    assert ends_the_wait(items_job(tmp_path, sqlite_url), signal.SIGINT) == 130


def test_143_when_sigterm_ends_the_wait(tmp_path, postgres_url):
    assert ends_the_wait(items_job(tmp_path, postgres_url), signal.SIGTERM) == 143


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
