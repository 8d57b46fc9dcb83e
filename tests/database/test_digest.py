"""The digest of a table's rows: the same for the same rows in any order, another one for any other rows."""

from __future__ import annotations

import pytest

from etl.database import RowsDigest, digest_rows
from tests.jobs import is_sqlite, opened_target, run_sql

TABLE = "CREATE TABLE t (id INTEGER, name TEXT, price NUMERIC)"


def digest(url: str, *rows: str, columns: tuple[str, ...] = ("id", "name", "price")) -> RowsDigest:
    """Of a table ``t`` that holds ``rows``, given in SQL, and nothing else."""
    run_sql(url, "DELETE FROM t", *(f"INSERT INTO t VALUES ({row})" for row in rows))
    with opened_target(url) as (connection, target):
        return digest_rows(connection, target.table, columns)


@pytest.fixture
def url(database_url: str) -> str:
    run_sql(database_url, TABLE)
    return database_url


def test_the_order_of_the_rows_does_not_matter(url):
    assert digest(url, "1, 'a', 1", "2, 'b', 2") == digest(url, "2, 'b', 2", "1, 'a', 1")


def test_an_empty_table_has_no_rows(url):
    assert digest(url) == RowsDigest(0, 0)


def test_two_equal_rows_are_not_the_same_as_two_other_equal_rows(url):
    twice, others = digest(url, "1, 'a', 1", "1, 'a', 1"), digest(url, "2, 'b', 1", "2, 'b', 1")

    assert twice.rows == others.rows == 2
    assert twice != others


@pytest.mark.parametrize(
    ("row", "other"),
    [
        ("1, 'a', 1", "1, 'b', 1"),
        ("1, 'a', 1", "2, 'a', 1"),
        ("1, '', 1", "1, NULL, 1"),
        ("1, 'a', 0.1", "1, 'a', 0.10000000000000001"),
        ("1, 'a,1', NULL", "1, 'a', 1"),
        ("NULL, 'a', 1", "1, 'a', NULL"),
    ],
    ids=["text", "number", "empty and NULL", "close numbers", "a comma", "which is NULL"],
)
def test_one_value_is_enough_to_differ(url, row, other):
    same_float = is_sqlite(url) and "0.1" in row  # SQLite's NUMERIC is an 8-byte float: it stores the same there
    assert (digest(url, row) == digest(url, other)) is same_float


def test_columns_that_are_not_asked_for_do_not_count(url):
    assert digest(url, "1, 'a', 1", columns=("name", "id")) == digest(url, "1, 'a', 2", columns=("name", "id"))


def test_values_are_compared_as_they_are_stored(postgres_url):
    run_sql(postgres_url, TABLE)

    assert digest(postgres_url, "1, 'a', 1.0") != digest(postgres_url, "1, 'a', 1.00")


def test_sqlite_tells_a_number_from_its_text_and_text_from_its_bytes(sqlite_url):
    run_sql(sqlite_url, "CREATE TABLE t (id BLOB, name BLOB, price BLOB)")

    digests = {digest(sqlite_url, f"{value}, NULL, NULL").hashes for value in ("1", "1.0", "'1'", "x'31'", "NULL")}

    assert len(digests) == 5


def test_text_that_others_have_stored_need_not_be_utf_8(sqlite_url):
    run_sql(sqlite_url, TABLE)

    one, other = (digest(sqlite_url, f"1, CAST(x'{code}' AS TEXT), 1") for code in ("ff", "fe"))

    assert one != other


def test_names_that_sql_has_a_meaning_for_are_quoted(database_url):
    run_sql(database_url, 'CREATE TABLE t ("order" INTEGER, "a%b" TEXT, "x""y" TEXT)')

    one, other = (digest(database_url, row, columns=("order", "a%b", 'x"y')) for row in ("1, 'a', 'b'", "1, 'a', 'c'"))

    assert (one.rows, other.rows) == (1, 1)
    assert one != other
