"""The connection to the target, and the hooks that make SAVEPOINT and constraints mean the same on both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql import quoted_name

from etl.config import Database
from etl.database.refusals import target_errors
from etl.errors import TargetUnavailable

CONNECT_TIMEOUT = 10  # seconds, for PostgreSQL, unless the URL says otherwise
# A connection that vanishes without a word is noticed after a minute, by us and by the server, which then lets go of
# the job's lock; the system's own defaults are two hours (PostgreSQL documentation, "TCP Settings").
KEEPALIVES = {"idle": 30, "interval": 10, "count": 3}
SQLITE_CACHE = 32 * 1024  # KiB: a transaction of 100,000 rows has room in it, not in the default of 2 MiB
MissingFile = Literal["refused", "made", "replaced"]
BUSY_TIMEOUT = 30  # seconds that SQLite waits for another writer, unless the URL says otherwise


def database_engine(database: Database, *, read_only: bool = False) -> Engine:
    """An Engine for ``database``; nothing is connected yet.

    ``read_only`` engines begin transactions that take no write lock. The ledger's tables are found in
    ``ledger_schema`` through the schema name ``ledger``.
    """
    url = database.sqlalchemy_url
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, read_only=read_only)
    # Off: it casts each value to the type of its column, which is left to the server here (NullType), and a cast to
    # bit(3) or varchar(3) cuts in silence what an INSERT refuses.
    options: dict[str, Any] = {"use_insertmanyvalues": False}
    if database.isolation_level is not None:
        options["isolation_level"] = database.isolation_level
    engine = create_engine(url, connect_args=_postgresql_arguments(url), hide_parameters=True, **options)
    event.listen(engine, "begin", _constraints_immediate)
    return engine.execution_options(schema_translate_map={"ledger": quoted_name(database.ledger_schema, quote=True)})


@contextmanager
def connected(
    database: Database, *, read_only: bool = False, missing_file: MissingFile = "refused"
) -> Iterator[Connection]:
    """One open connection to ``database``, closed on leaving.

    A SQLite file that is missing is refused, made, or replaced by an empty database in memory. Raises TargetUnavailable
    when there is no connection to be had, TargetError for whatever else the database says.
    """
    if missing_file != "made" and is_missing_file(database):
        database = _replaced(database, missing_file)
    engine = database_engine(database, read_only=read_only)
    try:
        with target_errors(engine.url), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def session_factory(connection: Connection) -> sessionmaker[Session]:
    """Sessions on one connection.

    Where the connection is already in a transaction (a dry run), a session's commit releases a savepoint of it:
    SQLAlchemy's "joining a session into an external transaction".
    """
    return sessionmaker(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")


def commit_unwaited(session: Session) -> None:
    """Commit the session's transaction without waiting until PostgreSQL's log of it is on disk.

    A crash of the server may take it back, whole, for some hundred milliseconds; never a part of it, and never when a
    later commit that is waited for has returned, as the log is written in order (PostgreSQL documentation,
    "Asynchronous Commit"). A database that knows no such commit makes a common one.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(sa.text("SET LOCAL synchronous_commit TO off"))
    session.commit()


def overwrite_what_is_deleted(connection: Connection) -> None:
    """SQLite leaves a deleted row's bytes in the file until they are needed (sqlite.org/pragma.html, "secure_delete").

    PostgreSQL's go with the next VACUUM, which is not ours to make.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")
        connection.rollback()


def is_lost(connection: Connection) -> bool:
    """Whether there is no server at the other end any more, as far as the driver knows."""
    if connection.closed or connection.invalidated:
        return True
    return bool(getattr(connection.connection.driver_connection, "closed", False))


def answers(connection: Connection) -> bool:
    """Whether the server still answers on a connection in whose transaction something has failed; it is rolled back.

    To be asked, and not the driver: a session that the server has ended while an ``executemany`` was sent leaves
    psycopg in its pipeline mode, with a connection that is open and of no use.
    """
    if is_lost(connection):
        return False
    driver: Any = connection.connection.driver_connection
    try:
        driver.rollback()
        connection.rollback()  # SQLAlchemy keeps a transaction whose COMMIT was refused
        driver.execute("SELECT 1")
        driver.rollback()
    except (connection.dialect.loaded_dbapi.Error, DBAPIError):
        connection.invalidate()
        return False
    return True


@contextmanager
def invalidated_when_lost(connection: Connection) -> Iterator[None]:
    """Tell SQLAlchemy of a connection that was lost inside, where it has not seen it: then a rollback asks nobody."""
    try:
        yield
    except BaseException:
        if is_lost(connection):
            connection.invalidate()
        raise


def _sqlite_engine(url: URL, *, read_only: bool) -> Engine:
    patience = {} if "timeout" in url.query else {"timeout": BUSY_TIMEOUT}
    engine = create_engine(url, connect_args=patience, hide_parameters=True)
    event.listen(engine, "connect", _own_transactions)
    event.listen(engine, "begin", _begin_deferred if read_only else begin_immediate)
    return engine.execution_options(schema_translate_map={"ledger": None})


def _own_transactions(connection: Any, _record: object) -> None:
    """Take BEGIN out of the driver's hands.

    By default sqlite3 begins no transaction before a SAVEPOINT, so that RELEASE commits: a row inserted inside
    ``begin_nested()`` would survive the rollback of the outer transaction (SQLAlchemy, "Pysqlite: serializable
    isolation / savepoints / transactional DDL"). Foreign keys are enforced per connection and only on request.
    """
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # Pages that do not fit are written before the commit, and the journal is synchronized to the disk before that
    # (sqlite.org/atomiccommit.html, "Cache Spill Prior To Commit").
    connection.execute(f"PRAGMA cache_size = -{SQLITE_CACHE}")


@contextmanager
def foreign_keys_checked(driver: Any) -> Iterator[None]:
    """The same on a connection that is somebody else's and is given back as it was."""
    isolation, (checked,) = driver.isolation_level, driver.execute("PRAGMA foreign_keys").fetchone()
    driver.isolation_level = None
    driver.execute("PRAGMA foreign_keys = ON")
    try:
        yield
    finally:
        with suppress(sqlite3.ProgrammingError):  # closed, when a call on it was interrupted
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            driver.execute(f"PRAGMA foreign_keys = {int(checked)}")
            driver.isolation_level = isolation


def begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: a later upgrade of a read lock fails without waiting (SQLITE_BUSY_SNAPSHOT)."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _constraints_immediate(connection: Connection) -> None:
    """Deferred constraints would fire at COMMIT, behind every savepoint, and refuse the good rows with the bad one."""
    connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")


def _postgresql_arguments(url: URL) -> dict[str, Any]:
    """Session settings that values depend on: a text without a time zone means the same on every server."""
    defaults = {"connect_timeout": CONNECT_TIMEOUT, "application_name": "etl", "client_encoding": "utf8"}
    defaults |= {f"keepalives_{name}": value for name, value in KEEPALIVES.items()}
    arguments = {key: value for key, value in defaults.items() if key not in url.query}
    settings = "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres"
    settings += "".join(f" -c tcp_keepalives_{name}={value}" for name, value in KEEPALIVES.items())
    given = url.query.get("options", "")
    return arguments | {"options": f"{settings} {given if isinstance(given, str) else ' '.join(given)}".rstrip()}


def is_missing_file(database: Database) -> bool:
    """Whether ``database`` is a SQLite file that is not there."""
    url = database.sqlalchemy_url
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or name in ("", ":memory:") or name.startswith("file:"):
        return False
    return not Path(name).is_file()


def _replaced(database: Database, missing_file: MissingFile) -> Database:
    """Connecting would make an empty file, and an empty database is not what anybody asked for."""
    if missing_file == "replaced":
        return database.model_copy(update={"url": "sqlite://"})
    remedy = "Create it and its tables, or have create = true make them, or correct the url."
    raise TargetUnavailable(f"There is no SQLite database {database.sqlalchemy_url.database}.", remedy)
