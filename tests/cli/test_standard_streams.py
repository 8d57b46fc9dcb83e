"""Standard streams that are closed, full or unread: the load is done all the same, and the exit code tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.commands import ROOT, Job, count, execute, items_csv, items_job, query

needs_full = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="needs Linux: /dev/full is a disk without space"
)


@pytest.fixture
def job(tmp_path, sqlite_url) -> Job:
    job = items_job(tmp_path, sqlite_url)
    job.write("items.csv", items_csv([(1, "one"), (2, "two"), ("x", "three")]))
    return job


def etl(job: Job, redirected: str) -> subprocess.CompletedProcess[str]:
    """`etl load --json`, its streams redirected as in a shell."""
    environment = os.environ | {"TEST_DATABASE_URL": job.url}
    command = f'exec "$0" -m etl load "$1" --json {redirected}'
    shell = ["sh", "-c", command, sys.executable, str(job.config)]
    done = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


@needs_full
def test_output_on_a_full_disk_is_told_and_costs_no_row(job):
    done = etl(job, ">/dev/full")

    assert done.returncode == 1
    told = "etl: Standard output cannot be written to: No space left on device."
    assert done.stderr.splitlines()[-1] == f"{told} What was committed stays: see `etl history`."
    assert query(job.url, "SELECT id FROM items ORDER BY id") == [(1,), (2,)]
    assert query(job.url, "SELECT status FROM etl_run") == [("completed",)]


@pytest.mark.long
@needs_full
def test_errors_on_a_full_disk_change_nothing(job):
    done = etl(job, "2>/dev/full")

    assert done.returncode == 3
    assert json.loads(done.stdout)["written"] == 2


@pytest.mark.long
@needs_full
def test_exit_code_of_a_failure_stays_where_nothing_can_be_told(job):
    execute(job.url, "DROP TABLE items")

    done = etl(job, ">/dev/full 2>/dev/full")

    assert done.returncode == 1


@pytest.mark.parametrize(
    "closed", [*(pytest.param(one, marks=pytest.mark.long) for one in (">&-", "2>&-", "0<&- >&- 2>&-"))]
)
def test_closed_streams_are_nobodys_and_change_nothing(job, closed):
    """No file or connection takes their place: what is said there would go into it."""
    done = etl(job, closed)

    assert done.returncode == 3
    assert count(job.url, "items") == 2
