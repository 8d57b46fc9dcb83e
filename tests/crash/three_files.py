"""The job that every campaign runs: three files with bad records into a table without any key, and its outcome."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from tests.commands import call, wait_until
from tests.crash.nursery import Nursery
from tests.crash.steps import Step
from tests.files import write_csv, write_job
from tests.jobs import fetch, has_table, is_sqlite, ledger, run_sql

# The table has no key: a row that is written twice, or not at all, shows.
TABLE = "CREATE TABLE t (id INTEGER, n INTEGER, CONSTRAINT ck_n CHECK (n >= 0))"
CHECKED, MAPPED = 41, 53  # each 41st record breaks ck_n, and each 53rd is refused by the mapper
FILES = 3


def record(number: int) -> tuple[int, object]:
    return number, "x" if number % MAPPED == 0 else -1 if number % CHECKED == 0 else number


@dataclass(frozen=True)
class Outcome:
    """What two executions of the same job on the same start must have in common: all but ids and times."""

    rows: list[tuple[Any, ...]]
    rejects: list[tuple[Any, ...]]
    files: list[tuple[Any, ...]]
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """A job of three files, of ``size`` records each, and what it must end with."""

    url: str
    path: Path
    size: int

    @property
    def records(self) -> int:
        return FILES * self.size

    def start_over(self) -> None:
        """An empty table, and no ledger."""
        if is_sqlite(self.url):
            database = Path(make_url(self.url).database or "")
            for path in database.parent.glob(f"{database.name}*"):
                path.unlink()
        else:
            run_sql(self.url, "DROP TABLE t", "DROP SCHEMA IF EXISTS etl CASCADE")
        run_sql(self.url, TABLE)

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
        """What is committed, once a killed execution has no connection left, belongs together."""
        wait_until(self._is_left)
        _, read = self.committed()
        rows = fetch(self.url, "SELECT count(*), count(DISTINCT id) FROM t")[0]
        if not read:
            assert rows == (0, 0)
            return
        place = ledger(self.url)
        counts = fetch(self.url, f"SELECT sum(read_count), sum(written), sum(rejected) FROM {place}etl_file")[0]
        rejects = fetch(self.url, f"SELECT count(*) FROM {place}etl_reject")[0][0]
        assert [int(count) for count in counts] == [read, rows[0], rejects]
        assert rows[0] == rows[1]

    def _is_left(self) -> bool:
        """Whether the server has noticed: it goes on with the statement that it is at."""
        others = "datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'etl'"
        return is_sqlite(self.url) or fetch(self.url, f"SELECT 1 FROM pg_stat_activity WHERE {others}") == []

    def is_completed(self) -> bool:
        """Whether the run is; it must be the only one."""
        if not has_table(self.url, "etl_run"):
            return False
        runs = fetch(self.url, f"SELECT status FROM {ledger(self.url)}etl_run")
        assert len(runs) <= 1
        return runs == [("completed",)]

    def finish(self, nursery: Nursery) -> None:
        """Run to the end, unless the last kill came too late for that, and look at what there is."""
        if not self.is_completed():
            done = nursery.run("load", self.path, "--json")
            assert done.exit_code == 3, done.errors
            self.check_result(done.result)
        assert self.is_completed()
        self.check_tables()

    def left_alone(self, nursery: Nursery) -> Outcome:
        """What the job comes to if nothing happens to it; its database is as before then."""
        self.finish(nursery)
        outcome = self.outcome()
        self.start_over()
        return outcome

    def at_each(self, steps: Sequence[Step], nursery: Nursery, happens: Callable[[Step], object]) -> None:
        """Something happens at one step after the other, each time to what goes on with the run of the one before.

        What was done is compared with a run that was left alone; then, and where a step makes the ledger, it begins
        anew.
        """
        expected = self.left_alone(nursery)
        for step in steps:
            if step.name in ("ledger", "table") or self.is_completed():
                self.finish(nursery)
                assert self.outcome() == expected, step
                self.start_over()
            happens(step)
        self.finish(nursery)
        assert self.outcome() == expected

    def check_result(self, result: dict[str, Any]) -> None:
        assert (result["status"], result["exit_code"]) == ("completed", 3)
        assert [result[name] for name in ("read", "written", "duplicates", "rejected")] == [
            self.records,
            len(self.good),
            0,
            self.records - len(self.good),
        ]
        statuses = {file["path"]: file["status"] for file in result["loads"][0]["files"]}
        assert statuses == {f"a{number}.csv": "loaded" for number in (1, 2, 3)}

    def check_tables(self) -> None:
        """By what is known of the files, whatever etl says of itself."""
        assert fetch(self.url, "SELECT id, n FROM t ORDER BY id") == self.good
        place = ledger(self.url)
        rejected = fetch(
            self.url,
            f"SELECT path, record, line, phase FROM {place}etl_reject r JOIN {place}etl_file f ON f.id = r.file_id"
            " ORDER BY f.id, record",
        )
        assert rejected == [
            (
                f"a{(number - 1) // self.size + 1}.csv",
                (number - 1) % self.size + 1,
                (number - 1) % self.size + 2,
                "map" if number % MAPPED == 0 else "write",
            )
            for number in range(1, self.records + 1)
            if number % CHECKED == 0 or number % MAPPED == 0
        ]
        self.check_commit()

    @property
    def good(self) -> list[tuple[int, object]]:
        rows = map(record, range(1, self.records + 1))
        return [(number, n) for number, n in rows if isinstance(n, int) and n >= 0]

    def outcome(self) -> Outcome:
        place = ledger(self.url)
        told = "record, line, phase, reason, sqlstate, constraint_name, column_name, message, source_values, raw"
        counts = "read_count, written, updated, unchanged, duplicates, rejected, filtered"
        files = f"path, load_name, table_name, size, sha256, f.status, position_record, position_offset, {counts}"
        joined = f"{place}etl_reject r JOIN {place}etl_file f ON f.id = r.file_id"
        rejects = f"SELECT path, {told} FROM {joined} ORDER BY path, record"
        history = json.loads(call("history", self.path, "--json").output)["runs"]
        for run in history:
            for other in ("run_id", "started_at", "finished_at", "executions"):
                del run[other]
        return Outcome(
            fetch(self.url, "SELECT id, n FROM t ORDER BY id, n"),
            [(*row[:9], str(row[9]), *row[10:]) for row in fetch(self.url, rejects)],
            fetch(self.url, f"SELECT {files} FROM {place}etl_file f ORDER BY path"),
            history,
        )


def make_job(url: str, folder: Path, method: str, commit_every: int | str, size: int) -> Job:
    run_sql(url, TABLE)
    for file in range(FILES):
        first = file * size + 1
        write_csv(folder / f"a{file + 1}.csv", ("id", "n"), map(record, range(first, first + size)))
    load = {"source": "a*.csv", "table": "t", "method": method, "commit_every": commit_every}
    return Job(url, write_job(folder, url, load), size)
