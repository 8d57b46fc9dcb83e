"""A run that is killed by SIGKILL, at any moment and as often as you like, ends as one that was not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.files import write_csv, write_job
from tests.jobs import fetch, has_table, ledger, run_sql

ROOT = Path(__file__).parents[2]
ENDING = 30.0  # seconds: most that a run may take

# The table has no key: a row that is written twice, or not at all, shows.
TABLE = "CREATE TABLE t (id INTEGER, n INTEGER, CONSTRAINT ck_n CHECK (n >= 0))"
CHECKED, MAPPED = 41, 53  # each 41st record breaks ck_n, and each 53rd is refused by the mapper
SIZES = {"row": 150, "bulk": 900, "copy": 2000}  # records of each file, so that there is time to kill in
ALL = [(method, commit_every) for method in ("row", "bulk", "copy") for commit_every in (7, 100, "file", "run")]


def record(number: int) -> tuple[int, object]:
    return number, "x" if number % MAPPED == 0 else -1 if number % CHECKED == 0 else number


@dataclass
class Job:
    """A job of three files, and what it must end with."""

    url: str
    path: Path
    records: int

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "etl", "load", str(self.path), "--json", "--no-progress"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, **pipes)

    def committed(self) -> tuple[int, int]:
        """Executions begun and records committed."""
        with contextlib.suppress(sqlite3.OperationalError, psycopg.errors.UndefinedTable):
            if has_table(self.url, "etl_reject"):
                place = ledger(self.url)
                runs = fetch(self.url, f"SELECT coalesce(sum(executions), 0) FROM {place}etl_run")
                files = fetch(self.url, f"SELECT coalesce(sum(position_record), 0) FROM {place}etl_file")
                return int(runs[0][0]), int(files[0][0])
        return 0, 0

    def check_commit(self) -> None:
        """What is committed at this moment belongs together."""
        _, read = self.committed()
        if not read:
            return
        place = ledger(self.url)
        counts = fetch(self.url, f"SELECT sum(read_count), sum(written), sum(rejected) FROM {place}etl_file")[0]
        rows = fetch(self.url, "SELECT count(*), count(DISTINCT id) FROM t")[0]
        rejects = fetch(self.url, f"SELECT count(*) FROM {place}etl_reject")[0][0]
        assert [int(count) for count in counts] == [read, rows[0], rejects]
        assert rows[0] == rows[1]

    def is_completed(self) -> bool:
        if not has_table(self.url, "etl_run"):
            return False
        return fetch(self.url, f"SELECT status FROM {ledger(self.url)}etl_run") == [("completed",)]

    def finish(self) -> None:
        """Run to the end, unless the last kill came too late for that, and look at what there is."""
        if not self.is_completed():
            self.check_result(run_to_the_end(self))
        assert self.is_completed()
        self.check_tables()

    def check_tables(self) -> None:
        assert fetch(self.url, "SELECT id, n FROM t ORDER BY id") == self.good
        place = ledger(self.url)
        size = self.records // 3
        rejected = fetch(
            self.url,
            f"SELECT path, record, line, phase FROM {place}etl_reject r JOIN {place}etl_file f ON f.id = r.file_id"
            " ORDER BY f.id, record",
        )
        assert rejected == [
            (
                f"a{(number - 1) // size + 1}.csv",
                (number - 1) % size + 1,
                (number - 1) % size + 2,
                "map" if number % MAPPED == 0 else "write",
            )
            for number in range(1, self.records + 1)
            if number % CHECKED == 0 or number % MAPPED == 0
        ]
        self.check_commit()

    def check_result(self, output: str) -> None:
        result = json.loads(output)
        assert (result["status"], result["exit_code"]) == ("completed", 3)
        assert [result[name] for name in ("read", "written", "duplicates", "rejected")] == [
            self.records,
            len(self.good),
            0,
            self.records - len(self.good),
        ]
        statuses = {file["path"]: file["status"] for file in result["loads"][0]["files"]}
        assert statuses == {f"a{number}.csv": "loaded" for number in (1, 2, 3)}

    @property
    def good(self) -> list[tuple[int, object]]:
        rows = map(record, range(1, self.records + 1))
        return [(number, n) for number, n in rows if isinstance(n, int) and n >= 0]


def make_job(url: str, folder: Path, method: str, commit_every: int | str) -> Job:
    run_sql(url, TABLE)
    size = SIZES[method]
    for file in range(3):
        first = file * size + 1
        write_csv(folder / f"a{file + 1}.csv", ("id", "n"), map(record, range(first, first + size)))
    load = {"source": "a*.csv", "table": "t", "method": method, "commit_every": commit_every}
    return Job(url, write_job(folder, url, load), 3 * size)


@contextlib.contextmanager
def running(job: Job) -> Iterator[subprocess.Popen[str]]:
    process = job.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def kill_when(job: Job, moment: Callable[[float], bool]) -> None:
    """Start the job, and kill it as soon as ``moment`` says so, unless it has ended before."""
    with running(job) as process:
        started = time.monotonic()
        while process.poll() is None:
            if moment(time.monotonic() - started):
                process.send_signal(signal.SIGKILL)
                process.wait()
                return
            time.sleep(0.002)
            assert time.monotonic() - started < ENDING


def run_to_the_end(job: Job) -> str:
    with running(job) as process:
        output, errors = process.communicate(timeout=ENDING)
    assert process.returncode == 3, errors
    return output


def kill_at_random(job: Job, kills: int) -> None:
    """Kill the job at random moments: from its beginning to about when all is loaded."""
    for _ in range(kills):
        executions, _ = job.committed()
        patience = random.uniform(0, 0.25)
        begun: list[float] = []

        def moment(
            now: float, executions: int = executions, patience: float = patience, begun: list[float] = begun
        ) -> bool:
            if not begun and job.committed()[0] > executions:
                begun.append(now)
            return bool(begun) and now - begun[0] >= patience

        kill_when(job, moment)
        job.check_commit()
        if job.is_completed():
            return


def kill_at_commits(job: Job, kills: int) -> None:
    """Kill the job as soon as a commit of it can be seen."""
    for _ in range(kills):
        _, before = job.committed()

        def moment(_now: float, before: int = before) -> bool:
            return job.committed()[1] > before

        kill_when(job, moment)
        job.check_commit()
        if job.is_completed():
            return


def test_run_killed_at_random_ends_as_one_that_was_not(database_url: str, tmp_path: Path) -> None:
    job = make_job(database_url, tmp_path, "row", 40)
    kill_at_random(job, 1)
    job.finish()


def test_run_killed_at_a_commit_ends_as_one_that_was_not(database_url: str, tmp_path: Path) -> None:
    job = make_job(database_url, tmp_path, "bulk", "file")
    kill_at_commits(job, 1)
    assert job.committed()[1] % (job.records // 3) == 0
    job.finish()


@pytest.mark.long
@pytest.mark.parametrize("kill", [kill_at_random, kill_at_commits])
@pytest.mark.parametrize(("method", "commit_every"), ALL)
def test_run_killed_many_times_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, method: str, commit_every: int | str, kill: Callable[[Job, int], None]
) -> None:
    job = make_job(database_url, tmp_path, method, commit_every)
    kill(job, 6)
    status = f"SELECT status FROM {ledger(database_url)}etl_run"
    if fetch(database_url, status) != [("completed",)]:
        job.finish()


KILL_ITSELF = """
import os, signal, sys
import etl
import sqlalchemy as sa
from etl.progress import Silence
from sqlalchemy.orm import Session

event, number = sys.argv[2], int(sys.argv[3])

def count(*_):
    global number
    number -= 1
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Killer(Silence):
    def records_done(self, size, counts):
        if event == "done":
            count()

if event != "done":
    sa.event.listen(Session, event, count)
etl.load(sys.argv[1], reporter=Killer())
"""


@pytest.mark.parametrize(
    ("event", "number"),
    [
        ("after_commit", 4),
        *(pytest.param("before_commit", number, marks=pytest.mark.long) for number in (1, 2, 3, 4, 5, 9)),
        *(pytest.param("after_commit", number, marks=pytest.mark.long) for number in (1, 2, 3, 5, 9)),
        *(pytest.param("after_flush", number, marks=pytest.mark.long) for number in (1, 4, 9, 11)),
        *(pytest.param("done", number, marks=pytest.mark.long) for number in (1, 2, 5)),
    ],
)
def test_run_killed_around_a_commit_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, event: str, number: int
) -> None:
    """At the very moment, which no watcher from outside can hit."""
    job = make_job(database_url, tmp_path, "bulk", 300)
    command = [sys.executable, "-c", KILL_ITSELF, str(job.path), event, str(number)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    job.check_commit()
    job.finish()
