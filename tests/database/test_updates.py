"""``on_duplicate = "update"``: worked out by hand, and by the databases' own statement, one for each row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import etl
from etl.config import Database, Job, Load, Method
from etl.records import Counts
from tests.files import write_csv
from tests.jobs import METHODS, fetch, is_sqlite, ledger, run_sql

Cells = tuple[str | None, ...]


def load_csv(url: str, folder: Path, given: Sequence[str], records: Sequence[Cells], **keys: Any) -> etl.RunResult:
    """Load the records of one file into the table ``t``, updating by its primary key unless ``keys`` say otherwise."""
    write_csv(folder / "in.csv", given, records)
    keys = {"on_duplicate": "update", "table": "t"} | keys
    load = Load(source=("in.csv",), name="t", **keys)
    return etl.load(Job(name="job.toml", folder=folder, database=Database(url=url), loads=(load,)), rerun=True)


def methods_for(url: str) -> tuple[Method, ...]:
    return METHODS[:2] if is_sqlite(url) else METHODS


def by_each_method(
    url: str, folder: Path, tables: Sequence[str], given: Sequence[str], records: Sequence[Cells], query: str, **keys: Any
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
    counts, rows = by_each_method(database_url, tmp_path, tables, ("id", "code"), records, "SELECT * FROM t ORDER BY id")
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


def test_same_rows_twice(postgres_url: str, tmp_path: Path) -> None:
    tables = (
        'CREATE TABLE t (id int, v text, n int, p int, s text, w text, PRIMARY KEY (id, n), UNIQUE (v), d bigint)',
    )
    record = ("0", "x", "0", "1", "x", "x")
    by_each_method(postgres_url, tmp_path, tables, ("id", "v", "n", "p", "s", "w"), [record, record], "SELECT * FROM t")
