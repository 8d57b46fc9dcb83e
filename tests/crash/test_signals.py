"""SIGINT and SIGTERM at any time: an end within 5 seconds, with the right exit code, to go on from."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.commands import RESULT_KEYS, started, wait_until
from tests.crash.nursery import ROOT, Child, Done, Nursery
from tests.crash.steps import ALWAYS, Step
from tests.crash.three_files import Job, make_job
from tests.files import write_csv, write_job
from tests.jobs import fetch, run_sql
from tests.proxy import ANY, COPY_DATA, proxied

pytestmark = pytest.mark.newest_is_enough

SECONDS = 5.0  # as promised
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
BOTH = pytest.mark.parametrize("number", list(CODES), ids=["SIGINT", "SIGTERM"])


def mostly(number: signal.Signals) -> pytest.MarkDecorator:
    """This one; the other takes its turn in the long tests."""
    marks = {other: () if other == number else (pytest.mark.long,) for other in CODES}
    each = [pytest.param(other, marks=marks[other], id=other.name) for other in CODES]
    return pytest.mark.parametrize("number", each)


def assert_stopped(exit_code: int, output: str, number: int) -> dict[str, Any]:
    """The exit code of the signal, and the one JSON object with it."""
    assert exit_code == 128 + number, output
    assert output.count("\n") == 1
    result: dict[str, Any] = json.loads(output)
    assert list(result) == RESULT_KEYS
    assert (result["status"], result["exit_code"]) == ("stopped", exit_code)
    assert str(result["error"]).startswith(f"Stopped by {signal.Signals(number).name}")
    return result


def ended_by(child: Child, *numbers: signal.Signals, within: float = SECONDS) -> Done:
    """The end of a command that is sent signals now."""
    began = time.monotonic()
    for number in numbers:
        child.send(number)
    done = child.wait()
    assert time.monotonic() - began < within
    assert_stopped(done.exit_code, done.output, numbers[0])
    return done


def stopped_at(job: Path, nursery: Nursery, step: Step) -> Done:
    """The end of a command that sends itself a signal while it is at ``step``."""
    began = time.monotonic()
    done = nursery.run("load", job, "--json", step=step)
    assert time.monotonic() - began < SECONDS + step.delay
    assert_stopped(done.exit_code, done.output, step.signal)
    return done


# At the steps of a load

STEPS = [Step(name, moment) for name in ALWAYS for moment in ("before", "after")]
SAMPLE = [Step("run", "after"), Step("savepoint", "after", 2)]


def stop_at(job: Job, nursery: Nursery, step: Step) -> None:
    done = nursery.run("load", job.path, "--json", step=step)
    if done.exit_code == 3:  # the last commit is made, or was under way: nothing is left to stop
        assert step.name in ("end", "rollback")
    else:
        assert_stopped(done.exit_code, done.output, step.signal)
    job.check_commit()


@mostly(signal.SIGTERM)
def test_signal_at_a_named_step_ends_the_run_in_order(
    database_url: str, tmp_path: Path, nursery: Nursery, number: signal.Signals
) -> None:
    job = make_job(database_url, tmp_path, "bulk", 50, 120)
    expected = job.left_alone(nursery)

    for step in SAMPLE:
        stop_at(job, nursery, Step(step.name, step.moment, step.number, number))
    job.finish(nursery)

    assert job.outcome() == expected


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("method", ["row", "bulk", "copy"])
@pytest.mark.parametrize("commit_every", [50, "run"])
def test_signal_at_any_named_step_ends_the_run_in_order(
    database_url: str,
    tmp_path: Path,
    nursery: Nursery,
    method: str,
    commit_every: int | str,
    number: signal.Signals,
) -> None:
    job = make_job(database_url, tmp_path, method, commit_every, 120)

    job.at_each(STEPS, nursery, lambda step: stop_at(job, nursery, Step(step.name, step.moment, step.number, number)))


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("method", ["row", "bulk", "copy"])
def test_signals_at_random_moments_end_the_run_in_order(
    database_url: str, tmp_path: Path, nursery: Nursery, method: str, number: signal.Signals
) -> None:
    job = make_job(database_url, tmp_path, method, 50, 400)
    expected = job.left_alone(nursery)

    for _ in range(15):
        child = nursery.start("load", job.path, "--json", "--no-progress")
        if child.has_ended(random.uniform(0.01, 0.3)):
            assert child.wait().exit_code == 3
        else:
            began = time.monotonic()
            done = child.end(number)
            assert time.monotonic() - began < SECONDS
            if done.exit_code != 3:
                assert_stopped(done.exit_code, done.output, number)
        job.check_commit()
        if job.is_completed():
            assert job.outcome() == expected
            job.start_over()


# A function of others that turns what was raised into an error of its own, as clean-up does that fails in turn.
REPLACED = """
import os, {module}

def replaced(*args, **kwargs):
    try:
        os.kill(os.getpid(), {number})
        while True:
            pass
    except KeyboardInterrupt:
        raise {error}

{module}.{name} = replaced
"""
PLACES = {
    "written": ("etl.writers.row", "row_values", "__import__('sqlalchemy').exc.InvalidRequestError('not active')"),
    "lost": ("etl.writers.row", "row_values", "__import__('sqlite3').OperationalError('disk I/O error')"),
    "planned": ("etl.plans", "find_aggregates", "AssertionError"),
    "found": ("etl.loading", "found_sources", "__import__('etl').EtlError('cannot be found')"),
}


@BOTH
@pytest.mark.parametrize("place", PLACES)
def test_signal_that_another_error_replaces_is_told_all_the_same(sqlite_url, tmp_path, nursery, place, number):
    job = make_job(sqlite_url, tmp_path, "row", 50, 120)
    expected = job.left_alone(nursery)
    module, name, error = PLACES[place]
    first = REPLACED.format(module=module, name=name, error=error, number=int(number))

    done = nursery.run("load", job.path, "--json", first=first)

    assert_stopped(done.exit_code, done.output, number)
    job.finish(nursery)
    assert job.outcome() == expected


IN_EXEC = """
import os, etl.loading

def executed(*args, **kwargs):
    exec("import os; os.kill(os.getpid(), 2)\\nwhile True: pass")

etl.loading.found_sources = executed
"""


def test_sigint_in_code_that_is_executed_as_a_text_ends_with_its_exit_code(sqlite_url, tmp_path, nursery):
    """CPython would end the process by the signal."""
    job = make_job(sqlite_url, tmp_path, "row", 50, 120)

    done = nursery.run("load", job.path, "--json", first=IN_EXEC)

    assert_stopped(done.exit_code, done.output, signal.SIGINT)


# Before there is a run

AT_IMPORT = """
import os, sys
from etl.__main__ import run

module, number, sys.argv = sys.argv[1], int(sys.argv[2]), ["etl", *sys.argv[3:]]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Finder())
run()
"""


@mostly(signal.SIGTERM)
@pytest.mark.parametrize(
    "module",
    [
        "numpy",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in (
                "click",
                "etl.loading",
                "numpy._core.multiarray",
                "pyarrow.lib",
                "sqlalchemy.engine",
                "pydantic",
            )
        ),
    ],
)
def test_signal_during_the_imports_is_told_behind_them(sqlite_url, tmp_path, module, number):
    job = make_job(sqlite_url, tmp_path, "bulk", 50, 120)
    command = [sys.executable, "-c", AT_IMPORT, module, str(int(number)), "load", str(job.path), "--json"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    result = assert_stopped(done.returncode, done.stdout, number)
    assert result["run_id"] is None
    assert done.stderr == f"etl: Stopped by {number.name}; nothing was loaded.\n"


@pytest.mark.long
@BOTH
def test_signals_to_a_new_process_end_it_at_any_moment(sqlite_url, tmp_path, nursery, number):
    """Until Python runs the first line of etl the signal is the system's to handle: a process that is just killed."""
    job = make_job(sqlite_url, tmp_path, "bulk", 50, 400)
    expected = job.left_alone(nursery)

    for _ in range(25):
        executions, _ = job.committed()
        with started("load", job.path, "--json") as run:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(random.uniform(0.1, 1.2))
            began = time.monotonic()
            run.process.send_signal(number)
            output, _ = run.process.communicate(timeout=SECONDS)
            assert time.monotonic() - began < SECONDS
        if run.process.returncode == -number:
            assert job.committed()[0] == executions
        elif run.process.returncode != 3:
            assert_stopped(run.process.returncode, output.decode(), number)
        job.check_commit()
        if job.is_completed():
            assert job.outcome() == expected
            job.start_over()


@mostly(signal.SIGINT)
def test_signal_while_connecting_to_a_server_that_does_not_answer(tmp_path, nursery, number):
    write_csv(tmp_path / "a.csv", ["id"], [(1,)])
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://127.0.0.1:{server.getsockname()[1]}/shop?connect_timeout=60"
        child = nursery.start("load", write_job(tmp_path, url, {"source": "a.csv", "table": "t"}), "--json")
        connection, _ = server.accept()
        ended_by(child, number)
        connection.close()


@pytest.mark.long
@BOTH
def test_signal_while_waiting_for_the_lock_of_the_job(database_url, tmp_path, nursery, number):
    job = make_job(database_url, tmp_path, "bulk", "run", 120)
    with started_and_stopped(job):
        stopped_at(job.path, nursery, Step("pause", signal=number, delay=0.05))


@contextlib.contextmanager
def started_and_stopped(job: Job) -> Iterator[None]:
    """Another execution of the job that stands still with the lock in its hands."""
    arranged = f"from tests.crash.steps import Step; Step('rows', signal={int(signal.SIGSTOP)}).arrange()"
    code = f"{arranged}\nfrom etl.__main__ import run; run()"
    process = subprocess.Popen([sys.executable, "-c", code, "load", str(job.path), "-q"], cwd=ROOT)
    try:
        os.waitpid(process.pid, os.WUNTRACED)
        yield
    finally:
        process.kill()
        process.wait()


@mostly(signal.SIGTERM)
def test_signal_while_a_large_file_is_fingerprinted(sqlite_url, tmp_path, nursery, number):
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER)")
    write_csv(tmp_path / "a.csv", ["id"], [(1,)])
    os.truncate(tmp_path / "a.csv", 1 << 36)  # nothing on the disk, and a minute to hash

    path = write_job(tmp_path, sqlite_url, {"source": "a.csv", "table": "t"})
    stopped_at(path, nursery, Step("fingerprint", signal=number, delay=0.3))


@BOTH
def test_signal_while_standard_input_says_nothing(sqlite_url, tmp_path, nursery, number):
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER)")
    path = write_job(tmp_path, sqlite_url, {"source": "-", "format": "csv", "table": "t"})
    os.mkfifo(tmp_path / "input")
    writer = os.open(tmp_path / "input", os.O_RDWR)
    try:
        child = nursery.start("load", path, "--json", stdin=tmp_path / "input")
        os.write(writer, b"id\n1\n")
        wait_until(lambda: not is_unread(writer))
        ended_by(child, number)
    finally:
        os.close(writer)


def is_unread(pipe: int) -> bool:
    """Whether something in the pipe has not been read yet."""
    return bool(select.select([pipe], [], [], 0)[0])


# While the database is at work


@contextlib.contextmanager
def table_locked(url: str) -> Iterator[None]:
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE t IN EXCLUSIVE MODE")
        yield


def is_at(url: str, what: str) -> bool:
    return bool(fetch(url, f"SELECT 1 FROM pg_stat_activity WHERE application_name = 'etl' AND {what}"))


@mostly(signal.SIGINT)
def test_signal_while_copy_waits(postgres_url, tmp_path, nursery, number):
    job = make_job(postgres_url, tmp_path, "copy", 50, 120)
    with table_locked(postgres_url):
        child = nursery.start("load", job.path, "--json")
        wait_until(lambda: is_at(postgres_url, "query LIKE 'COPY%' AND wait_event_type = 'Lock'"))
        done = ended_by(child, number)
    assert done.result["run_id"] is not None
    assert fetch(postgres_url, "SELECT status FROM etl.etl_run") == [("stopped",)]
    job.finish(nursery)


@mostly(signal.SIGTERM)
def test_signal_while_the_server_settles(postgres_url, tmp_path, nursery, number):
    job = make_job(postgres_url, tmp_path, "copy", 50, 120)
    slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN new; END'"
    run_sql(postgres_url, slow, "CREATE TRIGGER slowly BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()")
    child = nursery.start("load", job.path, "--json")
    wait_until(lambda: is_at(postgres_url, "query LIKE '%etl_piece%' AND wait_event = 'PgSleep'"))
    ended_by(child, number)
    run_sql(postgres_url, "DROP TRIGGER slowly ON t")
    job.finish(nursery)


def test_signal_while_another_writer_has_sqlite(sqlite_url, tmp_path, nursery):
    """SQLite's own wait is C, and knows nothing of signals."""
    job = make_job(sqlite_url, tmp_path, "bulk", 50, 120)
    with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = stopped_at(job.path, nursery, Step("plans", signal=signal.SIGTERM, delay=0.3))
    assert "without waiting any longer" in done.errors
    job.finish(nursery)


@pytest.mark.long
@BOTH
def test_signal_in_a_long_statement_of_sqlite(sqlite_url, tmp_path, nursery, number):
    job = make_job(sqlite_url, tmp_path, "bulk", 50, 120)
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 1000000000)"
    slow = f"CREATE VIEW slow AS {numbers} SELECT max(n) AS n FROM numbers"
    run_sql(sqlite_url, slow, "CREATE TRIGGER slowly BEFORE INSERT ON t BEGIN SELECT n FROM slow; END")
    stopped_at(job.path, nursery, Step("rows", signal=number, delay=0.3))
    run_sql(sqlite_url, "DROP TRIGGER slowly")
    job.finish(nursery)


@pytest.mark.long
@BOTH
def test_signal_while_another_thread_hangs(sqlite_url, tmp_path, nursery, number):
    """As on a disk that has gone away: nothing wakes the thread that reads from it."""
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER)")
    os.mkfifo(tmp_path / "a.csv")
    path = write_job(tmp_path, sqlite_url, {"source": "a.csv", "table": "t"})
    stopped_at(path, nursery, Step("fingerprint", signal=number, delay=0.3))


@pytest.mark.long
@BOTH
@pytest.mark.parametrize(
    ("kind", "word", "at"),
    [(ANY, b"COMMIT", 2), (COPY_DATA, b"", 1), (ANY, b"SAVEPOINT", 1), (ANY, b"ROLLBACK TO", 1)],
    ids=["commit", "copy", "savepoint", "rollback"],
)
def test_signal_when_the_server_has_gone_silent(postgres_url, tmp_path, nursery, kind, word, at, number):
    """Not even the rollback is answered."""
    job = make_job(postgres_url, tmp_path, "copy", 50, 120)
    expected = job.left_alone(nursery)
    with proxied(postgres_url) as (proxy, url):
        proxy.at(kind, word, at, proxy.fall_silent)
        child = nursery.start("load", job_at(job, url), "--json")
        assert proxy.is_silent.wait(SECONDS)
        ended_by(child, number)
    job.finish(nursery)
    assert job.outcome() == expected


def job_at(job: Job, url: str) -> Path:
    """The same job on another way to its database."""
    text = job.path.read_text()
    assert job.url in text
    folder = job.path.parent / "dead"
    folder.mkdir()
    path = folder / job.path.name
    path.write_text(text.replace(job.url, url).replace('"a*.csv"', f'"{job.path.parent}/a*.csv"'))
    return path


def test_second_sigint_ends_at_once(postgres_url, tmp_path, nursery):
    """Not even a commit is waited for that is not answered."""
    job = make_job(postgres_url, tmp_path, "copy", 50, 120)
    with proxied(postgres_url) as (proxy, url):
        proxy.at(ANY, b"COMMIT", 2, proxy.fall_silent)
        child = nursery.start("load", job_at(job, url), "--json")
        assert proxy.is_silent.wait(SECONDS)
        child.send(signal.SIGINT)
        assert not child.has_ended(0.2)
        ended_by(child, signal.SIGINT, within=1.5)
    job.finish(nursery)
