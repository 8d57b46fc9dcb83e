"""A PostgreSQL server without disk space, or whose process the system kills: told, and the same command goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests import databases
from tests.commands import wait_until
from tests.crash.nursery import Done
from tests.crash.steps import Step
from tests.crash.three_files import TABLE, make_job
from tests.jobs import fetch, run_sql

pytestmark = pytest.mark.newest_is_enough

NEEDS_ROOT = "needs root and a PostgreSQL cluster on this machine: a small disk is mounted for it"
NEEDS_CLUSTER = "needs a PostgreSQL cluster on this machine: its processes are killed"


def assert_told(done: Done, sqlstate: str) -> None:
    assert done.exit_code == 1, done.errors
    told = done.errors.splitlines()[-1]
    assert done.result["error"] == told.removeprefix("etl: ")
    assert f"(SQLSTATE {sqlstate})" in told
    assert told.endswith("run the same command again: it goes on after the last commit.")


def data_of(url: str) -> Path | None:
    """Where the server has its data, if that is on this machine."""
    data = Path(fetch(url, "SHOW data_directory")[0][0])
    return data if (data / "postmaster.pid").exists() else None


def mount(folder: Path, size: str, *more: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *more]), "tmpfs", folder], check=True)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 3 MB that the servers may write to."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    folder = databases.make_folder(databases.server_account(), [Path("/tmp")])
    mount(folder, "3m")
    shutil.chown(folder, databases.server_account() or "root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


@pytest.fixture
def tablespace(postgres_url: str, small_disk: Path) -> Iterator[str]:
    """A tablespace on it, in the server of ``postgres_url``."""
    if data_of(postgres_url) is None:
        pytest.skip(NEEDS_ROOT)
    run_sql(postgres_url, f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    yield "small"
    run_sql(postgres_url, "DROP TABLE IF EXISTS t", "DROP TABLESPACE small")


@pytest.mark.parametrize(
    ("method", "commit_every"),
    [
        ("copy", 50),
        *(
            pytest.param(method, each, marks=pytest.mark.long)
            for method, each in (("copy", "run"), ("bulk", 50), ("row", "file"))
        ),
    ],
)
def test_full_disk_of_the_table_is_told_and_the_run_goes_on_once_there_is_space(
    postgres_url, tmp_path, nursery, small_disk, tablespace, method, commit_every
):
    job = make_job(postgres_url, tmp_path, method, commit_every, 400)
    expected = job.left_alone(nursery)
    run_sql(postgres_url, "DROP TABLE t", f"{TABLE} TABLESPACE {tablespace}")
    ballast = fill(small_disk, 6 * 8192)

    done = nursery.run("load", job.path, "--json")

    assert_told(done, "53100")
    job.check_commit()
    assert job.committed()[1] < job.records
    ballast.unlink()
    job.finish(nursery)
    assert job.outcome() == expected


def fill(disk: Path, but: int) -> Path:
    """A file that leaves so many bytes of the disk."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - but)))
    return ballast


@pytest.mark.long
def test_temporary_files_without_space_are_told(postgres_url, tmp_path, nursery):
    """The rows that are settled are sorted on the server, here without memory and without a file for it."""
    job = make_job(postgres_url, tmp_path, "copy", "file", 4_000)
    slow = "CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
    run_sql(postgres_url, slow, "CREATE TRIGGER seen BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION seen()")
    name = make_url(postgres_url).database
    run_sql(postgres_url, *(f"ALTER DATABASE {name} SET {each}" for each in ("work_mem = 64", "temp_file_limit = 0")))

    done = nursery.run("load", job.path, "--json")

    assert_told(done, "53400")
    job.check_commit()
    run_sql(postgres_url, f"ALTER DATABASE {name} RESET temp_file_limit")
    job.finish(nursery)


@pytest.mark.long
def test_backend_that_the_system_kills_for_memory_is_told_and_the_run_goes_on(postgres_url, tmp_path, nursery):
    """As the kernel does where memory is short: the server then ends all sessions and recovers."""
    if data_of(postgres_url) is None:
        pytest.skip(NEEDS_CLUSTER)
    job = make_job(postgres_url, tmp_path, "copy", 50, 120)
    expected = job.left_alone(nursery)
    with contextlib.closing(psycopg.connect(postgres_url, autocommit=True)) as other:
        child = nursery.start("load", job.path, "--json", step=Step("checkpoint", number=3, signal=signal.SIGSTOP))
        at_work = "SELECT pid FROM pg_stat_activity WHERE application_name = 'etl' AND datname = current_database()"
        wait_until(lambda: is_stopped(child.pid))
        ((backend,),) = other.execute(at_work).fetchall()
        os.kill(backend, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{backend}").exists())
    wait_until(lambda: databases.answers(make_url(postgres_url)))
    child.send(signal.SIGCONT)

    done = child.wait()

    assert done.exit_code in (1, 3)  # told, or tried again
    job.check_commit()
    job.finish(nursery)
    assert job.outcome() == expected


def is_stopped(pid: int) -> bool:
    return "State:\tT" in Path(f"/proc/{pid}/status").read_text()


# The log


@pytest.mark.long
def test_full_disk_of_the_log_ends_the_server_and_the_run_goes_on_once_there_is_space(tmp_path, nursery, monkeypatch):
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip(NEEDS_ROOT)
    server = next((found for found in databases.find_clusters()), None)
    if not isinstance(server, databases.ClusterServer):
        pytest.skip(NEEDS_ROOT)
    disk = databases.make_folder(databases.server_account(), [Path("/tmp")])
    mount(disk, "200m")
    try:
        shutil.chown(disk, databases.server_account() or "root")
        monkeypatch.setattr(databases, "in_memory", lambda: iter([disk]))
        monkeypatch.setattr(databases, "KEEPER", RESTARTING)
        with databases.fresh_database(server) as url:
            job = make_job(url, tmp_path, "copy", 500, 20_000)
            expected = job.left_alone(nursery)
            run_sql(url, "ALTER SYSTEM SET max_wal_size = '4GB'", "SELECT pg_reload_conf()", "CHECKPOINT")
            ballast = fill(disk, 1 << 16)
            child = nursery.start("load", job.path, "--json")
            filler = subprocess.Popen(
                [sys.executable, "-c", FILL_THE_LOG, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                done = child.wait()
                assert filler.wait(60) != 0  # the server was gone
            finally:
                filler.kill()
            ballast.unlink()
            wait_until(lambda: databases.answers(make_url(url)))
            assert done.exit_code in (1, 3)
            job.check_commit()
            job.finish(nursery)
            assert job.outcome() == expected
    finally:
        server.stop()
        subprocess.run(["umount", "-l", disk], check=True)
        shutil.rmtree(disk, ignore_errors=True)


# As a service manager does: a server that finds no space for its log, even at the start, is started again.
RESTARTING = """
folder=$1 data=$2; shift 2
exec 3<&0
(read _ <&3; touch "$folder/over"; kill -INT $(head -n 1 "$data/postmaster.pid")) 2>/dev/null &
until [ -e "$folder/over" ]; do "$@" </dev/null 3<&-; sleep 0.1; done
cd / && rm -rf "$folder" "$data"
"""
FILL_THE_LOG = """
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    for _ in range(400):
        connection.execute("SELECT pg_logical_emit_message(false, 'etl', repeat('x', 1000000))")
"""
