"""The contract of the writers: every method ends with the rows and verdicts of the reference loop.

Each test writes its expectation out by hand, and every method has to meet it on every database.
"""

from __future__ import annotations

import gc
import sqlite3
import textwrap
import uuid
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

import etl
from etl.config import Method
from etl.database import session_factory
from etl.errors import TargetError, TargetMismatch
from etl.records import Reason, Verdict
from etl.writers import choose_writer
from etl.writers.row import CoreRowWriter, RowWriter
from tests.jobs import METHODS, Row, fetch, is_sqlite, mapped_batch, opened_target, run_sql, write_rows

EACH_METHOD = pytest.mark.parametrize("method", METHODS)

WRITTEN = "written"


def ids(*values: int | None) -> list[Row]:
    return [{"id": value} for value in values]


# Keys


def test_duplicates_in_the_file_and_against_the_table_are_told_and_the_first_wins(database_url: str) -> None:
    run_sql(
        database_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(20))",
        "INSERT INTO t VALUES (1, 'was there')",
    )
    rows: list[Row] = [
        {"id": i, "name": n} for i, n in [(1, "one"), (2, "two"), (2, "two again"), (3, "three"), (1, "one again")]
    ]
    written = write_rows(database_url, rows)
    assert written.verdicts == ["unique t_pkey", WRITTEN, "unique t_pkey", WRITTEN, "unique t_pkey"]
    assert {refusal.verdict for refusal in written.refusals.values()} == {Verdict.DUPLICATE}
    assert {refusal.sqlstate for refusal in written.refusals.values()} == {"23505"}
    assert fetch(database_url, "SELECT id, name FROM t ORDER BY id") == [(1, "was there"), (2, "two"), (3, "three")]


@pytest.mark.parametrize("size", [1, 2, 3, None])
def test_each_unique_key_is_named_whatever_the_size_of_the_batches(database_url: str, size: int | None) -> None:
    run_sql(
        database_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code VARCHAR(9), a INTEGER, b INTEGER, UNIQUE (a, b),"
        " CONSTRAINT uq_code UNIQUE (code))",
        "CREATE UNIQUE INDEX ux_a ON t (a)",
    )
    rows: list[Row] = [
        {"id": 1, "code": "x", "a": 1, "b": 1},
        {"id": 2, "code": "x", "a": 2, "b": 2},
        {"id": 3, "code": "y", "a": 1, "b": 3},
        {"id": 1, "code": "z", "a": 4, "b": 4},
        {"id": 5, "code": "v", "a": 5, "b": 1},
    ]
    written = write_rows(database_url, rows, size=size)
    assert written.verdicts == [WRITTEN, "unique uq_code", "unique ux_a", "unique t_pkey", WRITTEN]
    assert fetch(database_url, "SELECT id FROM t ORDER BY id") == [(1,), (5,)]


def test_unnamed_constraints_have_the_names_that_postgresql_gives(database_url: str) -> None:
    run_sql(
        database_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (a INTEGER REFERENCES p (id), b INTEGER UNIQUE, c INTEGER, d INTEGER, PRIMARY KEY (c, d))",
    )
    first: dict[str, object] = {"a": None, "b": 1, "c": 1, "d": 1}
    rows: list[Row] = [first, first | {"b": 2}, first | {"d": 2}, first | {"b": 3, "d": 3, "a": 9}]
    assert write_rows(database_url, rows).verdicts == [
        WRITTEN,
        "unique t_pkey",
        "unique t_b_key",
        "foreign_key t_a_fkey",
    ]


def test_nulls_in_a_unique_key_are_never_equal(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, UNIQUE (a, b))")
    pairs = [(None, None), (None, None), (1, None), (1, None), (1, 2), (1, 2)]
    rows: list[Row] = [{"id": number, "a": a, "b": b} for number, (a, b) in enumerate(pairs)]
    assert write_rows(database_url, rows).verdicts == [WRITTEN] * 5 + ["unique t_a_b_key"]


def test_nulls_not_distinct_are_equal(postgres_url: str) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, UNIQUE NULLS NOT DISTINCT (a))")
    rows: list[Row] = [{"id": 1, "a": None}, {"id": 2, "a": None}]
    assert write_rows(postgres_url, rows).verdicts == [WRITTEN, "unique t_a_key"]


@pytest.mark.parametrize("type_", ["INTEGER", "BIGINT", "VARCHAR(9)"])
def test_null_primary_key_is_refused(database_url: str, type_: str) -> None:
    run_sql(database_url, f"CREATE TABLE t (id {type_} PRIMARY KEY, n INTEGER)")
    rows: list[Row] = [{"id": "1", "n": 1}, {"id": None, "n": 2}, {"id": "3", "n": 3}, {"id": None, "n": 4}]
    written = write_rows(database_url, rows)
    assert written.verdicts == [WRITTEN, "not_null id", WRITTEN, "not_null id"]
    assert written.refusals[1].sqlstate == "23502"
    assert fetch(database_url, "SELECT n FROM t ORDER BY n") == [(1,), (3,)]


def test_null_in_a_part_of_the_primary_key_is_refused(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (a INTEGER, b INTEGER, PRIMARY KEY (a, b))")
    rows: list[Row] = [{"a": 1, "b": None}, {"a": None, "b": 1}, {"a": None, "b": None}, {"a": 1, "b": 1}]
    assert write_rows(database_url, rows).verdicts == ["not_null b", "not_null a", "not_null a", WRITTEN]


def test_primary_key_that_the_source_does_not_give_is_refused_where_nobody_fills_it_in(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (id VARCHAR(9) PRIMARY KEY, n INTEGER)")
    assert write_rows(database_url, [{"n": 1}, {"n": 2}]).verdicts == ["not_null id", "not_null id"]
    assert fetch(database_url, "SELECT count(*) FROM t") == [(0,)]


def test_primary_key_that_the_database_generates_is_filled_in(database_url: str) -> None:
    type_ = "INTEGER" if is_sqlite(database_url) else "SERIAL"
    run_sql(database_url, f"CREATE TABLE t (id {type_} PRIMARY KEY, n INTEGER)")
    assert write_rows(database_url, [{"n": 7}, {"n": 8}]).verdicts == [WRITTEN, WRITTEN]
    found = fetch(database_url, "SELECT id, n FROM t ORDER BY id")
    assert [n for _, n in found] == [7, 8]
    assert found[1][0] == found[0][0] + 1


def test_key_equality_is_the_databases(database_url: str) -> None:
    """1.0 = 1.00, -0.0 = 0.0, and a padded char is equal to one that is not."""
    run_sql(database_url, "CREATE TABLE t (n NUMERIC(6, 2) UNIQUE, d DOUBLE PRECISION UNIQUE, c CHAR(3) UNIQUE)")
    rows: list[Row] = [
        {"n": "1.0", "d": "0.0", "c": "a"},
        {"n": "1.00", "d": "7", "c": "x"},
        {"n": "2", "d": "-0.0", "c": "y"},
        {"n": "3", "d": "8", "c": "a  "},
        {"n": "4", "d": "9", "c": "A"},
    ]
    expected = [WRITTEN, "unique t_n_key", "unique t_d_key", "unique t_c_key", WRITTEN]
    assert write_rows(database_url, rows).verdicts == expected


def test_citext_partial_and_expression_keys_are_the_databases(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE EXTENSION citext",
        "CREATE TABLE t (c citext UNIQUE, e text, p integer, live boolean)",
        "CREATE UNIQUE INDEX ux_e ON t (lower(e))",
        "CREATE UNIQUE INDEX ux_p ON t (p) WHERE live",
    )
    rows: list[Row] = [
        {"c": "a", "e": "a", "p": 1, "live": "true"},
        {"c": "A", "e": "b", "p": 2, "live": "true"},
        {"c": "b", "e": "A", "p": 3, "live": "true"},
        {"c": "c", "e": "c", "p": 1, "live": "false"},
        {"c": "d", "e": "d", "p": 1, "live": "true"},
    ]
    expected = [WRITTEN, "unique t_c_key", "unique ux_e", WRITTEN, "unique ux_p"]
    assert write_rows(postgres_url, rows).verdicts == expected


def test_later_row_is_written_when_the_key_holder_is_refused_itself(database_url: str) -> None:
    run_sql(
        database_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p (id), n INTEGER NOT NULL,"
        " CONSTRAINT ck_n CHECK (n > 0))",
        "INSERT INTO p VALUES (1)",
    )
    rows: list[Row] = [
        {"id": 1, "p": 99, "n": 1},
        {"id": 1, "p": 1, "n": 0},
        {"id": 1, "p": 1, "n": None},
        {"id": 1, "p": 1, "n": 4},
        {"id": 1, "p": 1, "n": 5},
    ]
    written = write_rows(database_url, rows)
    assert written.verdicts == ["foreign_key t_p_fkey", "check ck_n", "not_null n", WRITTEN, "unique t_pkey"]
    assert fetch(database_url, "SELECT id, n FROM t") == [(1, 4)]


# Foreign keys


def test_foreign_keys_are_named(database_url: str) -> None:
    run_sql(
        database_url,
        "CREATE TABLE p (a INTEGER, b INTEGER, PRIMARY KEY (a, b))",
        "CREATE TABLE q (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, q INTEGER,"
        " CONSTRAINT fk_p FOREIGN KEY (a, b) REFERENCES p (a, b), CONSTRAINT fk_q FOREIGN KEY (q) REFERENCES q (id))",
        "INSERT INTO p VALUES (1, 2)",
        "INSERT INTO q VALUES (3)",
    )
    rows: list[Row] = [
        {"id": 1, "a": 1, "b": 2, "q": 3},
        {"id": 2, "a": 1, "b": 2, "q": 4},
        {"id": 3, "a": 1, "b": 3, "q": 3},
        {"id": 4, "a": 1, "b": None, "q": 3},
        {"id": 5, "a": None, "b": None, "q": None},
    ]
    written = write_rows(database_url, rows)
    assert written.verdicts == [WRITTEN, "foreign_key fk_q", "foreign_key fk_p", WRITTEN, WRITTEN]
    assert written.refusals[1].sqlstate == "23503"


def test_child_before_its_parent_in_the_file_is_refused(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (id))")
    pairs = [(2, 1), (1, None), (3, 1), (4, 4), (5, 2), (6, 3)]
    rows: list[Row] = [{"id": id_, "parent": parent} for id_, parent in pairs]
    refused = "foreign_key t_parent_fkey"
    assert write_rows(database_url, rows).verdicts == [refused, WRITTEN, WRITTEN, WRITTEN, refused, WRITTEN]
    assert fetch(database_url, "SELECT id FROM t ORDER BY id") == [(1,), (3,), (4,), (6,)]


@pytest.mark.parametrize("first", ["q", "parent"])
def test_row_that_is_its_own_parent_and_breaks_another_key_names_the_other_key(database_url: str, first: str) -> None:
    keys = [
        "CONSTRAINT fk_q FOREIGN KEY (q) REFERENCES q (id)",
        "CONSTRAINT fk_self FOREIGN KEY (parent) REFERENCES t (id)",
    ]
    ordered = ", ".join(keys if first == "q" else reversed(keys))
    run_sql(
        database_url,
        "CREATE TABLE q (id INTEGER PRIMARY KEY)",
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER, q INTEGER, {ordered})",
    )
    rows: list[Row] = [{"id": 1, "parent": 1, "q": 9}, {"id": 1, "parent": 1, "q": None}]
    assert write_rows(database_url, rows).verdicts == ["foreign_key fk_q", WRITTEN]


def test_deferrable_constraints_are_checked_row_by_row(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY DEFERRABLE INITIALLY DEFERRED,"
        " p INTEGER REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO p VALUES (1)",
    )
    rows: list[Row] = [{"id": 1, "p": 1}, {"id": 1, "p": 1}, {"id": 2, "p": 9}, {"id": 3, "p": None}]
    assert write_rows(postgres_url, rows).verdicts == [
        WRITTEN,
        "unique t_pkey",
        "foreign_key t_p_fkey",
        WRITTEN,
    ]
    assert fetch(postgres_url, "SELECT id FROM t ORDER BY id") == [(1,), (3,)]


@EACH_METHOD
@pytest.mark.parametrize(
    "column",
    [
        "p INTEGER REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED",
        "p INTEGER REFERENCES p DEFERRABLE INITIALLY DEFERRED",
        "p INTEGER, FOREIGN KEY (p) REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED",
        'p INTEGER, CONSTRAINT "a b" FOREIGN KEY (p) REFERENCES p (id)\n DEFERRABLE  INITIALLY\tDEFERRED',
    ],
)
def test_foreign_key_that_sqlite_would_check_at_commit_is_refused_before_anything_is_written(
    sqlite_url: str, method: Method, column: str
) -> None:
    run_sql(sqlite_url, "CREATE TABLE p (id INTEGER PRIMARY KEY)", f"CREATE TABLE t (id INTEGER, {column})")
    with pytest.raises(TargetMismatch, match="INITIALLY DEFERRED"):
        write_rows(sqlite_url, [{"id": 1, "p": 9}], methods=[method])


def test_deferrable_foreign_key_that_is_immediate_is_fine_on_sqlite(sqlite_url: str) -> None:
    run_sql(
        sqlite_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (p INTEGER REFERENCES p (id) DEFERRABLE INITIALLY IMMEDIATE)",
    )
    assert write_rows(sqlite_url, [{"p": 9}]).verdicts == ["foreign_key t_p_fkey"]


# Which row of a piece fails


@EACH_METHOD
@pytest.mark.parametrize("count", [1, 2, 17, 24])
def test_one_bad_row_costs_no_other_wherever_it_is(database_url: str, method: Method, count: int) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, place INTEGER, CONSTRAINT ck CHECK (place <> 0))")
    with opened_target(database_url) as (connection, target):
        writer = choose_writer(target, method).writer
        for place in range(count):
            rows = [{"id": number, "place": number - place} for number in range(count)]
            with session_factory(connection)() as session:
                outcome = writer.write(session, mapped_batch(target, rows))
                found = session.scalars(sa.text("SELECT id FROM t ORDER BY id")).all()
                session.rollback()
            assert [refusal.index for refusal in outcome.refusals] == [place]
            assert found == [number for number in range(count) if number != place]


def test_every_row_may_be_bad(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER NOT NULL)")
    written = write_rows(database_url, [{"id": None}] * 37)
    assert written.verdicts == ["not_null id"] * 37
    assert fetch(database_url, "SELECT count(*) FROM t") == [(0,)]


@EACH_METHOD
def test_error_that_is_no_fault_of_a_row_ends_the_writing(database_url: str, method: Method) -> None:
    """The table loses a column behind etl's back: that must not be told as rejects."""
    run_sql(database_url, "CREATE TABLE t (id INTEGER, n INTEGER)")
    with opened_target(database_url) as (connection, target), session_factory(connection)() as session:
        batch = mapped_batch(target, [{"id": 1, "n": 1}])
        run_sql(database_url, "ALTER TABLE t DROP COLUMN n")
        with pytest.raises((sa.exc.DBAPIError, psycopg.Error, sqlite3.OperationalError)):
            choose_writer(target, method).writer.write(session, batch)
        session.rollback()
    assert fetch(database_url, "SELECT count(*) FROM t") == [(0,)]


@EACH_METHOD
@pytest.mark.parametrize("clause", ["UNIQUE ON CONFLICT ROLLBACK", "NOT NULL ON CONFLICT ROLLBACK"])
def test_constraint_that_rolls_sqlite_back_is_the_end_and_nothing_is_committed(
    sqlite_url: str, method: Method, clause: str
) -> None:
    run_sql(sqlite_url, f"CREATE TABLE t (id INTEGER {clause})")
    with pytest.raises(TargetError):
        write_rows(sqlite_url, [*ids(1, 1), *ids(None), *ids(2)], methods=[method])
    assert fetch(sqlite_url, "SELECT count(*) FROM t") == [(0,)]


# Tables that are out of the ordinary


def test_table_without_a_primary_key_is_written_row_by_row(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (n INTEGER, CONSTRAINT ck_n CHECK (n < 9))")
    rows: list[Row] = [{"n": n} for n in (1, 1, 9, None, 2)]
    assert write_rows(database_url, rows).verdicts == [WRITTEN, WRITTEN, "check ck_n", WRITTEN, WRITTEN]
    assert sorted(fetch(database_url, "SELECT coalesce(n, 0) FROM t")) == [(0,), (1,), (1,), (2,)]


def test_reference_uses_the_orm_where_there_is_a_key_and_core_where_there_is_none(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (n INTEGER)", "CREATE TABLE k (n INTEGER PRIMARY KEY)")
    for table, expected in (("t", CoreRowWriter), ("k", RowWriter)):
        with opened_target(database_url, table) as (_, target):
            assert isinstance(choose_writer(target, "row").writer, expected)


def test_association_table_is_written(database_url: str) -> None:
    run_sql(
        database_url,
        "CREATE TABLE a (id INTEGER PRIMARY KEY)",
        "CREATE TABLE b (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (a_id INTEGER REFERENCES a (id), b_id INTEGER REFERENCES b (id), PRIMARY KEY (a_id, b_id))",
        "INSERT INTO a VALUES (1), (2)",
        "INSERT INTO b VALUES (1), (2)",
    )
    rows: list[Row] = [{"a_id": a, "b_id": b} for a, b in [(1, 1), (1, 2), (1, 1), (3, 1), (2, 3), (2, 2)]]
    assert write_rows(database_url, rows).verdicts == [
        WRITTEN,
        WRITTEN,
        "unique t_pkey",
        "foreign_key t_a_id_fkey",
        "foreign_key t_b_id_fkey",
        WRITTEN,
    ]


ODD_NAMES = [
    "metadata",
    "registry",
    "_x",
    "__init__",
    "_sa_instance_state",
    "self",
    "cls",
    "values",
    "a b",
    'qu"ote',
    "quo'te",
    "per%cent",
    "%s",
    "col:on",
    ":id",
    "dot.ted",
    "par(en)s",
    "[brackets]",
    "Größe",
    "SELECT",
    "CamelCase",
    "back\\slash",
    "?",
    "1st",
]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_columns_may_have_any_name(database_url: str) -> None:
    columns = ", ".join(f"{quoted(name)} INTEGER" for name in ODD_NAMES)
    run_sql(database_url, f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns})")
    rows: list[Row] = [
        {"id": number} | {name: place * number for place, name in enumerate(ODD_NAMES)} for number in (1, 1, 2)
    ]
    assert write_rows(database_url, rows).verdicts == [WRITTEN, "unique t_pkey", WRITTEN]
    chosen = ", ".join(map(quoted, ODD_NAMES))
    assert fetch(database_url, f"SELECT {chosen} FROM t WHERE id = 2") == [tuple(range(0, 2 * len(ODD_NAMES), 2))]


@pytest.mark.newest_is_enough
def test_key_columns_and_tables_may_have_any_name(database_url: str) -> None:
    run_sql(
        database_url,
        *(
            f"CREATE TABLE {quoted(f't{name}')} ({quoted(name)} INTEGER PRIMARY KEY,"
            f" parent INTEGER, CONSTRAINT fk FOREIGN KEY (parent) REFERENCES {quoted(f't{name}')} ({quoted(name)}))"
            for name in ODD_NAMES
        ),
    )
    for name in ODD_NAMES:
        rows = [{name: key, "parent": parent} for key, parent in [(1, None), (1, None), (2, 1), (3, 9)]]
        written = write_rows(database_url, rows, f"t{name}")
        assert [verdict.split()[0] for verdict in written.verdicts] == [WRITTEN, "unique", WRITTEN, "foreign_key"]
        if not is_sqlite(database_url) or '"' not in name:  # SQLAlchemy does not read the name off such SQL
            assert written.refusals[3].constraint == "fk"
        assert fetch(database_url, f"SELECT {quoted(name)} FROM {quoted(f't{name}')} ORDER BY 1") == [(1,), (2,)]


def test_table_in_another_schema_is_written(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE SCHEMA sales",
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE sales.p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE sales.t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES sales.p (id))",
        "INSERT INTO sales.p VALUES (1)",
    )
    rows: list[Row] = [{"id": 1, "p": 1}, {"id": 2, "p": 2}]
    assert write_rows(postgres_url, rows, "sales.t").verdicts == [WRITTEN, "foreign_key t_p_fkey"]


def test_identity_generated_and_serial_columns_are_the_databases(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n INTEGER,"
        " twice INTEGER GENERATED ALWAYS AS (n * 2) STORED, s SERIAL, free INTEGER GENERATED BY DEFAULT AS IDENTITY)",
    )
    rows: list[Row] = [{"n": 1, "free": 70}, {"n": 2, "free": None}, {"n": 3, "free": 80}]
    assert write_rows(postgres_url, rows).verdicts == [WRITTEN, "not_null free", WRITTEN]
    assert fetch(postgres_url, "SELECT n, twice, free, id > 0, s > 0 FROM t ORDER BY n") == [
        (1, 2, 70, True, True),
        (3, 6, 80, True, True),
    ]


def test_generated_columns_of_sqlite_are_the_databases(sqlite_url: str) -> None:
    run_sql(
        sqlite_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, v INTEGER GENERATED ALWAYS AS (n * 2) VIRTUAL,"
        " s INTEGER AS (n * 3) STORED UNIQUE)",
    )
    rows: list[Row] = [{"id": 1, "n": 1}, {"id": 2, "n": 1}, {"id": 3, "n": 3}]
    assert write_rows(sqlite_url, rows).verdicts == [WRITTEN, "unique t_s_key", WRITTEN]
    assert fetch(sqlite_url, "SELECT * FROM t ORDER BY id") == [(1, 1, 2, 3), (3, 3, 6, 9)]


def test_null_in_a_column_with_a_default_stays_null_and_a_column_not_given_has_its_default(database_url: str) -> None:
    run_sql(
        database_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER DEFAULT 7, s VARCHAR(9) DEFAULT 'none',"
        " other INTEGER DEFAULT 5, must INTEGER DEFAULT 3 NOT NULL)",
    )
    rows: list[Row] = [
        {"id": 1, "n": None, "s": None, "must": 1},
        {"id": 2, "n": 2, "s": "", "must": 1},
        {"id": 3, "n": 3, "s": "x", "must": None},
    ]
    assert write_rows(database_url, rows).verdicts == [WRITTEN, WRITTEN, "not_null must"]
    assert fetch(database_url, "SELECT id, n, s, other FROM t ORDER BY id") == [(1, None, None, 5), (2, 2, "", 5)]


def test_tables_of_one_column_and_of_defaults_only_are_written(database_url: str) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    assert write_rows(database_url, ids(1, 2, 1)).verdicts == [WRITTEN, WRITTEN, "unique t_pkey"]


@EACH_METHOD
def test_rows_go_through_a_view_to_its_table(postgres_url: str, method: Method) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE base (id INTEGER PRIMARY KEY, n INTEGER)",
        "CREATE VIEW t AS SELECT id, n FROM base WHERE n > 0 WITH CHECK OPTION",
    )
    rows: list[Row] = [{"id": 1, "n": 1}, {"id": 1, "n": 2}, {"id": 2, "n": 2}]
    assert write_rows(postgres_url, rows, methods=[method]).verdicts == [WRITTEN, "unique base_pkey", WRITTEN]
    with pytest.raises(TargetError, match="SQLSTATE 44000"):  # no class of refusals: the unknown is never skipped
        write_rows(postgres_url, [{"id": 3, "n": 0}], methods=[method])


def test_rows_go_through_the_instead_of_trigger_of_a_view(database_url: str) -> None:
    run_sql(
        database_url, "CREATE TABLE base (id INTEGER PRIMARY KEY, n INTEGER)", "CREATE VIEW t AS SELECT id, n FROM base"
    )
    if is_sqlite(database_url):
        run_sql(
            database_url,
            "CREATE TRIGGER go INSTEAD OF INSERT ON t BEGIN INSERT INTO base VALUES (new.id, new.n * 10); END",
        )
    else:
        run_sql(
            database_url,
            "CREATE FUNCTION go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO base VALUES (new.id, new.n * 10); RETURN new; END $$",
            "CREATE TRIGGER go INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION go()",
        )
    rows: list[Row] = [{"id": 1, "n": 1}, {"id": 1, "n": 2}, {"id": 2, "n": 2}]
    verdicts = write_rows(database_url, rows).verdicts
    assert [verdict.split()[0] for verdict in verdicts] == [WRITTEN, "unique", WRITTEN]
    assert fetch(database_url, "SELECT id, n FROM base ORDER BY id") == [(1, 10), (2, 20)]


def test_rows_go_to_their_partitions(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER, year INTEGER, PRIMARY KEY (id, year)) PARTITION BY LIST (year)",
        "CREATE TABLE t23 PARTITION OF t FOR VALUES IN (2023)",
        "CREATE TABLE t24 PARTITION OF t FOR VALUES IN (2024)",
    )
    rows: list[Row] = [{"id": 1, "year": year} for year in (2023, 2024, 2025, 2024)]
    written = write_rows(postgres_url, rows)
    assert [written.refusals[2].reason, written.refusals[3].reason] == [Reason.CHECK, Reason.UNIQUE]
    assert written.verdicts[:2] == [WRITTEN, WRITTEN]
    assert fetch(postgres_url, "SELECT year FROM t24") == [(2024,)]


# Triggers


def before_insert(body: str) -> tuple[str, str]:
    return (
        f"CREATE FUNCTION mend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN new; END $$",
        "CREATE TRIGGER mend BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION mend()",
    )


def test_before_trigger_may_change_keys_and_fill_in_nulls(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
        *before_insert("new.id := new.id % 10; new.n := coalesce(new.n, 0);"),
    )
    rows: list[Row] = [{"id": 1, "n": 1}, {"id": 11, "n": 2}, {"id": 12, "n": None}, {"id": 3, "n": 3}]
    assert write_rows(postgres_url, rows).verdicts == [WRITTEN, "unique t_pkey", WRITTEN, WRITTEN]
    assert fetch(postgres_url, "SELECT id, n FROM t ORDER BY id") == [(1, 1), (2, 0), (3, 3)]


def test_before_trigger_may_fill_in_the_key(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id VARCHAR(9) PRIMARY KEY, n INTEGER)",
        *before_insert("new.id := 'k' || new.n;"),
    )
    assert write_rows(postgres_url, [{"n": 1}, {"n": 1}, {"n": 2}]).verdicts == [
        WRITTEN,
        "unique t_pkey",
        WRITTEN,
    ]
    assert fetch(postgres_url, "SELECT id FROM t ORDER BY id") == [("k1",), ("k2",)]


@pytest.mark.parametrize("key", ["id INTEGER PRIMARY KEY", "id INTEGER", "no SERIAL PRIMARY KEY, id INTEGER"])
def test_before_trigger_may_drop_a_row_without_a_word(postgres_url: str, key: str) -> None:
    run_sql(
        postgres_url,
        f"CREATE TABLE t ({key})",
        *before_insert("IF new.id = 2 THEN RETURN NULL; END IF;"),
    )
    assert write_rows(postgres_url, ids(1, 2, 3)).verdicts == [WRITTEN, WRITTEN, WRITTEN]
    assert fetch(postgres_url, "SELECT id FROM t ORDER BY id") == [(1,), (3,)]


def test_after_trigger_refuses_the_row_that_fires_it(postgres_url: str) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        "CREATE FUNCTION full_() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM t) > 2 THEN RAISE EXCEPTION 'full' USING ERRCODE = '23000'; END IF;"
        " RETURN NULL; END $$",
        "CREATE TRIGGER full_ AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION full_()",
    )
    written = write_rows(postgres_url, ids(1, 1, 2, 3, 4))
    assert written.verdicts == [WRITTEN, "unique t_pkey", WRITTEN, "constraint ?", "constraint ?"]
    assert fetch(postgres_url, "SELECT id FROM t ORDER BY id") == [(1,), (2,)]


@EACH_METHOD
def test_trigger_that_raises_an_unknown_error_ends_the_writing(postgres_url: str, method: Method) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        *before_insert("IF new.id = 2 THEN RAISE EXCEPTION 'no'; END IF;"),
    )
    with pytest.raises(TargetError, match="SQLSTATE P0001"):
        write_rows(postgres_url, ids(1, 2, 3), methods=[method])
    assert fetch(postgres_url, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("moment", ["BEFORE", "AFTER"])
@pytest.mark.parametrize("action", ["ABORT", "FAIL"])
def test_trigger_of_sqlite_refuses_the_row_and_leaves_no_trace_of_it(sqlite_url: str, action: str, moment: str) -> None:
    run_sql(
        sqlite_url,
        "CREATE TABLE log (id INTEGER)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        f"CREATE TRIGGER no {moment} INSERT ON t BEGIN INSERT INTO log VALUES (new.id);"
        f" SELECT RAISE({action}, 'not this one') WHERE new.id = 2; END",
    )
    written = write_rows(sqlite_url, ids(1, 2, 3, 1))
    assert written.verdicts == [WRITTEN, "constraint ?", WRITTEN, "unique t_pkey"]
    assert fetch(sqlite_url, "SELECT id FROM t ORDER BY id") == [(1,), (3,)]
    assert fetch(sqlite_url, "SELECT id FROM log ORDER BY id") == [(1,), (3,)]


@EACH_METHOD
def test_trigger_that_rolls_sqlite_back_is_the_end_and_nothing_is_committed(sqlite_url: str, method: Method) -> None:
    run_sql(
        sqlite_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY)",
        "CREATE TRIGGER no BEFORE INSERT ON t BEGIN SELECT RAISE(ROLLBACK, 'all') WHERE new.id = 2; END",
    )
    with pytest.raises(TargetError):
        write_rows(sqlite_url, ids(1, 2, 3), methods=[method])
    assert fetch(sqlite_url, "SELECT count(*) FROM t") == [(0,)]


# The user's mapped classes

MODELS = """
    import datetime as dt
    import uuid
    from decimal import Decimal
    from sqlalchemy import ForeignKey, Numeric, String, JSON, Uuid, Date
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates

    class Base(DeclarativeBase):
        pass

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
        name: Mapped[str | None] = mapped_column(String(9))

    class Item(Base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str] = mapped_column("name", String(9), unique=True)
        price: Mapped[Decimal | None] = mapped_column(Numeric(6, 2))
        day: Mapped[dt.date | None] = mapped_column(Date)
        extra: Mapped[dict | None] = mapped_column(JSON)
        state: Mapped[str | None] = mapped_column(String(9), default="new")
        source: Mapped[str | None] = mapped_column(String(9), default=lambda: "etl")
        parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("parent.id"))

        @validates("label")
        def _label(self, key, value):
            assert value is None or isinstance(value, str)
            if value == "bad":
                raise ValueError("no bad labels")
            return value.upper() if value else value

        @validates("price")
        def _price(self, key, value):
            assert value is None or isinstance(value, Decimal)
            return value

    class Coded(Base):
        __tablename__ = "coded"
        code: Mapped[str] = mapped_column(String(9), primary_key=True, default=lambda: uuid.uuid4().hex[:9])
        n: Mapped[int | None]
"""


@pytest.fixture
def models(tmp_path: Path) -> str:
    """The name of a new module with mapped classes, beside the config file."""
    name = f"models_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODELS))
    return name


PARENT = "11111111-2222-3333-4444-555555555555"


def create_model_tables(url: str) -> None:
    uuid_, json_ = ("CHAR(32)", "JSON") if is_sqlite(url) else ("UUID", "JSON")
    run_sql(
        url,
        f"CREATE TABLE parent (id {uuid_} PRIMARY KEY, name VARCHAR(9))",
        f"INSERT INTO parent VALUES ('{PARENT.replace('-', '') if is_sqlite(url) else PARENT}', 'p')",
        "CREATE TABLE item (id INTEGER PRIMARY KEY, name VARCHAR(9) NOT NULL UNIQUE, price NUMERIC(6, 2), day DATE,"
        f" extra {json_}, state VARCHAR(9), source VARCHAR(9), parent_id {uuid_} REFERENCES parent (id))",
        "CREATE TABLE coded (code VARCHAR(9) PRIMARY KEY, n INTEGER)",
    )


def test_users_class_is_written_with_its_validators_defaults_and_types(
    database_url: str, models: str, tmp_path: Path
) -> None:
    create_model_tables(database_url)
    row: dict[str, object] = {
        "id": 1,
        "name": "one",
        "price": "1.5",
        "day": "2024-02-29",
        "extra": '{"a": [1]}',
        "state": None,
    }
    rows: list[Row] = [
        row,
        row | {"id": 2, "name": "bad"},
        row | {"id": 3, "name": "ONE"},
        row | {"id": 4, "name": None},
        row | {"id": 5, "name": "five", "price": None, "day": None, "extra": None},
    ]
    written = write_rows(database_url, rows, "item", tmp_path, methods=["row"], model=f"{models}:Item")
    assert written.verdicts == [WRITTEN, "check ?", "unique item_name_key", "not_null name", WRITTEN]
    assert written.refusals[1].message == "no bad labels"
    found = fetch(database_url, "SELECT id, name, CAST(price AS VARCHAR(9)), state, source FROM item ORDER BY id")
    price = "1.5" if is_sqlite(database_url) else "1.50"
    assert found == [(1, "ONE", price, None, "etl"), (5, "FIVE", None, None, "etl")]
    assert fetch(database_url, "SELECT id FROM item WHERE extra IS NULL") == [(5,)]


def test_foreign_key_of_a_users_class_is_named(database_url: str, models: str, tmp_path: Path) -> None:
    create_model_tables(database_url)
    plain = PARENT.replace("-", "") if is_sqlite(database_url) else PARENT
    rows: list[Row] = [
        {"id": 1, "name": "a", "parent_id": plain},
        {"id": 2, "name": "b", "parent_id": "99999999222233334444555555555555"},
    ]
    written = write_rows(database_url, rows, "item", tmp_path, methods=["row"], model=f"{models}:Item")
    assert written.verdicts == [WRITTEN, "foreign_key item_parent_id_fkey"]


def test_loading_a_users_class_leaves_the_other_classes_of_the_user_as_they_are(
    database_url: str, models: str, tmp_path: Path
) -> None:
    create_model_tables(database_url)
    with opened_target(database_url, "item", tmp_path, model=f"{models}:Item") as (_, target):
        parent = target.table.metadata.tables["parent"]
        assert [column.name for column in parent.columns] == ["id", "name"]
        assert parent.primary_key.columns.keys() == ["id"]
        assert isinstance(parent.c.id.type, sa.Uuid)
    rows = [{"id": PARENT.replace("1", "7"), "name": "x"}]
    if is_sqlite(database_url):
        rows[0]["id"] = rows[0]["id"].replace("-", "")
    assert write_rows(database_url, rows, "parent", tmp_path, model=f"{models}:Parent").verdicts == [WRITTEN]


def test_key_that_a_users_class_fills_in_is_no_null(database_url: str, models: str, tmp_path: Path) -> None:
    create_model_tables(database_url)
    written = write_rows(database_url, [{"n": 1}, {"n": 2}], "coded", tmp_path, model=f"{models}:Coded")
    assert written.verdicts == [WRITTEN, WRITTEN]
    assert fetch(database_url, "SELECT n, length(code) FROM coded ORDER BY n") == [(1, 9), (2, 9)]


# Memory


@EACH_METHOD
def test_objects_do_not_stay_in_memory(database_url: str, method: Method) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER DEFAULT 0)")
    with opened_target(database_url) as (connection, target), session_factory(connection).begin() as session:
        most = 0

        def look(*_: object) -> None:
            nonlocal most
            most = max(most, len(session.identity_map) + len(session.new))

        sa.event.listen(session, "after_transaction_end", look)
        batch = mapped_batch(target, [{"id": number // 2, "n": None} for number in range(300)])
        outcome = choose_writer(target, method).writer.write(session, batch)
        assert len(outcome.refusals) == 150
        assert most <= 3
        assert len(session.identity_map) <= 1
        assert target.entity is not None
        assert sum(type(object_) is target.entity for object_ in gc.get_objects()) <= 1


def test_two_foreign_keys_may_refer_to_other_columns_of_one_table(database_url: str, tmp_path: Path) -> None:
    run_sql(
        database_url,
        "CREATE TABLE parent (k INTEGER PRIMARY KEY, q INTEGER, UNIQUE (k, q))",
        "INSERT INTO parent VALUES (1, 10)",
        "CREATE TABLE child (id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent, k INTEGER, q INTEGER,"
        " FOREIGN KEY (k, q) REFERENCES parent (k, q))",
    )
    (tmp_path / "a.csv").write_text("id,p,k,q\n1,1,1,10\n2,2,,\n3,1,1,11\n")
    (tmp_path / "job.toml").write_text(
        f'[database]\nurl = "{database_url}"\n[[load]]\nsource = "a.csv"\ntable = "child"\n'
    )
    counts = etl.load(tmp_path / "job.toml").counts
    assert (counts.written, counts.rejected) == (1, 2)
