"""On SQLite many rows go in one statement: what becomes of each is what would have become of it alone."""

from __future__ import annotations

import random

import pytest

from etl.writers import bulk
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
