"""The one map from driver errors to ours, asked with errors that real databases have raised."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy import make_url

from etl.config import Database
from etl.database import Fate, connected, database_engine, fault_of, target_errors
from etl.errors import TargetError, TargetUnavailable
from etl.records import Reason
from tests.jobs import is_sqlite, run_sql

TABLES = (
    "CREATE TABLE customers (id INTEGER PRIMARY KEY)",
    """CREATE TABLE orders (
        id INTEGER PRIMARY KEY,
        code VARCHAR(8) NOT NULL CONSTRAINT uq_code UNIQUE,
        qty INTEGER CONSTRAINT ck_qty CHECK (qty > 0),
        customer INTEGER CONSTRAINT fk_cust REFERENCES customers (id),
        a INTEGER, b INTEGER, label VARCHAR(8),
        CONSTRAINT uq_pair UNIQUE (a, b)
    )""",
    "CREATE UNIQUE INDEX ux_lower ON orders (lower(label))",
    "CREATE UNIQUE INDEX ux_partial ON orders (a) WHERE qty = 77",
    "INSERT INTO orders VALUES (1, 'one', 1, NULL, 5, 6, 'one')",
)


@dataclass(frozen=True)
class Case:
    """A row that is refused, and what is expected of the error; SQLite names a unique constraint by its columns."""

    row: str
    reason: Reason
    sqlstate: str
    constraint: str | None = None
    column: str | None = None
    columns: tuple[str, ...] = ()
    is_named_on_sqlite: bool = False


CASES = {
    "primary key": Case("1, 'x', 1, NULL, 1, 1, NULL", Reason.UNIQUE, "23505", "orders_pkey", columns=("id",)),
    "unique": Case("2, 'one', 1, NULL, 1, 1, NULL", Reason.UNIQUE, "23505", "uq_code", columns=("code",)),
    "unique of two columns": Case("2, 'x', 1, NULL, 5, 6, NULL", Reason.UNIQUE, "23505", "uq_pair", columns=("a", "b")),
    "unique expression index": Case(
        "2, 'x', 1, NULL, 1, 1, 'ONE'", Reason.UNIQUE, "23505", "ux_lower", is_named_on_sqlite=True
    ),
    "not null": Case("2, NULL, 1, NULL, 1, 1, NULL", Reason.NOT_NULL, "23502", column="code"),
    "check": Case("2, 'x', 0, NULL, 1, 1, NULL", Reason.CHECK, "23514", "ck_qty", is_named_on_sqlite=True),
    "foreign key": Case("2, 'x', 1, 99, 1, 1, NULL", Reason.FOREIGN_KEY, "23503", "fk_cust"),
}
ON_EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


@pytest.fixture
def url(database_url: str) -> str:
    run_sql(database_url, *TABLES)
    return database_url


@contextlib.contextmanager
def raised(url: str, statement: str) -> Iterator[list[BaseException]]:
    """What etl's engine raises for a statement: as SQLAlchemy wraps it, and as the driver raised it."""
    with connected(Database(url=url)) as connection:
        with pytest.raises(sa.exc.DBAPIError) as error, connection.begin():
            connection.exec_driver_sql(statement)
        assert error.value.orig is not None
        yield [error.value, error.value.orig]


@ON_EACH_CASE
def test_broken_constraint_is_a_refusal_that_names_it(url: str, case: Case) -> None:
    with raised(url, f"INSERT INTO orders VALUES ({case.row})") as found:
        for error in found:
            fault = fault_of(error)
            assert (fault.fate, fault.reason, fault.sqlstate) == (Fate.REFUSE, case.reason, case.sqlstate)
            assert fault.column == case.column
            if not is_sqlite(url) or case.is_named_on_sqlite:
                assert fault.constraint == case.constraint
            else:
                assert (fault.constraint, fault.columns) == (None, case.columns)


@pytest.mark.parametrize("name", ["a b", 'qu"ote', "per%cent", "comma, comma"])
def test_not_null_names_columns_with_odd_names(database_url: str, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    run_sql(database_url, f"CREATE TABLE odd ({quoted} INTEGER NOT NULL)")
    with raised(database_url, "INSERT INTO odd VALUES (NULL)") as found:
        assert fault_of(found[0]).column == name


@pytest.mark.parametrize(
    ("expression", "reason", "sqlstate"),
    [
        ("'too long for it'::varchar(3)::text || repeat('x', 9)", Reason.TOO_LONG, "22001"),
        ("'not a number'", Reason.TYPE, "22P02"),
        ("'2023-02-29'", Reason.RANGE, "22008"),
        ("'99999999999'", Reason.RANGE, "22003"),
        ("'yesterdayish'", Reason.TYPE, "22007"),
        ("convert_from('\\xff', 'UTF8')", Reason.ENCODING, "22021"),
        ("(1 / 0)::text", Reason.DATA, "22012"),
    ],
)
def test_values_that_a_type_cannot_hold_are_refusals(
    postgres_url: str, expression: str, reason: Reason, sqlstate: str
) -> None:
    type_ = {"22001": "varchar(3)", "22P02": "integer", "22008": "date", "22003": "integer", "22007": "date"}
    run_sql(postgres_url, f"CREATE TABLE typed (value {type_.get(sqlstate, 'text')})")
    with raised(postgres_url, f"INSERT INTO typed VALUES ({expression})") as found:
        for error in found:
            fault = fault_of(error)
            assert (fault.fate, fault.reason, fault.sqlstate) == (Fate.REFUSE, reason, sqlstate)


def test_exclusion_constraint_is_a_reject_and_no_duplicate(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE booked (during int4range, CONSTRAINT ex_b EXCLUDE USING gist (during WITH &&))",
        "INSERT INTO booked VALUES ('[1,5]')",
    )
    with raised(postgres_url, "INSERT INTO booked VALUES ('[5,9]')") as found:
        fault = fault_of(found[0])
    assert (fault.fate, fault.reason, fault.sqlstate, fault.constraint) == (
        Fate.REFUSE,
        Reason.EXCLUSION,
        "23P01",
        "ex_b",
    )


def test_row_that_no_partition_takes_is_refused(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE parts (id INTEGER) PARTITION BY LIST (id)")
    with raised(postgres_url, "INSERT INTO parts VALUES (1)") as found:
        fault = fault_of(found[0])
    assert (fault.fate, fault.reason, fault.sqlstate) == (Fate.REFUSE, Reason.CHECK, "23514")


def test_strict_table_of_sqlite_refuses_a_wrong_type(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE strictly (id INT) STRICT")
    with raised(sqlite_url, "INSERT INTO strictly VALUES ('abc')") as found:
        fault = fault_of(found[0])
    assert (fault.fate, fault.reason, fault.sqlstate) == (Fate.REFUSE, Reason.TYPE, "22P02")


def test_text_in_an_integer_primary_key_of_sqlite_is_a_wrong_type(sqlite_url: str) -> None:
    run_sql(sqlite_url, *TABLES)
    with raised(sqlite_url, "INSERT INTO customers VALUES ('abc')") as found:
        fault = fault_of(found[0])
    assert (fault.fate, fault.reason, fault.sqlstate) == (Fate.REFUSE, Reason.TYPE, "22P02")


@pytest.mark.parametrize("action", ["ABORT", "FAIL"])
def test_trigger_that_raises_on_sqlite_refuses_the_row(sqlite_url: str, action: str) -> None:
    run_sql(
        sqlite_url,
        *TABLES,
        f"CREATE TRIGGER no BEFORE INSERT ON customers BEGIN SELECT RAISE({action}, 'not this one'); END",
    )
    with raised(sqlite_url, "INSERT INTO customers VALUES (1)") as found:
        fault = fault_of(found[0])
    assert (fault.fate, fault.reason, fault.sqlstate) == (Fate.REFUSE, Reason.CONSTRAINT, "23000")
    assert fault.message == "not this one"


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT no_such_column FROM orders", "42703"),
        ("this is no SQL", "42601"),
        ("DO $$ BEGIN RAISE EXCEPTION 'mine'; END $$", "P0001"),
        ("DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'ZZ999'; END $$", "ZZ999"),
        ("DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = '25006'; END $$", "25006"),
    ],
)
def test_other_errors_of_postgresql_are_the_end_and_refuse_no_row(
    postgres_url: str, statement: str, sqlstate: str
) -> None:
    run_sql(postgres_url, *TABLES)
    with raised(postgres_url, statement) as found:
        for error in found:
            fault = fault_of(error)
            assert (fault.fate, fault.sqlstate) == (Fate.FAIL, sqlstate)


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "this is no SQL", "INSERT INTO fixed VALUES (1)"])
def test_other_errors_of_sqlite_are_the_end_and_refuse_no_row(sqlite_url: str, statement: str) -> None:
    run_sql(sqlite_url, *TABLES, "CREATE VIEW fixed AS SELECT 1")
    with raised(sqlite_url, statement) as found:
        for error in found:
            assert fault_of(error).fate is Fate.FAIL


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), RuntimeError("no"), sqlite3.ProgrammingError("misuse"), psycopg.ProgrammingError("misuse")],
    ids=lambda error: f"{type(error).__module__} {error!r}",
)
def test_errors_that_nobody_knows_are_the_end(error: Exception) -> None:
    assert fault_of(error).fate is Fate.FAIL


@pytest.mark.parametrize(
    "class_",
    [
        errors.ConnectionException,  # 08000
        errors.ConnectionFailure,  # 08006
        errors.SerializationFailure,  # 40001
        errors.DeadlockDetected,  # 40P01
        errors.DiskFull,  # 53100
        errors.TooManyConnections,  # 53300
        errors.AdminShutdown,  # 57P01
        errors.CrashShutdown,  # 57P02
        errors.CannotConnectNow,  # 57P03
    ],
    ids=lambda class_: str(class_.sqlstate),
)
def test_passing_faults_are_told_by_their_class(class_: Any) -> None:
    fault = fault_of(class_("the server's words, in whatever language"))
    assert (fault.fate, fault.sqlstate) == (Fate.RETRY, class_.sqlstate)


@pytest.mark.parametrize(
    ("class_", "fate"),
    [
        (errors.OutOfMemory, Fate.RETRY),  # 53200
        (errors.QueryCanceled, Fate.RETRY),  # 57014: statement_timeout
        (errors.OperatorIntervention, Fate.FAIL),  # 57000
        (errors.DatabaseDropped, Fate.FAIL),  # 57P04
        (errors.LockNotAvailable, Fate.RETRY),  # 55P03: lock_timeout
        (errors.ObjectInUse, Fate.FAIL),  # 55006
        (errors.IdleInTransactionSessionTimeout, Fate.RETRY),  # 25P03
        (errors.TransactionTimeout, Fate.RETRY),  # 25P04
        (errors.InFailedSqlTransaction, Fate.FAIL),  # 25P02
        (errors.ReadOnlySqlTransaction, Fate.FAIL),  # 25006
        (errors.InsufficientPrivilege, Fate.FAIL),  # 42501
    ],
    ids=lambda value: str(getattr(value, "sqlstate", "")) or value.name,
)
def test_limits_on_time_pass_and_their_neighbours_do_not(class_: Any, fate: Fate) -> None:
    assert fault_of(class_("no")).fate is fate


def test_ended_connection_is_a_passing_fault(postgres_url: str) -> None:
    engine = database_engine(Database(url=postgres_url))
    with engine.connect() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        run_sql(postgres_url, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(sa.exc.DBAPIError) as error:
            connection.execute(sa.text("SELECT 1"))
        assert fault_of(error.value).fate is Fate.RETRY
        connection.invalidate()
    engine.dispose()


def test_locked_sqlite_database_is_a_passing_fault(sqlite_url: str) -> None:
    run_sql(sqlite_url, *TABLES)
    path = make_url(sqlite_url).database or ""
    first, second = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2))
    first.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as error:
        second.execute("BEGIN IMMEDIATE")
    assert fault_of(error.value).fate is Fate.RETRY
    first.close()
    second.close()


def test_passing_fault_leaves_as_unavailable_and_others_as_errors_of_the_target() -> None:
    url = make_url("postgresql://me:hidden@db/shop")
    with pytest.raises(TargetUnavailable, match=r"SQLSTATE 57P01"), target_errors(url):
        raise errors.AdminShutdown("bye")
    with pytest.raises(TargetError, match=r"no permission: .*SQLSTATE 42501.*Grant it") as failed, target_errors(url):
        raise errors.InsufficientPrivilege("permission denied for table orders")
    assert not isinstance(failed.value, TargetUnavailable)


def test_decision_does_not_depend_on_the_language_of_the_server() -> None:
    fault = fault_of(errors.UniqueViolation("doppelter Schlüsselwert verletzt Unique-Constraint »orders_pkey«"))
    assert (fault.fate, fault.reason, fault.sqlstate) == (Fate.REFUSE, Reason.UNIQUE, "23505")
