"""The engine that etl makes: savepoints, constraints and session settings mean the same on both databases."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from etl.config import Database
from etl.database import connected, database_engine, session_factory, target_errors
from etl.errors import TargetError, TargetUnavailable
from tests.jobs import fetch, is_sqlite, run_sql

INSERT_1 = sa.text("INSERT INTO t VALUES (1)")


@pytest.fixture
def url(database_url: str) -> str:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    return database_url


def test_row_of_a_released_savepoint_does_not_survive_the_outer_rollback(url: str) -> None:
    """SQLite's trap: with the driver's own transactions RELEASE would have committed."""
    engine = database_engine(Database(url=url))
    with Session(engine) as session:
        with session.begin_nested():
            session.execute(INSERT_1)
        assert fetch(url, "SELECT count(*) FROM t") == [(0,)]
        session.rollback()
    engine.dispose()
    assert fetch(url, "SELECT count(*) FROM t") == [(0,)]


def test_row_of_a_released_savepoint_is_there_after_the_outer_commit(url: str) -> None:
    with connected(Database(url=url)) as connection, session_factory(connection)() as session:
        with session.begin_nested():
            session.execute(INSERT_1)
        session.commit()
        assert fetch(url, "SELECT id FROM t") == [(1,)]


def test_rollback_to_a_savepoint_costs_that_row_only(url: str) -> None:
    with connected(Database(url=url)) as connection, session_factory(connection).begin() as session:
        session.execute(INSERT_1)
        savepoint = session.begin_nested()
        session.execute(sa.text("INSERT INTO t VALUES (2)"))
        with pytest.raises(IntegrityError):
            session.execute(INSERT_1)
        savepoint.rollback()
        session.execute(sa.text("INSERT INTO t VALUES (3)"))
    assert fetch(url, "SELECT id FROM t ORDER BY id") == [(1,), (3,)]


def test_foreign_keys_are_enforced(url: str) -> None:
    run_sql(url, "CREATE TABLE child (parent INTEGER REFERENCES t (id))")
    engine = database_engine(Database(url=url))
    for _ in range(2):  # on each connection anew
        with engine.connect() as connection, pytest.raises(IntegrityError):
            connection.execute(sa.text("INSERT INTO child VALUES (7)"))
        engine.dispose()


def test_session_on_a_connection_in_a_transaction_leaves_the_end_of_it_to_the_connection(url: str) -> None:
    """A dry run: what its sessions commit is rolled back with the connection's own transaction."""
    with connected(Database(url=url)) as connection:
        transaction = connection.begin()
        with session_factory(connection)() as session:
            session.execute(INSERT_1)
            session.commit()
            session.execute(sa.text("INSERT INTO t VALUES (2)"))
            session.rollback()
            assert session.scalars(sa.text("SELECT id FROM t")).all() == [1]
        assert fetch(url, "SELECT count(*) FROM t") == [(0,)]
        transaction.rollback()
    assert fetch(url, "SELECT count(*) FROM t") == [(0,)]


def test_sqlite_write_lock_is_taken_when_the_transaction_begins(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    path = make_url(sqlite_url).database or ""
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    with connected(Database(url=sqlite_url)) as connection, connection.begin():
        with pytest.raises(sqlite3.OperationalError) as refused:
            other.execute("BEGIN IMMEDIATE")
        assert refused.value.sqlite_errorname == "SQLITE_BUSY"
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_sqlite_read_only_engine_takes_no_write_lock(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with connected(Database(url=sqlite_url), read_only=True) as connection, connection.begin():
        assert connection.scalar(sa.text("SELECT count(*) FROM t")) == 0
        run_sql(sqlite_url, "BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)", "ROLLBACK")


def test_sqlite_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    with (
        pytest.raises(TargetUnavailable, match=r"There is no SQLite database .*none\.db"),
        connected(Database(url=f"sqlite:///{path}")),
    ):
        pass
    assert not path.exists()


@pytest.mark.parametrize("kind", ["FOREIGN KEY", "UNIQUE"])
def test_deferred_constraints_are_immediate_in_each_transaction(postgres_url: str, kind: str) -> None:
    clause = "FOREIGN KEY (ref) REFERENCES t (id)" if kind == "FOREIGN KEY" else "UNIQUE (ref)"
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        f"CREATE TABLE child (ref INTEGER, {clause} DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO child VALUES (1)",
    )
    bad = sa.text("INSERT INTO child VALUES (:ref)")
    with connected(Database(url=postgres_url)) as connection:
        for _ in range(2):  # it holds for one transaction, so it must be said in each
            with session_factory(connection).begin() as session:
                with pytest.raises(IntegrityError), session.begin_nested():
                    session.execute(bad, {"ref": 7 if kind == "FOREIGN KEY" else 1})
                session.execute(sa.text("INSERT INTO child VALUES (NULL)"))
    assert fetch(postgres_url, "SELECT count(*) FROM child WHERE ref IS NULL") == [(2,)]


def test_time_zone_is_utc_whatever_the_server_or_the_role_says(postgres_url: str) -> None:
    database = make_url(postgres_url).database
    run_sql(
        postgres_url,
        f"ALTER DATABASE \"{database}\" SET timezone = 'Asia/Kolkata'",
        f"ALTER DATABASE \"{database}\" SET datestyle = 'German'",
        "CREATE TABLE t (at timestamptz)",
    )
    with connected(Database(url=postgres_url)) as connection, connection.begin():
        assert connection.scalar(sa.text("SHOW timezone")) == "UTC"
        connection.execute(sa.text("INSERT INTO t VALUES ('2024-01-02 03:04:05')"))
    assert fetch(postgres_url, "SELECT extract(epoch FROM at)::bigint FROM t") == [(1_704_164_645,)]


def test_options_of_the_url_are_kept_beside_ours(postgres_url: str) -> None:
    url = f"{postgres_url}?options=-c%20work_mem%3D7MB&application_name=nightly"
    with connected(Database(url=url)) as connection:
        assert connection.scalar(sa.text("SHOW work_mem")) == "7MB"
        assert connection.scalar(sa.text("SHOW application_name")) == "nightly"
        assert connection.scalar(sa.text("SHOW timezone")) == "UTC"


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_isolation_level_of_the_config_is_used(postgres_url: str, level: str) -> None:
    database = Database(url=postgres_url, isolation_level=level)  # type: ignore[arg-type]
    with connected(database) as connection:
        assert connection.scalar(sa.text("SHOW transaction_isolation")) == level.lower()


@pytest.mark.parametrize("password", ["s3cret-word", "pa%ss/w@rd"])
def test_wrong_password_is_not_told(postgres_url: str, password: str) -> None:
    url = make_url(postgres_url).set(password=password).render_as_string(hide_password=False)
    with pytest.raises(TargetUnavailable) as failed, connected(Database(url=url)):
        pass
    for text in (str(failed.value), repr(failed.value)):
        assert password not in text
        assert "password authentication failed" in text
        assert "***" in text


def test_password_in_the_words_of_an_error_is_not_told(postgres_url: str) -> None:
    password = make_url(postgres_url).password
    with pytest.raises(TargetError) as failed, connected(Database(url=postgres_url)) as connection:
        connection.execute(sa.text(f"SELECT no_such_function('{password}'), \"{password}\""))
    assert str(password) not in str(failed.value)


def test_no_server_is_one_sentence_that_names_it() -> None:
    url = "postgresql://me:hidden@127.0.0.1:1/shop"
    with (
        pytest.raises(TargetUnavailable, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/shop") as failed,
        connected(Database(url=url)),
    ):
        pass
    assert "hidden" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_values_of_the_data_are_not_told(url: str) -> None:
    run_sql(url, "CREATE TABLE names (name VARCHAR(80) CHECK (name <> 'Grace Hopper'))")
    database = Database(url=url)
    with pytest.raises(TargetError) as failed, connected(database) as connection:
        connection.execute(sa.text("INSERT INTO names VALUES (:name)"), {"name": "Grace Hopper"})
    assert "Grace" not in str(failed.value) or is_sqlite(url)  # SQLite names an unnamed CHECK by its own text


def test_target_errors_passes_on_what_is_not_the_databases(sqlite_url: str) -> None:
    with pytest.raises(KeyError), target_errors(make_url(sqlite_url)):
        raise KeyError("ours")


def test_a_transaction_of_sqlite_has_room_in_the_cache(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (n INTEGER)")
    with connected(Database(url=sqlite_url)) as connection:
        assert connection.scalar(sa.text("PRAGMA cache_size")) == -32 * 1024
        # What makes a commit durable stays as SQLite has it.
        assert connection.scalar(sa.text("PRAGMA synchronous")) == 2
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "delete"


def driver_of(connection: sa.Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def test_connection_that_vanishes_is_noticed_by_both_ends_after_a_minute(postgres_url: str) -> None:
    expected = {"idle": "30", "interval": "10", "count": "3"}
    with connected(Database(url=postgres_url)) as connection:
        ours = driver_of(connection).info.get_parameters()
        assert {name: ours[f"keepalives_{name}"] for name in expected} == expected
        for name, value in expected.items():
            setting = f"SELECT setting FROM pg_settings WHERE name = 'tcp_keepalives_{name}'"
            assert connection.scalar(sa.text(setting)) == value


def test_connection_of_the_url_keeps_its_own_keepalives(postgres_url: str) -> None:
    with connected(Database(url=f"{postgres_url}?keepalives_idle=7")) as connection:
        assert driver_of(connection).info.get_parameters()["keepalives_idle"] == "7"
