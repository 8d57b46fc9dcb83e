"""``on_duplicate = "update"``: worked out by hand, and by the databases' own statement, one for each row."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etl
from etl.checking import check_job, report_as_text
from etl.config import Database, Job, Load, Method
from etl.records import Counts
from etl.writers.copy import CopyWriter
from tests.comparison import engines_kept, in_pieces_of
from tests.databases import CASELESS
from tests.files import write_csv
from tests.jobs import METHODS, fetch, is_sqlite, ledger, plain_connection, run_sql

Cells = tuple[str | None, ...]


def load_csv(url: str, folder: Path, given: Sequence[str], records: Sequence[Cells], **keys: Any) -> etl.RunResult:
    """Load the records of one file into the table ``t``, updating by its primary key unless ``keys`` say otherwise."""
    write_csv(folder / "in.csv", given, records)
    keys = {"on_duplicate": "update", "table": "t"} | keys
    load = Load(source=("in.csv",), name="t", **keys)
    with engines_kept():
        return etl.load(Job(name="job.toml", folder=folder, database=Database(url=url), loads=(load,)), rerun=True)


def methods_for(url: str) -> tuple[Method, ...]:
    return METHODS[:2] if is_sqlite(url) else METHODS


def by_each_method(
    url: str,
    folder: Path,
    tables: Sequence[str],
    given: Sequence[str],
    records: Sequence[Cells],
    query: str,
    **keys: Any,
) -> tuple[Counts, list[tuple[Any, ...]]]:
    """What every method says and leaves, on the same start: they must agree."""
    found = []
    for method in methods_for(url):
        run_sql(url, "DROP TABLE IF EXISTS kid", "DROP TABLE IF EXISTS t", *tables)
        counts = load_csv(url, folder, given, records, method=method, **keys).counts
        found.append((counts, fetch(url, query)))
    assert all(one == found[0] for one in found[1:]), found
    return found[0]


STOCK = (
    "CREATE TABLE t (sku VARCHAR(10) PRIMARY KEY, name VARCHAR(40), price NUMERIC(8, 2), seen DATE, note TEXT)",
    "INSERT INTO t VALUES ('a', 'Apple', 1, '2024-01-10', 'mine'), ('b', 'Bread', 2.5, '2024-01-10', NULL),"
    " ('c', 'Cake', 9.99, NULL, NULL)",
)
GIVEN = ("sku", "name", "price", "seen")
ALL = "SELECT sku, name, CAST(price AS TEXT), CAST(seen AS TEXT), note FROM t ORDER BY sku"


def test_row_with_a_known_key_gives_its_values(database_url: str, tmp_path: Path) -> None:
    records = [
        ("a", "Apple", "1.20", "2024-02-01"),  # another price
        ("b", "Bread", "2.50", "2024-01-10"),  # the same
        ("d", "Dates", "4.00", "2024-02-01"),  # new
        ("d", "Dates", "3.50", "2024-02-02"),  # the new one again
        ("c", None, "9.99", None),  # NULL in place of a name
    ]
    counts, rows = by_each_method(database_url, tmp_path, STOCK, GIVEN, records, ALL)
    assert counts == Counts(read=5, written=1, updated=3, unchanged=1)
    assert [(sku, name, float(price), seen, note) for sku, name, price, seen, note in rows] == [
        ("a", "Apple", 1.2, "2024-02-01", "mine"),
        ("b", "Bread", 2.5, "2024-01-10", None),
        ("c", None, 9.99, None, None),
        ("d", "Dates", 3.5, "2024-02-02", None),
    ]


def test_other_unique_constraint_refuses_an_update(database_url: str, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code VARCHAR(9), CONSTRAINT one_code UNIQUE (code))",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    )
    records = [
        ("2", "a"),  # taken by 1
        ("1", "c"),  # gives 'a' up
        ("2", "a"),  # now it is free
        ("3", "c"),  # new, and its code is taken
        ("3", "b"),  # which 2 has given up
    ]
    counts, rows = by_each_method(
        database_url, tmp_path, tables, ("id", "code"), records, "SELECT * FROM t ORDER BY id"
    )
    assert counts == Counts(read=5, written=1, updated=2, rejected=2)
    assert rows == [(1, "c"), (2, "a"), (3, "b")]


def test_key_may_be_another_unique_constraint(database_url: str, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code VARCHAR(9), n INTEGER, CONSTRAINT one_code UNIQUE (code))",
        "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",
    )
    records = [("1", "x", "5"), ("7", "a", "5"), ("8", "c", "5")]
    counts, rows = by_each_method(
        database_url, tmp_path, tables, ("id", "code", "n"), records, "SELECT * FROM t ORDER BY code", key="code"
    )
    # Record 1 repeats the primary key, which is not the one that is meant; record 2 changes it.
    assert counts == Counts(read=3, written=1, updated=1, rejected=1)
    assert rows == [(7, "a", 5), (2, "b", 2), (8, "c", 5)]


def test_only_the_named_columns_change(database_url: str, tmp_path: Path) -> None:
    records = [("a", "Avocado", "2.00", "2024-03-01"), ("b", "Bun", "2.50", "2024-03-01")]
    counts, rows = by_each_method(
        database_url, tmp_path, STOCK, GIVEN, records, ALL, update_columns=("price",), key="sku"
    )
    assert counts == Counts(read=2, updated=1, unchanged=1)
    assert [(row[1], float(row[2]), row[3]) for row in rows[:2]] == [
        ("Apple", 2.0, "2024-01-10"),
        ("Bread", 2.5, "2024-01-10"),
    ]


def test_key_alone_changes_nothing(database_url: str, tmp_path: Path) -> None:
    counts, rows = by_each_method(database_url, tmp_path, STOCK, ("sku",), [("a",), ("z",), ("z",)], ALL)
    assert counts == Counts(read=3, written=1, unchanged=2)
    assert [row[1] for row in rows] == ["Apple", "Bread", "Cake", None]


def test_newer_record_wins_wherever_it_is_in_the_file(database_url: str, tmp_path: Path) -> None:
    records = [
        ("a", "older", "1", "2024-01-09"),
        ("a", "as old", "1", "2024-01-10"),
        ("a", "newest", "1", "2024-03-01"),
        ("a", "newer", "1", "2024-02-01"),
        ("a", "no date", "1", None),
        ("c", "first date", "1", "1999-01-01"),  # the row has none
        ("c", "no date", "1", None),
        ("d", "new", "1", None),
        ("d", "newer than none", "1", "1999-01-01"),
    ]
    counts, rows = by_each_method(database_url, tmp_path, STOCK, GIVEN, records, ALL, newer_by="seen")
    assert counts == Counts(read=9, written=1, updated=3, unchanged=5)
    assert [row[1] for row in rows] == ["newest", "Bread", "first date", "newer than none"]


def test_refused_update_leaves_the_row_as_it_was(database_url: str, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, low INTEGER NOT NULL, high INTEGER DEFAULT 100, p INTEGER,"
        " CONSTRAINT ordered CHECK (low < high), CONSTRAINT parent FOREIGN KEY (p) REFERENCES p (id))",
        "INSERT INTO t VALUES (1, 1, 10, 1), (2, 2, 20, NULL)",
    )
    run_sql(database_url, "CREATE TABLE p (id INTEGER PRIMARY KEY)", "INSERT INTO p VALUES (1)")
    records = [
        ("1", "50", "1"),  # could be inserted, but the row has high = 10
        ("1", "500", "1"),  # could not even be inserted
        ("2", None, "1"),
        ("2", "3", "7"),  # no such parent
        ("3", "1", "7"),
        ("2", "4", "1"),
    ]
    query = "SELECT id, low, high, p FROM t ORDER BY id"
    counts, rows = by_each_method(database_url, tmp_path, tables, ("id", "low", "p"), records, query)
    assert counts == Counts(read=6, updated=1, rejected=5)
    assert rows == [(1, 1, 10, 1), (2, 4, 20, 1)]
    reasons = fetch(
        database_url, f"SELECT record, reason FROM {ledger(database_url)}etl_reject ORDER BY id DESC LIMIT 5"
    )
    assert sorted(reasons) == [(1, "check"), (2, "check"), (3, "not_null"), (4, "foreign_key"), (5, "foreign_key")]


def test_record_has_to_be_one_that_could_be_inserted(database_url: str, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(9), needed INTEGER NOT NULL)",
        "INSERT INTO t VALUES (1, 'a', 1)",
    )
    counts, rows = by_each_method(database_url, tmp_path, tables, ("id", "name"), [("1", "b")], "SELECT * FROM t")
    assert (counts, rows) == (Counts(read=1, rejected=1), [(1, "a", 1)])


def test_many_rows_of_one_key(database_url: str, tmp_path: Path) -> None:
    records = [("x", f"name {n // 2}", "1", None) for n in range(50)]
    counts, rows = by_each_method(database_url, tmp_path, STOCK, GIVEN, records, ALL)
    assert counts == Counts(read=50, written=1, updated=24, unchanged=25)
    assert rows[-1][1] == "name 24"


def test_same_file_again_changes_and_rewrites_nothing(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, name text, at timestamptz, share float, doc json)")
    given = ("id", "name", "at", "share", "doc")
    records = [(str(n), f"{n}", f"2024-01-01 00:00:{n % 60:02}Z", str(n / 7), f'{{"n":  {n}}}') for n in range(300)]
    assert load_csv(postgres_url, tmp_path, given, records).counts == Counts(read=300, written=300)
    rows = fetch(postgres_url, "SELECT ctid::text, xmin::text, t::text FROM t ORDER BY id")
    for method in METHODS:
        again = load_csv(postgres_url, tmp_path, given, records, method=method).counts
        assert again == Counts(read=300, unchanged=300)
        assert fetch(postgres_url, "SELECT ctid::text, xmin::text, t::text FROM t ORDER BY id") == rows


def test_same_file_again_changes_nothing_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(
        sqlite_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP, share DOUBLE PRECISION, price NUMERIC(8, 2))",
        "CREATE TABLE log (id INTEGER)",
        "CREATE TRIGGER note AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (new.id); END",
    )
    given = ("id", "name", "at", "share", "price")
    records = [(str(n), f"0{n}", f"2024-01-01 00:00:{n % 60:02}", str(n / 7), f"{n}.50") for n in range(300)]
    assert load_csv(sqlite_url, tmp_path, given, records).counts == Counts(read=300, written=300)
    for method in METHODS[:2]:
        again = load_csv(sqlite_url, tmp_path, given, records, method=method).counts
        assert again == Counts(read=300, unchanged=300)
    assert fetch(sqlite_url, "SELECT count(*) FROM log") == [(0,)]


def test_what_differs_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """Numbers and moments by value, texts letter for letter, what has no equality by its text."""
    run_sql(postgres_url, "CREATE EXTENSION citext", CASELESS)
    columns = {
        "n": ("numeric", "1.0", "1.00", "2"),
        "f": ("float8", "0.0", "-0.0", "NaN"),
        "at": ("timestamptz", "2024-01-01 12:00Z", "2024-01-01 13:00+01", "2024-01-01 12:01Z"),
        "b": ("jsonb", '{"a": 1}', '{"a": 1.0}', '{"a": 2}'),
        "j": ("json", '{"a": 1}', '{"a": 1}', '{"a":1}'),
        "c": ("citext", "Bob", "Bob", "BOB"),
        "l": ('text COLLATE "caseless"', "Bob", "Bob", "BOB"),
        "r": ("int4range", "[1,3)", "[1,2]", "[1,2)"),
        "p": ("point", "(1,2)", "(1, 2)", "(1,3)"),
    }
    declared = ", ".join(f"{name} {type_}" for name, (type_, *_) in columns.items())
    tables = (f"CREATE TABLE t (id int PRIMARY KEY, {declared})",)
    first, same, other = (tuple(cells[at] for cells in columns.values()) for at in (1, 2, 3))
    one_by_one = [(*same[:at], other[at], *same[at + 1 :]) for at in range(len(same))]
    records = [(str(id_), *first) for id_ in range(len(one_by_one))]
    records += [(str(id_), *same) for id_ in range(len(one_by_one))]
    records += [(str(id_), *row) for id_, row in enumerate(one_by_one)]
    counts, _ = by_each_method(postgres_url, tmp_path, tables, ("id", *columns), records, "SELECT t::text FROM t")
    assert counts == Counts(read=27, written=9, unchanged=9, updated=9)


def test_partitioned_table(postgres_url: str, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE t (id int, v int, CONSTRAINT one PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (10) TO (100)",
        "INSERT INTO t VALUES (1, 1), (11, 1)",
    )
    records = [("1", "2"), ("11", "1"), ("12", "1"), ("12", "2"), ("100", "1")]
    query = "SELECT tableoid::regclass::text, id, v FROM t ORDER BY id"
    counts, rows = by_each_method(postgres_url, tmp_path, tables, ("id", "v"), records, query)
    assert counts == Counts(read=5, written=1, updated=2, unchanged=1, rejected=1)
    assert rows == [("t_low", 1, 2), ("t_high", 11, 1), ("t_high", 12, 2)]
    # Its partitions refuse in the name of their own indexes: they are the same key.
    counts, _ = by_each_method(
        postgres_url, tmp_path, tables, ("id", "v"), records, query, key="id", on_duplicate="skip"
    )
    assert counts == Counts(read=5, written=1, duplicates=3, rejected=1)


def test_trigger_sees_each_update_in_order(postgres_url: str, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t VALUES (1, 1), (2, 1)",
        "CREATE OR REPLACE FUNCTION sum_of_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " new.v := new.v + (SELECT sum(v) FROM t); RETURN new; END $$",
        "CREATE TRIGGER add BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION sum_of_all()",
    )
    counts, rows = by_each_method(
        postgres_url, tmp_path, tables, ("id", "v"), [("2", "5"), ("3", "1"), ("1", "7")], "SELECT * FROM t ORDER BY id"
    )
    assert counts == Counts(read=3, written=1, updated=2)
    assert rows == [(1, 7 + 1 + 7 + 1), (2, 5 + 2), (3, 1)]


def test_what_another_table_refers_to_is_changed_in_order(database_url: str, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code INTEGER, CONSTRAINT one UNIQUE (code))",
        "INSERT INTO t VALUES (1, 10), (2, 20)",
        "CREATE TABLE kid (code INTEGER REFERENCES t (code))",
        "INSERT INTO kid VALUES (10)",
    )
    # The first gives up what the kid refers to; that another row takes it next is too late.
    counts, rows = by_each_method(
        database_url, tmp_path, tables, ("id", "code"), [("1", "11"), ("2", "10"), ("2", "21")], "SELECT * FROM t"
    )
    assert counts == Counts(read=3, updated=1, rejected=2)
    assert sorted(rows) == [(1, 10), (2, 21)]


def test_copy_updates_many_rows_at_once(postgres_url: str, tmp_path: Path) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, v int CHECK (v > 0),"
        " made int GENERATED ALWAYS AS IDENTITY)",
        "INSERT INTO t (id, name, v) SELECT i, i::text, i FROM generate_series(1, 2000) i",
    )
    records = [(str(n), str(n), str(n + n % 2)) for n in range(1, 6_000)]
    result = load_csv(postgres_url, tmp_path, ("id", "name", "v"), records, method="copy")
    assert result.counts == Counts(read=5_999, written=3_999, updated=1_000, unchanged=1_000)
    assert result.timing is not None
    assert (result.timing.settled, result.timing.rollbacks) == (0, 0)
    assert fetch(postgres_url, "SELECT count(*), sum(v) FROM t") == [(5_999, sum(n + n % 2 for n in range(1, 6_000)))]


# The key


@pytest.mark.parametrize("on_duplicate", ["skip", "update"])
def test_repetition_of_another_key_is_a_reject(database_url: str, tmp_path: Path, on_duplicate: str) -> None:
    tables = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code VARCHAR(9), CONSTRAINT one_code UNIQUE (code))",
        "INSERT INTO t VALUES (1, 'a')",
    )
    records = [("1", "a"), ("2", "a"), ("3", "c"), ("4", "c")]
    counts, _ = by_each_method(
        database_url, tmp_path, tables, ("id", "code"), records, "SELECT * FROM t", key="id", on_duplicate=on_duplicate
    )
    met = {"duplicates": 1} if on_duplicate == "skip" else {"unchanged": 1}
    assert counts == Counts(read=4, written=1, rejected=2, **met)
    rejects = fetch(
        database_url,
        f"SELECT record, phase, reason, sqlstate FROM {ledger(database_url)}etl_reject ORDER BY id DESC LIMIT 2",
    )
    assert sorted(rejects) == [(2, "write", "unique", "23505"), (4, "write", "unique", "23505")]


def test_error_ends_at_the_first_duplicate_of_the_key(database_url: str, tmp_path: Path) -> None:
    run_sql(
        database_url,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code VARCHAR(9), CONSTRAINT one_code UNIQUE (code))",
        "INSERT INTO t VALUES (1, 'a')",
    )
    for method in methods_for(database_url):
        keys: dict[str, Any] = {"key": "id", "on_duplicate": "error", "method": method}
        with pytest.raises(etl.EtlError, match=r"record 3 \(line 4\) of in.csv is a duplicate by t_pkey"):
            load_csv(database_url, tmp_path, ("id", "code"), [("2", "b"), ("3", "b"), ("1", "x")], **keys)
    assert fetch(database_url, "SELECT * FROM t") == [(1, "a")]


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, CONSTRAINT ab UNIQUE (a, b))",
        {"key": "a"},
        'Load t: key = ["a"] is no unique constraint of t. Its unique constraints are id (t_pkey); a, b (ab).',
    ),
    (
        "CREATE TABLE t (id INTEGER, a INTEGER, b INTEGER, CONSTRAINT ab UNIQUE (a, b))",
        {},
        "Load t: t has no primary key to tell duplicates by. Name one of its unique constraints by key: a, b (ab).",
    ),
    (
        "CREATE TABLE t (id INTEGER, a INTEGER, b INTEGER)",
        {"key": "id"},
        'Load t: key = ["id"] is no unique constraint of t. It has no unique constraint: make one.',
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER); CREATE UNIQUE INDEX part ON t (a) WHERE b > 0",
        {"key": "a"},
        'Load t: key = ["a"] cannot be used for t: part covers a part of the rows only. '
        "Its unique constraints are id (t_pkey).",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c INTEGER UNIQUE)",
        {"key": "c"},
        "Load t: key needs c, which not every source feeds. "
        "Fed are a, b, id: name a source column for it under [load.columns].",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, c INTEGER)",
        {"update_columns": ("a", "c")},
        "Load t: update_columns needs c, which not every source feeds. "
        "Fed are a, b, id: name a source column for it under [load.columns].",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b BOOLEAN)",
        {"newer_by": "b"},
        "Load t: newer_by = b is of type boolean, of which no value is newer than another. "
        "Name a column of a number, a date, a time or a text.",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER)",
        {"newer_by": "id"},
        "Load t: id is in the key, whose columns keep their values.",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER)",
        {"newer_by": "a", "on_duplicate": "skip"},
        'Load t: update_columns and newer_by go with on_duplicate = "update". Say so, or leave them out.',
    ),
    (
        "CREATE TABLE u (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER); CREATE VIEW t AS SELECT * FROM u",
        {},
        'Load t: on_duplicate = "update" is for tables, and t is a view. Load into its table.',
    ),
]


def test_mistakes_are_told_before_anything_is_written(database_url: str, tmp_path: Path) -> None:
    for tables, keys, told in MISTAKES:
        run_sql(database_url, *tables.split("; "))
        with pytest.raises(etl.EtlError) as caught:
            load_csv(database_url, tmp_path, ("id", "a", "b"), [("1", "1", "1")], **keys)
        assert str(caught.value) == told
        assert fetch(database_url, "SELECT count(*) FROM t") == [(0,)]
        run_sql(database_url, "DROP VIEW t" if " VIEW t " in tables else "DROP TABLE t")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("UNIQUE (a) DEFERRABLE", "t_a_key is DEFERRABLE, and PostgreSQL takes no such constraint for ON CONFLICT"),
        ("UNIQUE (b)", 'key = ["a"] is no unique constraint of t'),
    ],
)
def test_key_that_is_none_on_postgresql(postgres_url: str, tmp_path: Path, made: str, told: str) -> None:
    run_sql(postgres_url, f"CREATE TABLE t (id int PRIMARY KEY, a int, b int, {made})")
    with pytest.raises(etl.EtlError, match=re.escape(told)):
        load_csv(postgres_url, tmp_path, ("id", "a", "b"), [("1", "1", "1")], key="a")


def test_table_with_a_rule_is_refused(postgres_url: str, tmp_path: Path) -> None:
    run_sql(
        postgres_url,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE RULE more AS ON INSERT TO t DO ALSO NOTHING",
    )
    with pytest.raises(etl.EtlError, match="t has rules, with which PostgreSQL takes no ON CONFLICT"):
        load_csv(postgres_url, tmp_path, ("id",), [("1",)])


def test_check_says_which_key_and_what_changes(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, *STOCK)
    write_csv(tmp_path / "in.csv", GIVEN, [])
    load = Load(
        source=("in.csv",),
        name="t",
        table="t",
        on_duplicate="update",
        update_columns=("price", "seen"),
        newer_by="seen",
    )
    report = check_job(Job(name="job.toml", folder=tmp_path, database=Database(url=database_url), loads=(load,)))
    assert "  duplicates  by sku (t_pkey): update price, seen, where seen is newer\n" in report_as_text(report)


def test_rights_that_updates_need(postgres_url: str, unprivileged_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, n int)", "GRANT INSERT ON t TO PUBLIC")
    write_csv(tmp_path / "in.csv", ("id", "n"), [])
    load = Load(source=("in.csv",), name="t", table="t", on_duplicate="update")
    job = Job(name="job.toml", folder=tmp_path, database=Database(url=unprivileged_url), loads=(load,))
    assert [problem.partition(" may not ")[2] for problem in check_job(job).problems] == [
        "UPDATE t: GRANT UPDATE ON t TO it",
        "SELECT from t: GRANT SELECT ON t TO it",
    ]


# Other sessions


def test_key_that_comes_or_goes_between_the_question_and_the_rows(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the screen another session takes row 1 away and makes row 2: 1 is written, 2 is updated."""
    run_sql(postgres_url, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'old'), (3, 'old')")
    copy, meddle = CopyWriter._copy, iter(["DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (2, 'theirs')"])

    def copy_late(*given: Any) -> None:
        for statement in meddle:
            run_sql(postgres_url, statement)
        copy(*given)

    monkeypatch.setattr(CopyWriter, "_copy", copy_late)
    records = [("1", "mine"), ("2", "mine"), ("3", "mine")]
    counts = load_csv(postgres_url, tmp_path, ("id", "v"), records, method="copy").counts
    assert counts == Counts(read=3, written=1, updated=2)
    assert fetch(postgres_url, "SELECT * FROM t ORDER BY id") == [(1, "mine"), (2, "mine"), (3, "mine")]


@pytest.mark.parametrize("method", METHODS)
def test_newer_row_of_another_session_is_not_lost(postgres_url: str, tmp_path: Path, method: Method) -> None:
    """It is not committed when the load comes to it: the load waits, and decides by what it finds then."""
    run_sql(
        postgres_url,
        "CREATE TABLE t (id int PRIMARY KEY, v text, at int)",
        "INSERT INTO t VALUES (1, 'old', 1), (2, 'old', 1)",
    )
    with plain_connection(postgres_url) as other, ThreadPoolExecutor() as threads:
        other.execute("BEGIN; UPDATE t SET v = 'theirs', at = 5 WHERE id = 1")
        records = [("1", "mine", "3"), ("2", "mine", "3")]
        loading = threads.submit(
            load_csv, postgres_url, tmp_path, ("id", "v", "at"), records, method=method, newer_by="at"
        )
        wait_for_lock(postgres_url)
        other.execute("COMMIT")
        assert loading.result(timeout=30).counts == Counts(read=2, updated=1, unchanged=1)
    assert fetch(postgres_url, "SELECT * FROM t ORDER BY id") == [(1, "theirs", 5), (2, "mine", 3)]


def wait_for_lock(url: str) -> None:
    """Until a session of this database waits for another one."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = time.monotonic() + 30
    while fetch(url, waiting) == [(0,)]:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.02)


# By the databases' own statement, one for each row


CELLS = st.tuples(
    st.integers(1, 6).map(str),
    st.one_of(st.none(), st.integers(1, 5).map(str)),
    st.one_of(st.none(), st.integers(0, 8).map(str)),
)
TABLES = "CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER, n INTEGER, UNIQUE (c), CHECK (n < 8))"
KEYS: list[dict[str, Any]] = [{}, {"newer_by": "n"}, {"update_columns": ("n",)}, {"key": "c"}]


def by_statement(url: str, records: Sequence[Cells], keys: dict[str, Any]) -> tuple[Counts, list[tuple[Any, ...]]]:
    """The same by hand: look, write by a plain INSERT … ON CONFLICT DO UPDATE, and look again."""
    key = keys.get("key", "id")
    changed = keys.get("update_columns", [name for name in ("id", "c", "n") if name != key])
    newer = "excluded.n > coalesce(t.n, -1)" if "newer_by" in keys else "1 = 1"
    values = ", ".join(f"{name} = excluded.{name}" for name in changed)
    said: Counter[str] = Counter()
    with plain_connection(url) as connection:
        for record in records:
            cells = [None if cell is None else int(cell) for cell in record]
            literals = ", ".join("NULL" if cell is None else str(cell) for cell in cells)
            wanted = cells[("id", "c", "n").index(key)]
            seen = f"SELECT * FROM t WHERE {key} = {'NULL' if wanted is None else wanted}"
            before = connection.execute(seen).fetchall()
            try:
                connection.execute(
                    f"INSERT INTO t VALUES ({literals}) ON CONFLICT ({key}) DO UPDATE SET {values} WHERE {newer}"
                )
            except (psycopg.Error, sqlite3.Error):
                said["rejected"] += 1
                continue
            after = connection.execute(seen).fetchall()
            said["written" if not before else "unchanged" if before == after else "updated"] += 1
        rows = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
    return Counts(read=len(records), **said), rows


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(CELLS, min_size=1, max_size=25), keys=st.sampled_from(KEYS), piece=st.sampled_from((100, 7, 3)))
def test_methods_end_where_a_statement_for_each_row_ends(
    database_url: str, tmp_path: Path, records: list[Cells], keys: dict[str, Any], piece: int
) -> None:
    start = ("DROP TABLE IF EXISTS t", TABLES, "INSERT INTO t VALUES (1, 1, 1), (2, 2, NULL), (3, NULL, 3)")
    run_sql(database_url, *start)
    expected = by_statement(database_url, records, keys)
    with in_pieces_of(piece):
        found = by_each_method(
            database_url, tmp_path, start[1:], ("id", "c", "n"), records, "SELECT * FROM t ORDER BY id", **keys
        )
    assert found == expected
