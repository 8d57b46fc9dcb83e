"""A fault that passes costs time and nothing else: the run goes on from its last commit, and ends as one without it.

The table has no key: a row that is written twice, or not at all, shows. ``after_fault`` does what lets a fault pass, at
the moment at which etl has said that it will try again, so that no test waits for a clock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

import etl
import etl.database.engine
import etl.retrying
from etl.progress import Silence
from etl.readers.csv import CsvReader
from etl.records import Counts, RunResult
from tests.commands import started, wait_until
from tests.databases import PASSWORD, fresh_role
from tests.files import write_csv, write_job
from tests.jobs import fetch, is_sqlite, ledger, plain_connection, run_sql
from tests.proxy import BIND, COPY_DATA, QUERY, Connection, proxied

TABLE = "CREATE TABLE t (id INTEGER, n INTEGER, CONSTRAINT ck_n CHECK (n >= 0))"
RECORDS, FILES = 120, 2
CHECKED, MAPPED = 7, 11  # each 7th record breaks ck_n, and each 11th is refused by the mapper
METHODS = ("row", "bulk", "copy")


@pytest.fixture(autouse=True)
def small_blocks_and_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CsvReader.__init__.__kwdefaults__, "block_size", 256)  # type: ignore[arg-type]
    monkeypatch.setattr(etl.retrying, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(etl.retrying, "JITTER", 0.01)


def record(number: int) -> tuple[int, object]:
    return number, "x" if number % MAPPED == 0 else -1 if number % CHECKED == 0 else number


def write_files(folder: Path) -> None:
    size = RECORDS // FILES
    for file in range(FILES):
        write_csv(folder / f"a{file + 1}.csv", ("id", "n"), map(record, range(file * size + 1, (file + 1) * size + 1)))


def make_job(url: str, folder: Path, method: str, commit_every: int | str = 25, **database: Any) -> Path:
    write_files(folder)
    load = {"source": "a*.csv", "table": "t", "method": method, "commit_every": commit_every}
    return write_job(folder, url, load, **database)


def check_all(url: str, result: RunResult, executions: int = 1) -> None:
    """All that an uninterrupted run leaves behind, worked out by hand, and nothing else."""
    good = [number for number in range(1, RECORDS + 1) if number % MAPPED and number % CHECKED]
    counts = (RECORDS, len(good), 0, RECORDS - len(good))
    size = RECORDS // FILES
    assert result.status == "completed"
    assert (result.counts.read, result.counts.written, result.counts.duplicates, result.counts.rejected) == counts
    assert fetch(url, "SELECT id, n FROM t ORDER BY id") == [(number, number) for number in good]
    place = ledger(url)
    rejects = fetch(
        url,
        f"SELECT path, record, line, phase FROM {place}etl_reject r JOIN {place}etl_file f ON f.id = r.file_id"
        " ORDER BY path, record",
    )
    assert rejects == [
        (
            f"a{(number - 1) // size + 1}.csv",
            (number - 1) % size + 1,
            (number - 1) % size + 2,
            "map" if number % MAPPED == 0 else "write",
        )
        for number in range(1, RECORDS + 1)
        if number % MAPPED == 0 or number % CHECKED == 0
    ]
    files = fetch(url, f"SELECT path, status, position_record, read_count FROM {place}etl_file ORDER BY path")
    assert files == [(f"a{file + 1}.csv", "loaded", size, size) for file in range(FILES)]
    assert fetch(url, f"SELECT id, status, executions, error FROM {place}etl_run") == [
        (result.run_id, "completed", executions, None)
    ]


def retries(result: RunResult) -> int:
    assert result.timing is not None
    return result.timing.retries


@contextlib.contextmanager
def after_fault(*actions: Callable[[], object]) -> Iterator[list[str]]:
    """Call one of ``actions`` each time that etl says it will try again; what it has said is given."""
    left, said = list(actions), []

    class Hearer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "tried again" in record.msg:
                said.append(record.getMessage())
                (left.pop(0) if left else lambda: None)()

    hearer, logger = Hearer(), logging.getLogger("etl.loading")
    logger.addHandler(hearer)
    try:
        yield said
    finally:
        logger.removeHandler(hearer)


def end_backends(url: str, user: str | None = None) -> None:
    """End all connections of etl to the database, and wait until they have gone."""
    database = make_url(url).database
    with plain_connection(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name = 'etl'",
            [database],
        )


# The connection


MOMENTS = {"row": (BIND, b"", 70), "bulk": (BIND, b"", 90), "copy": (COPY_DATA, b"", 6)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", ["cut", "terminate"])
def test_connection_that_is_lost_in_the_middle_of_a_piece(
    postgres_url: str, tmp_path: Path, method: str, fault: str
) -> None:
    run_sql(postgres_url, TABLE)

    def lose(connection: Connection) -> None:
        connection.cut() if fault == "cut" else end_backends(postgres_url)

    with proxied(postgres_url) as (proxy, url):
        proxy.at(*MOMENTS[method], lose)
        with after_fault() as said:
            result = etl.load(make_job(url, tmp_path, method))
        assert proxy.moments == []
    check_all(postgres_url, result)
    assert retries(result) == len(said) == 1
    assert PASSWORD not in said[0]


@pytest.mark.parametrize("number", [1, 2, 4, pytest.param(7, id="the last one")])
@pytest.mark.parametrize("fault", ["cut before it", "cut behind it", "terminate"])
def test_commit_whose_answer_does_not_come_is_read_back(
    postgres_url: str, tmp_path: Path, number: int, fault: str
) -> None:
    """The first opens the run, the last one closes it."""
    run_sql(postgres_url, TABLE)

    def lose(connection: Connection) -> None:
        if fault == "terminate":
            end_backends(postgres_url)
        else:
            connection.cut() if fault == "cut before it" else connection.deafen()

    with proxied(postgres_url) as (proxy, url):
        proxy.at(QUERY, b"COMMIT", number, lose)
        result = etl.load(make_job(url, tmp_path, "copy"))
        assert proxy.moments == []
    check_all(postgres_url, result)
    assert retries(result) == 1
