"""A run that updates, killed at any moment, ends with the rows and the counts of one that was not."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.crash.nursery import Nursery
from tests.files import write_csv, write_job
from tests.jobs import fetch, has_table, ledger, run_sql

KEYS, THERE = 60, 20  # each key comes again and again; the first ones are in the table before


def make_updates(url: str, folder: Path, records: int, **keys: Any) -> Path:
    """A job of two files: record n gives key n % KEYS the value n."""
    run_sql(
        url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, m INTEGER)",
        *(f"INSERT INTO t VALUES ({key}, -1, {key})" for key in range(THERE)),
    )
    for file, first in enumerate((0, records // 2)):
        numbers = range(first, first + records // 2)
        write_csv(folder / f"a{file}.csv", ("id", "n"), [(number % KEYS, number) for number in numbers])
    return write_job(folder, url, {"source": "a*.csv", "table": "t", "on_duplicate": "update", **keys})


def require_outcome(url: str, job: Path, nursery: Nursery, records: int) -> None:
    """Worked out by hand: a record whose key is new is written, each other one updates, the last one stays.

    What was committed and done again would be counted as more updates, or have brought an old value back.
    """
    done = nursery.run("load", job, "--json")
    assert done.exit_code == 0, done.errors
    place = ledger(url)
    counts = fetch(url, f"SELECT sum(read_count), sum(written), sum(updated), sum(unchanged) FROM {place}etl_file")[0]
    assert [int(count) for count in counts] == [records, KEYS - THERE, records - KEYS + THERE, 0]
    last = [max(number for number in range(records) if number % KEYS == key) for key in range(KEYS)]
    expected = [(key, last[key], key if key < THERE else None) for key in range(KEYS)]
    assert fetch(url, "SELECT id, n, m FROM t ORDER BY id") == expected


def kill(url: str, job: Path, nursery: Nursery, times: int, patience: float) -> None:
    for _ in range(times):
        child = nursery.start("load", job, "--json", "--no-progress")
        if not child.has_ended(random.uniform(0, patience)):
            child.send(signal.SIGKILL)
        child.wait()
        finished = f"SELECT 1 FROM {ledger(url)}etl_run WHERE status = 'completed'"
        if has_table(url, "etl_run") and fetch(url, finished):
            break


def test_updating_run_killed_at_random_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, nursery: Nursery
) -> None:
    job = make_updates(database_url, tmp_path, 600, commit_every=25)
    kill(database_url, job, nursery, 3, 0.25)
    require_outcome(database_url, job, nursery, 600)


@pytest.mark.long
@pytest.mark.parametrize("commit_every", [7, 100, "file"])
@pytest.mark.parametrize("method", ["row", "auto"])
def test_updating_run_killed_many_times_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, nursery: Nursery, method: str, commit_every: int | str
) -> None:
    records = 1_200 if method == "row" else 30_000
    job = make_updates(database_url, tmp_path, records, method=method, commit_every=commit_every)
    kill(database_url, job, nursery, 12, 0.4)
    require_outcome(database_url, job, nursery, records)
