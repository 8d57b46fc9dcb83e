"""On SQLite many rows go in one statement: what becomes of each is what would have become of it alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from etl.records import Refusal
from etl.writers import bulk, sqlite_table
from etl.writers.refusing import refusal
from tests.jobs import Row, fetch, run_sql, write_rows


def rows_of(keys: list[int | None]) -> list[Row]:
    return [{"id": key, "n": number} for number, key in enumerate(keys)]


@pytest.mark.parametrize("clause", ["", "ON CONFLICT ABORT", "ON CONFLICT FAIL"])
def test_duplicates_anywhere_in_a_group_cost_no_other_row(sqlite_url: str, clause: str) -> None:
    run_sql(sqlite_url, f"CREATE TABLE t (id INTEGER UNIQUE {clause}, n INTEGER)")
    keys: list[int | None] = list(range(2 * bulk.GROUP_ROWS + 7))
    bad = [1, 99, 100, 110, 111, 199, 206]
    for place in bad:
        keys[place] = 0

    written = write_rows(sqlite_url, rows_of(keys), methods=["row", "bulk"])

    assert sorted(written.refusals) == bad
    assert fetch(sqlite_url, "SELECT count(*), sum(n) FROM t") == [(200, sum(range(207)) - sum(bad))]


def test_rest_of_a_piece_goes_row_by_row_when_many_groups_fail(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER UNIQUE, n INTEGER CHECK (n % 20 <> 3))")

    written = write_rows(sqlite_url, rows_of(list(range(1_000))), methods=["row", "bulk"])

    assert sorted(written.refusals) == list(range(3, 1_000, 20))
    assert fetch(sqlite_url, "SELECT count(*) FROM t") == [(950,)]


def test_child_before_its_parent_in_one_group_is_refused(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER UNIQUE, n INTEGER REFERENCES t (id))")
    rows: list[Row] = [{"id": 1, "n": 2}, {"id": 2, "n": None}, {"id": 3, "n": 2}]

    written = write_rows(sqlite_url, rows * 20, methods=["row", "bulk"])

    assert written.verdicts[:3] == ["foreign_key t_n_fkey", "written", "written"]


def test_groups_end_as_the_row_loop_does_for_random_rows(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "GROUP_ROWS", 4)
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER UNIQUE, n INTEGER NOT NULL CHECK (n <> 5))")
    rng = random.Random(7)
    for _ in range(60):
        rows: list[Row] = [
            {"id": rng.choice([None, *range(30)]), "n": rng.choice([None, *range(40)])}
            for _ in range(rng.randrange(1, 40))
        ]
        write_rows(sqlite_url, rows, methods=["row", "bulk"])  # compares the two, and keeps what was written


def test_many_duplicates_are_told_by_one_error(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_sql(
        sqlite_url, "CREATE TABLE t (id INTEGER UNIQUE, n INTEGER CHECK (n <> 1500))", "INSERT INTO t VALUES (7, 0)"
    )
    keys: list[int | None] = [7 if number % 10 == 3 else number + 100 for number in range(2_000)]
    keys[1_999] = 400  # repeats a key of the same piece
    errors = []

    def counted(error: Exception, *rest: Any) -> Refusal:
        errors.append(error)
        return refusal(error, *rest)

    monkeypatch.setattr(bulk, "refusal", counted)

    written = write_rows(sqlite_url, rows_of(keys), methods=["row", "bulk"])

    assert sorted(written.refusals) == sorted([*range(3, 2_000, 10), 1_500, 1_999])
    assert written.verdicts[1_500].startswith("check")
    assert written.verdicts[1_993] == written.verdicts[1_999] == "unique t_id_key"
    # Those of the groups that failed first, the bad row, and one for all that were set apart.
    assert len(errors) <= bulk.GROUP_PATIENCE * bulk.GROUP_ROWS // 10 + 2


def test_all_rows_are_duplicates_of_what_is_there(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
    rows = rows_of(list(range(1_000)))
    write_rows(sqlite_url, rows, methods=["row", "bulk"])

    assert set(write_rows(sqlite_url, rows, methods=["row", "bulk"]).verdicts) == {"unique t_pkey"}


def test_rows_go_in_file_order_again_when_a_holder_of_a_key_is_refused(sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER UNIQUE, n INTEGER CHECK (n <> 1000))")
    keys: list[int | None] = [0 if number % 10 == 3 else number for number in range(2_000)]
    keys[1_001] = 1_000  # of the row that the CHECK refuses

    written = write_rows(sqlite_url, rows_of(keys), methods=["row", "bulk"])

    assert written.verdicts[1_001] == "written"
    assert fetch(sqlite_url, "SELECT n FROM t WHERE id = 1000") == [(1_001,)]


@pytest.mark.parametrize(
    "columns",
    [
        "id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n <> 5), x TEXT",
        "id BIGINT NOT NULL PRIMARY KEY, n INTEGER CHECK (n <> 5), x TEXT",
        "id INTEGER, n INTEGER, x TEXT, UNIQUE (id, n)",
        "id INTEGER UNIQUE, n INTEGER UNIQUE, x TEXT",
        "id INTEGER, n INTEGER, x TEXT UNIQUE COLLATE NOCASE",
        "id INTEGER, n INTEGER, x TEXT COLLATE NOCASE, UNIQUE (x COLLATE BINARY)",
        "id INTEGER, n INTEGER, x ODDINT UNIQUE",  # texts of which SQLite makes integers: 01 is 1
        "id INTEGER UNIQUE, n INTEGER REFERENCES parent, x TEXT",
        "id INTEGER, n INTEGER, x TEXT PRIMARY KEY) WITHOUT ROWID --",
    ],
)
@pytest.mark.parametrize("index", ["", "CREATE UNIQUE INDEX part ON t (n) WHERE n > 20"])
def test_duplicates_set_apart_end_as_in_the_row_loop(
    sqlite_url: str, columns: str, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "GROUP_ROWS", 3)
    monkeypatch.setattr(bulk, "GROUP_PATIENCE", 1)
    monkeypatch.setattr(sqlite_table, "ASKED_AT_ONCE", 4)
    run_sql(sqlite_url, "CREATE TABLE parent (id INTEGER PRIMARY KEY)", f"CREATE TABLE t ({columns})")
    run_sql(sqlite_url, "INSERT INTO parent VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)", *filter(None, [index]))
    rng = random.Random(columns + index)
    for _ in range(15):
        rows: list[Row] = [
            {
                "id": rng.choice([None, *range(60)]),
                "n": rng.choice([None, *range(12), *range(12)]),
                "x": rng.choice(["a", "A", "1", "01", "b", "B", None, *map(str, range(60))]),
            }
            for _ in range(rng.randrange(1, 30))
        ]
        write_rows(sqlite_url, rows, methods=["row", "bulk"])  # compares the two, and keeps what was written
