"""The databases that the other tests stand on are what they are said to be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.databases import (
    ClusterServer,
    Server,
    answers,
    connect,
    find_clusters,
    may_enter,
    one_of_each_version,
    server_account,
)

CLUSTERS = one_of_each_version(find_clusters())
ON_EACH_CLUSTER = pytest.mark.parametrize("server", CLUSTERS, ids=lambda server: server.name)

ROOT = Path(__file__).parents[2]
START_AND_WAIT = """
import sys, time
from tests.databases import ClusterServer
from pathlib import Path
server = ClusterServer(Path(sys.argv[1]), sys.argv[2], "test")
print(server.url().render_as_string(hide_password=False), server.folder, server.data, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_database_of_its_own(database_url: str, turn: int) -> None:
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE left_behind (turn INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO left_behind VALUES (:turn)"), {"turn": turn})
        assert connection.scalars(text("SELECT turn FROM left_behind")).all() == [turn]


def test_server_is_of_the_version_in_the_name_of_the_test(postgres_url: str, request: pytest.FixtureRequest) -> None:
    with connect(make_url(postgres_url)) as connection:
        major = connection.info.server_version // 10_000
    assert f"[postgres{major}]" in request.node.name


def test_server_has_the_settings_that_users_have(postgres_url: str) -> None:
    with connect(make_url(postgres_url)) as connection:
        settings = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert settings["max_prepared_transactions"] == "0"
    assert settings["wal_level"] == "replica"
    assert settings["server_encoding"] == "UTF8"


def test_contrib_extensions_can_be_made(postgres_url: str) -> None:
    with connect(make_url(postgres_url)) as connection:
        connection.execute("CREATE EXTENSION citext")
        connection.execute("CREATE EXTENSION btree_gist")
        row = connection.execute("SELECT 'Ä'::citext = 'ä'::citext, lower('Ä')").fetchone()
    assert row == (True, "ä")


def test_wrong_password_is_refused(postgres_url: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(make_url(postgres_url).set(password="wrong"))


def test_unprivileged_role_may_log_in_and_make_nothing(unprivileged_url: str) -> None:
    with (
        connect(make_url(unprivileged_url)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE public.mine (id integer)")


@ON_EACH_CLUSTER
def test_cluster_ends_and_leaves_nothing_when_its_parent_is_killed(server: Server) -> None:
    assert isinstance(server, ClusterServer)
    command = [sys.executable, "-c", START_AND_WAIT, str(server.binaries), server.version]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        address, *folders = parent.stdout.readline().split()
        assert answers(make_url(address))
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(os.path.exists, folders)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(os.path.exists, folders))
    assert not answers(make_url(address))


@ON_EACH_CLUSTER
def test_stopped_cluster_leaves_nothing(server: Server) -> None:
    assert isinstance(server, ClusterServer)
    cluster = ClusterServer(server.binaries, server.version, "test")
    url, folder, data = cluster.url(), cluster.folder, cluster.data
    assert answers(url)
    cluster.stop()
    assert not answers(url)
    assert not folder.exists()
    assert not data.exists()


def test_folder_below_a_closed_one_may_not_be_entered(tmp_path: Path) -> None:
    open_folder = tmp_path / "closed" / "open"
    open_folder.mkdir(parents=True)
    open_folder.parent.chmod(0o600)
    try:
        assert not may_enter(open_folder, server_account())
    finally:
        open_folder.parent.chmod(0o700)


def run_pytest(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    options = ["-p", "tests.conftest", "-c", os.devnull, "--rootdir", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments, str(folder)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


PROCESSES = pytest.mark.parametrize("processes", [0, 2])


@pytest.mark.parametrize("processes", [pytest.param(0, marks=pytest.mark.long), 2])
def test_skipped_test_fails_the_run_when_skips_are_not_allowed(tmp_path: Path, processes: int) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it():\n    pytest.skip('no reason')\n")
    assert run_pytest(tmp_path).returncode == pytest.ExitCode.OK
    strict = run_pytest(tmp_path, "--no-skips", "-n", str(processes))
    assert strict.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_it.py::test_it: Skipped: no reason" in strict.stdout


@PROCESSES
def test_given_server_that_does_not_answer_aborts_the_run(tmp_path: Path, processes: int) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(postgres_url):\n    pass\n")
    done = run_pytest(tmp_path, "-n", str(processes), ETL_TEST_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "The server of ETL_TEST_DATABASE_URL does not answer" in done.stdout + done.stderr


def test_without_postgres_its_tests_are_skipped_when_that_was_said(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(database_url):\n    pass\n")
    done = run_pytest(tmp_path, "--without-postgres")
    assert done.returncode == pytest.ExitCode.OK
    assert "1 passed, 1 skipped" in done.stdout
