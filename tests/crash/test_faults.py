"""A fault that passes costs time and nothing else: the run goes on from its last commit, and ends as one without it.

The table has no key: a row that is written twice, or not at all, shows. ``after_fault`` does what lets a fault pass, at
the moment at which etl has said that it will try again, so that no test waits for a clock.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.comparison import in_pieces_of
from tests.databases import PASSWORD, OwnServer, find_clusters, fresh_role, own_server_of
from tests.files import write_csv, write_job
from tests.jobs import fetch, ledger, plain_connection, run_sql
from tests.proxy import BIND, COPY_DATA, QUERY, Connection, proxied

pytestmark = pytest.mark.newest_is_enough

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


def end_backends(url: str) -> None:
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


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("bulk", "terminate"),
        pytest.param("bulk", "cut", marks=pytest.mark.long),
        ("copy", "cut"),
        pytest.param("copy", "terminate", marks=pytest.mark.long),
        pytest.param("row", "cut", marks=pytest.mark.long),
        pytest.param("row", "terminate", marks=pytest.mark.long),
    ],
)
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
    assert "the connection is closed" not in said[0]  # what the rollback says, and not what has happened


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (4, "cut behind it"),
        *(pytest.param(number, "cut before it", marks=pytest.mark.long) for number in range(1, 8)),
        *(pytest.param(number, "cut behind it", marks=pytest.mark.long) for number in (1, 2, 3, 5, 6, 7)),
        *(pytest.param(number, "terminate", marks=pytest.mark.long) for number in range(1, 8)),
    ],
)
def test_commit_whose_answer_does_not_come_is_read_back(
    postgres_url: str, tmp_path: Path, number: int, fault: str
) -> None:
    """The first two take the lock and open the run, the last one closes it."""
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


def test_server_that_is_away_is_waited_for(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, TABLE)
    with proxied(postgres_url) as (proxy, url):
        proxy.at(QUERY, b"COMMIT", 4, proxy.go_away)
        with after_fault(lambda: None, lambda: None, lambda: None, proxy.come_back) as said:
            result = etl.load(make_job(url, tmp_path, "copy"))
        assert (len(said), proxy.accepted) == (4, 5)
    check_all(postgres_url, result)
    assert retries(result) == 4


def test_server_that_stays_away_ends_the_run_and_the_same_command_goes_on(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, TABLE)
    with proxied(postgres_url) as (proxy, url):
        job = make_job(url, tmp_path, "copy")
        proxy.at(QUERY, b"COMMIT", 4, proxy.go_away)
        with after_fault() as said, pytest.raises(etl.TargetUnavailable) as error:
            etl.load(job)
        assert len(said) == etl.retrying.ATTEMPTS - 1
        assert PASSWORD not in str(error.value) + "".join(said)
        assert fetch(postgres_url, "SELECT status, executions FROM etl.etl_run") == [("running", 1)]
        proxy.come_back()
        check_all(postgres_url, etl.load(job), executions=2)


def test_first_connection_that_cannot_be_made_is_told_at_once(postgres_url: str, tmp_path: Path) -> None:
    with proxied(postgres_url) as (proxy, url):
        proxy.is_away = True
        with after_fault() as said, pytest.raises(etl.TargetUnavailable):
            etl.load(make_job(url, tmp_path, "copy"))
        assert (said, proxy.accepted) == ([], 1)


@pytest.mark.long
def test_too_many_connections_at_a_new_connection_are_a_passing_fault(postgres_url: str, tmp_path: Path) -> None:
    """The role may have one connection from a moment on, and another one than the one that was lost has it."""
    run_sql(postgres_url, TABLE)
    with fresh_role(postgres_url) as url, psycopg.connect(url, application_name="other") as other:
        role, database = (sql.Identifier(getattr(make_url(url), name) or "") for name in ("username", "database"))
        with plain_connection(postgres_url) as connection:
            connection.execute(sql.SQL("GRANT SELECT, INSERT ON t TO {}").format(role))
            connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, role))

        def leave_no_place(_: Connection) -> None:
            with plain_connection(postgres_url) as connection:
                connection.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 1").format(role))
            end_backends(postgres_url)

        with proxied(url) as (proxy, through):
            proxy.at(QUERY, b"COMMIT", 4, leave_no_place)
            with after_fault(lambda: None, other.close) as said:
                result = etl.load(make_job(through, tmp_path, "copy"))
        assert len(said) >= 2
        check_all(postgres_url, result)


@pytest.mark.long
def test_lock_that_the_lost_connection_still_holds_is_waited_for(postgres_url: str, tmp_path: Path) -> None:
    """As it does until the server has noticed; here another connection that waits for it gets it."""
    run_sql(postgres_url, TABLE)
    locks = (
        "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks"
        " WHERE locktype = 'advisory' AND objsubid = 1 AND mode = 'ExclusiveLock'"  # shared ones tell who holds it
    )
    with plain_connection(postgres_url) as other, ThreadPoolExecutor(1) as pool, proxied(postgres_url) as (proxy, url):

        def take_the_lock(_: Connection) -> None:
            ((key,),) = fetch(postgres_url, locks)
            pool.submit(other.execute, "SELECT pg_advisory_lock(%s)", [key])
            wait_until(lambda: bool(fetch(postgres_url, f"{locks} AND NOT granted")))
            end_backends(postgres_url)

        proxy.at(QUERY, b"COMMIT", 4, take_the_lock)
        with after_fault(lambda: None, other.close) as said:
            result = etl.load(make_job(url, tmp_path, "copy"))
    check_all(postgres_url, result)
    assert "Another run" in said[1]


def test_sigint_while_waiting_for_the_server_ends_at_once(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, TABLE)
    with proxied(postgres_url) as (proxy, url):
        job = make_job(url, tmp_path, "copy")
        proxy.at(QUERY, b"COMMIT", 4, proxy.go_away)
        with started("load", job, "--json") as command:
            wait_until(lambda: proxy.accepted >= 3)
            ended = command.end(signal.SIGINT)
        assert ended.exit_code == 130
        assert ended.result["status"] == "stopped"
        assert ended.result["timing"]["retries"] >= 2
        assert PASSWORD not in ended.output + ended.errors
        proxy.come_back()
        check_all(postgres_url, etl.load(job), executions=2)


# What the server ends


RAISING = """
CREATE SEQUENCE seen;
CREATE FUNCTION judge(int) RETURNS boolean LANGUAGE plpgsql {volatility} AS $$
BEGIN
    IF nextval('seen') = 70 THEN RAISE EXCEPTION 'once' USING ERRCODE = '{state}'; END IF;
    RETURN true;
END $$
"""


STATES = ("40001", "40P01", "57014", "53100", "53200", "55P03", "08006")
WAYS = (("row", "VOLATILE"), ("bulk", "VOLATILE"), ("copy", "VOLATILE"), ("copy", "IMMUTABLE"))
SAMPLE = (("copy", "VOLATILE", "40001"), ("copy", "IMMUTABLE", "40P01"))


@pytest.mark.parametrize(
    ("method", "volatility", "state"),
    [
        pytest.param(*way, state, marks=[] if (*way, state) in SAMPLE else pytest.mark.long)
        for way in WAYS
        for state in STATES
    ],
)
def test_passing_fault_inside_a_savepoint_refuses_no_row(
    postgres_url: str, tmp_path: Path, method: str, volatility: str, state: str
) -> None:
    """Raised while a row is judged: by an INSERT, in the loop on the server (VOLATILE), in a COPY (IMMUTABLE)."""
    run_sql(
        postgres_url,
        RAISING.format(state=state, volatility=volatility),
        TABLE,
        "ALTER TABLE t ADD CONSTRAINT ck_judge CHECK (judge(id))",
    )
    with after_fault() as said:
        result = etl.load(make_job(postgres_url, tmp_path, method))
    check_all(postgres_url, result)
    assert retries(result) == len(said) == 1
    assert state in said[0]


@pytest.mark.long
def test_fault_that_does_not_pass_ends_the_run_as_failed_and_the_same_command_goes_on(
    postgres_url: str, tmp_path: Path
) -> None:
    run_sql(
        postgres_url,
        RAISING.format(state="40001", volatility="VOLATILE").replace("= 70", ">= 70"),
        TABLE,
        "ALTER TABLE t ADD CONSTRAINT ck_judge CHECK (judge(id))",
    )
    job = make_job(postgres_url, tmp_path, "row")
    with after_fault() as said, pytest.raises(etl.TargetUnavailable, match="40001"):
        etl.load(job)
    assert len(said) == etl.retrying.ATTEMPTS - 1
    place = ledger(postgres_url)
    assert fetch(postgres_url, f"SELECT status, executions FROM {place}etl_run") == [("failed", 1)]
    # What 76 holds is the 70th row that the mapper lets through.
    assert fetch(postgres_url, f"SELECT sum(read_count) FROM {place}etl_file") == [(75,)]
    run_sql(postgres_url, "ALTER TABLE t DROP CONSTRAINT ck_judge")
    check_all(postgres_url, etl.load(job), executions=2)


@pytest.mark.long
@pytest.mark.parametrize(("setting", "state"), [("statement_timeout", "57014"), ("lock_timeout", "55P03")])
def test_lock_of_somebody_else_that_lasts_too_long_is_a_passing_fault(
    postgres_url: str, tmp_path: Path, setting: str, state: str
) -> None:
    run_sql(postgres_url, TABLE)
    name = make_url(postgres_url).database
    with psycopg.connect(postgres_url, application_name="other") as other:
        run_sql(postgres_url, f"ALTER DATABASE {name} SET {setting} = '300ms'")
        lock = Once("committed", 2, lambda: other.execute("LOCK TABLE t IN SHARE MODE"))
        with after_fault(other.commit) as said:
            result = etl.load(make_job(postgres_url, tmp_path, "copy"), reporter=lock)
    check_all(postgres_url, result)
    assert state in said[0]


@pytest.mark.long
def test_transaction_that_was_idle_for_too_long_is_done_again(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, TABLE)
    name = make_url(postgres_url).database
    run_sql(postgres_url, f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '1s'")

    def wait() -> None:
        busy = f"SELECT 1 FROM pg_stat_activity WHERE application_name = 'etl' AND datname = '{name}'"
        wait_until(lambda: not fetch(postgres_url, busy))

    with after_fault() as said:
        result = etl.load(make_job(postgres_url, tmp_path, "copy"), reporter=Once("done", 3, wait))
    check_all(postgres_url, result)
    assert "25P03" in said[0]


class Once(Silence):
    """Calls ``then`` when the event ``what`` comes for the ``number``-th time."""

    def __init__(self, what: str, number: int, then: Callable[[], object]) -> None:
        self.what, self.left, self.then = what, number, then

    def _tell(self, what: str) -> None:
        if what == self.what:
            self.left -= 1
            if self.left == 0:
                self.then()

    def records_done(self, size: int, counts: Counts) -> None:
        self._tell("done")

    def committed(self) -> None:
        self._tell("committed")


# Two at once


def load_both(first: Path, second: Path) -> list[RunResult]:
    """Both at once: each waits for the other when it has written its first record batch.

    Not for ever: the other one may be refused again and again before it comes so far, until this one has ended.
    """
    barrier = threading.Barrier(2, timeout=3)

    def meet() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait()

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(etl.load, job, reporter=Once("done", 1, meet)) for job in (first, second)]
        return [run.result() for run in runs]


@pytest.mark.parametrize("method", ["copy", *(pytest.param(name, marks=pytest.mark.long) for name in ("row", "bulk"))])
def test_loads_that_lock_each_other_s_keys_both_end_with_every_row_once(
    postgres_url: str, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etl.retrying, "FIRST_WAIT", 0.2)  # time for the other one
    name = make_url(postgres_url).database
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)",
        f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'",
    )
    keys = range(1, 201)
    jobs = []
    for job, order in (("up", keys), ("down", keys[::-1])):
        write_csv(tmp_path / f"{job}.csv", ("id", "n"), [(key, key) for key in order])
        load = {"source": f"{job}.csv", "table": "t", "method": method, "commit_every": "run"}
        jobs.append(write_job(tmp_path, postgres_url, load, name=f"{job}.toml"))
    with in_pieces_of(100):  # the other's half is the second piece of each
        results = load_both(*jobs)
    assert fetch(postgres_url, "SELECT id, n FROM t ORDER BY id") == [(key, key) for key in keys]
    assert sum(result.counts.written for result in results) == 200
    assert [result.counts.read for result in results] == [200, 200]
    assert sum(result.counts.duplicates for result in results) == 200
    assert sum(map(retries, results)) >= 1


@pytest.mark.long
def test_serializable_loads_that_depend_on_each_other_both_end_with_every_row_once(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks up in the ledger what the other one adds to it: PostgreSQL ends one of the transactions."""
    monkeypatch.setattr(etl.retrying, "FIRST_WAIT", 0.2)  # time for the other one
    run_sql(postgres_url, TABLE)
    write_csv(tmp_path / "first.csv", ("id", "n"), [(0, 0)])
    load = {"source": "first.csv", "table": "t"}
    etl.load(write_job(tmp_path, postgres_url, load, name="first.toml"))  # the ledger is there
    jobs = []
    for job, start in (("a", 1), ("b", 101)):
        write_csv(tmp_path / f"{job}.csv", ("id", "n"), [(key, key) for key in range(start, start + 100)])
        load = {"source": f"{job}.csv", "table": "t", "commit_every": "run"}
        jobs.append(write_job(tmp_path, postgres_url, load, name=f"{job}.toml", isolation_level="SERIALIZABLE"))
    results = load_both(*jobs)
    assert fetch(postgres_url, "SELECT id FROM t ORDER BY id") == [(key,) for key in range(201)]
    assert [(result.counts.read, result.counts.written) for result in results] == [(100, 100)] * 2
    assert sum(map(retries, results)) >= 1


# Beside the server


def test_database_that_is_locked_for_too_long_is_a_passing_fault(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etl.database.engine, "BUSY_TIMEOUT", 0.05)
    run_sql(sqlite_url, TABLE)
    with plain_connection(sqlite_url) as other:
        lock = Once("committed", 2, lambda: other.execute("BEGIN IMMEDIATE"))
        with after_fault(lambda: None, lambda: other.execute("ROLLBACK")) as said:
            result = etl.load(make_job(sqlite_url, tmp_path, "bulk"), reporter=lock)
    check_all(sqlite_url, result)
    assert retries(result) == len(said) == 2


@pytest.mark.long
def test_limit_of_records_is_not_passed_by_a_retry(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, TABLE)
    with proxied(postgres_url) as (proxy, url):
        proxy.at(QUERY, b"COMMIT", 4, Connection.cut)
        result = etl.load(make_job(url, tmp_path, "copy", 10), limit=30)
    assert (retries(result), result.counts.read) == (1, 30 * FILES)
    place = ledger(postgres_url)
    assert fetch(postgres_url, f"SELECT position_record, status FROM {place}etl_file") == [(30, "partial")] * FILES


@pytest.mark.long
def test_dry_run_begins_anew_and_leaves_nothing(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, TABLE)
    with proxied(postgres_url) as (proxy, url):
        proxy.at(COPY_DATA, b"", 6, Connection.cut)
        result = etl.load(make_job(url, tmp_path, "copy"), dry_run=True)
    good = [number for number in range(1, RECORDS + 1) if number % MAPPED and number % CHECKED]
    assert (retries(result), result.counts.read, result.counts.written) == (1, RECORDS, len(good))
    assert fetch(postgres_url, "SELECT count(*) FROM t") == [(0,)]
    assert fetch(postgres_url, "SELECT to_regclass('etl.etl_run')") == [(None,)]


# A server of the test's own


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    if request.config.option.without_postgres:
        pytest.skip("--without-postgres was given")
    with own_server_of(next(iter(find_clusters()))) as server:
        yield server


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("at", ["in a piece", "before a commit", "behind a commit"])
def test_server_that_crashes_takes_nothing_that_is_not_loaded_again(
    own_server: OwnServer, tmp_path: Path, method: str, at: str
) -> None:
    """Commits that were not waited for may be taken back: nothing in memory is believed."""
    url = own_server.url
    run_sql(url, TABLE)

    def crash(_: object = None) -> None:
        own_server.control("restart", "-m", "immediate")

    with proxied(url) as (proxy, through):
        if at != "behind a commit":
            proxy.at(*(MOMENTS[method] if at == "in a piece" else (QUERY, b"COMMIT", 5)), crash)
        reporter = Once("committed", 3, crash) if at == "behind a commit" else Silence()
        result = etl.load(make_job(through, tmp_path, method, 10), reporter=reporter)
    check_all(url, result)
    assert retries(result) >= 1


@pytest.mark.long
def test_server_that_is_away_for_twenty_seconds_is_waited_for(
    own_server: OwnServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the waits as they are."""
    monkeypatch.undo()
    url = own_server.url
    run_sql(url, TABLE)
    back = threading.Timer(20, lambda: own_server.control("start"))

    def go_away() -> None:
        own_server.control("stop", "-m", "immediate")
        back.start()

    result = etl.load(make_job(url, tmp_path, "copy"), reporter=Once("committed", 2, go_away))
    back.join()
    check_all(url, result)
    assert retries(result) >= 5
