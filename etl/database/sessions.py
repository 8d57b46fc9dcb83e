"""How a load gets to its database: by a connection and sessions of its own, or by those that the caller has set up."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql import quoted_name

from etl.config import Database
from etl.database.engine import MissingFile, begin_immediate, connected, foreign_keys_checked, session_factory
from etl.database.refusals import target_errors
from etl.errors import ConfigError

Sessions = Callable[[], Session]
CallersSessions = sessionmaker[Any] | scoped_session[Any]

# What the texts of values depend on, as etl's own connections have it, until the end of the transaction.
_POSTGRESQL_BEGIN = (
    "SET LOCAL timezone TO 'UTC'; SET LOCAL datestyle TO 'ISO,YMD'; SET LOCAL intervalstyle TO 'postgres'; "
    "SET LOCAL client_encoding TO 'UTF8'; SET CONSTRAINTS ALL IMMEDIATE"
)
_GIVE = "Give a sessionmaker(engine), or a scoped_session of one, for SQLite or for PostgreSQL by psycopg."


class Access(Protocol):
    """The way to the database of a job."""

    def connected(self, missing_file: MissingFile = "refused") -> AbstractContextManager[Connection]:
        """One open connection, given back on leaving. Raises TargetUnavailable when there is none to be had.

        ``missing_file`` says what becomes of a SQLite file that is missing.
        """

    def sessions(self, connection: Connection) -> Sessions:
        """What makes sessions on the connection."""


@dataclass(frozen=True, slots=True)
class OwnAccess:
    """By the url of the config."""

    database: Database

    def connected(self, missing_file: MissingFile = "refused") -> AbstractContextManager[Connection]:
        return connected(self.database, missing_file=missing_file)

    def sessions(self, connection: Connection) -> Sessions:
        return session_factory(connection)


@dataclass(frozen=True, slots=True)
class CallersAccess:
    """By a connection of the pool of the caller's Engine, and by new sessions of the caller's class.

    The connection is given back as it was. What a load cannot do without is set for its time: on SQLite that BEGIN is
    not the driver's and that foreign keys are checked, on PostgreSQL what ``database_engine`` sets.
    """

    maker: sessionmaker[Any]
    engine: Engine
    database: Database

    @contextmanager
    def connected(self, missing_file: MissingFile = "refused") -> Iterator[Connection]:
        """A file that is missing is for the caller's Engine to make or to refuse."""
        with target_errors(self.engine.url), self._engine().connect() as connection:
            if self.database.isolation_level is not None:
                connection.execution_options(isolation_level=self.database.isolation_level)
            with _lent(connection):
                yield connection

    def sessions(self, connection: Connection) -> Sessions:
        def make() -> Session:
            session: Session = self.maker(
                bind=connection,
                autobegin=True,
                autoflush=True,
                expire_on_commit=False,
                join_transaction_mode="create_savepoint",
            )
            if session.get_bind() is not connection:
                raise ConfigError(
                    "The class of the sessions chooses its connection by itself (get_bind), and a load needs one.",
                    "Give sessions of a class that does not.",
                )
            return session

        return make

    def _engine(self) -> Engine:
        """The same pool by another Engine: hooks on it are not hooks on the caller's."""
        if isinstance(self.engine.pool, StaticPool):  # which rolls back for all when one gives the connection back
            _require_idle(self.engine.pool.connection.dbapi_connection)
        with self.engine.connect():  # the first one lets SQLAlchemy ask the server what it can do
            dialect: Any = copy.copy(self.engine.dialect)
        if dialect.name == "postgresql":  # for the reason that database_engine has
            dialect.use_insertmanyvalues = False
            vars(dialect).pop("insert_executemany_returning", None)
            vars(dialect).pop("insert_executemany_returning_sort_by_parameter_order", None)
        engine = Engine(self.engine.pool, dialect, self.engine.url, hide_parameters=True)
        event.listen(engine, "begin", begin_immediate if dialect.name == "sqlite" else _begin_on_postgresql)
        given = self.engine.get_execution_options()
        place = quoted_name(self.database.ledger_schema, quote=True) if dialect.name == "postgresql" else None
        translated = {**given.get("schema_translate_map", {}), "ledger": place}
        return engine.execution_options(**{**given, "schema_translate_map": translated})


def access_by(sessions: CallersSessions | None, database: Database) -> tuple[Access, Database]:
    """The way to the database by the caller's sessions, or by the config; and the database that this leads to.

    Raises ConfigError, in a sentence, for sessions that a load could not be made with.
    """
    if sessions is None:
        return OwnAccess(database), database
    maker: object = sessions.session_factory if isinstance(sessions, scoped_session) else sessions
    if not isinstance(maker, sessionmaker):
        raise ConfigError(f"sessions is of type {type(sessions).__name__}, which makes no sessions.", _GIVE)
    engine = _engine_of(maker)
    found = database.model_copy(update={"url": engine.url.render_as_string(hide_password=False)})
    return CallersAccess(maker, engine, found), found


def _engine_of(maker: sessionmaker[Any]) -> Engine:
    engine = maker.kw.get("bind")
    if isinstance(engine, Connection):
        raise ConfigError(
            "The sessions are bound to a Connection, whose transaction is the caller's, and a load makes commits.",
            _GIVE,
        )
    if not isinstance(engine, Engine):
        raise ConfigError("The sessions are not bound to an Engine.", _GIVE)
    if maker.kw.get("binds"):
        raise ConfigError("The sessions have several databases (binds), and a load has one connection.", _GIVE)
    if maker.kw.get("twophase"):
        raise ConfigError("The sessions commit in two phases (twophase), which a load does not.", _GIVE)
    if f"{engine.dialect.name}+{engine.dialect.driver}" not in ("sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigError(f"The sessions are for {engine.dialect.name} by {engine.dialect.driver}.", _GIVE)
    return engine


@contextmanager
def _lent(connection: Connection) -> Iterator[None]:
    """Set what a load needs on the driver's connection, and set it back."""
    driver: Any = connection.connection.driver_connection
    _require_idle(driver)
    if connection.dialect.name == "sqlite":
        with foreign_keys_checked(driver):
            yield
        return
    if driver.autocommit:
        raise ConfigError("The sessions' Engine is in AUTOCOMMIT: there would be no transaction to roll back.", _GIVE)
    factory, driver.row_factory = driver.row_factory, _tuple_rows()
    try:
        yield
    finally:
        driver.row_factory = factory


def _require_idle(driver: Any) -> None:
    """A pool of one connection gives it to everybody (StaticPool, SQLite in memory)."""
    if driver.in_transaction if hasattr(driver, "in_transaction") else driver.info.transaction_status:
        raise ConfigError(
            "The connection that the sessions' Engine has given is in a transaction of somebody else's.",
            "End it first, or give an Engine whose pool has more than one connection.",
        )


def _tuple_rows() -> Any:
    from psycopg.rows import tuple_row

    return tuple_row


def _begin_on_postgresql(connection: Connection) -> None:
    connection.exec_driver_sql(_POSTGRESQL_BEGIN)
