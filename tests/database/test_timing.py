"""What a run says of its own cost: savepoints as SQLAlchemy counts them, pieces settled, seconds of each phase."""

from __future__ import annotations

from pathlib import Path

import pytest

import etl
from etl.config import Method
from etl.records import Timing
from tests.jobs import run_sql

pytestmark = pytest.mark.newest_is_enough

PHASES = {"start", "read", "map", "encode", "wait", "write", "commit"}


def timing_of(url: str, folder: Path, lines: list[str], method: Method, **load: object) -> Timing:
    (folder / "t.csv").write_text("\n".join(["id,n", *lines]))
    settings = "".join(f"{key} = {value}\n" for key, value in load.items())
    (folder / "job.toml").write_text(
        f'[database]\nurl = "{url}"\n[[load]]\nsource = "t.csv"\ntable = "t"\nmethod = "{method}"\n{settings}'
    )
    timing = etl.load(folder / "job.toml").timing
    assert timing is not None
    return timing


def test_row_loop_makes_a_savepoint_for_each_row_and_goes_back_to_it_for_each_refused_one(
    database_url: str, tmp_path: Path
) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
    timing = timing_of(database_url, tmp_path, ["1,1", "1,2", "2,", "3,3"], "row")
    assert (timing.savepoints, timing.rollbacks, timing.settled) == (4, 2, 0)


@pytest.mark.parametrize("method", ["bulk", "copy"])
def test_clean_piece_costs_one_savepoint(database_url: str, tmp_path: Path, method: Method) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
    lines = [f"{number},1" for number in range(1_000)]
    timing = timing_of(database_url, tmp_path, lines, method, commit_every=500)
    assert (timing.savepoints, timing.rollbacks, timing.settled) == (2, 0, 0)


def test_piece_that_can_only_be_judged_row_by_row_is_counted_as_settled(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER REFERENCES t)")
    timing = timing_of(postgres_url, tmp_path, ["1,", "2,1", "3,9"], "copy", commit_every=2)
    assert timing.settled == 2


@pytest.mark.parametrize("method", ["row", "bulk", "copy"])
def test_every_phase_has_its_seconds(database_url: str, tmp_path: Path, method: Method) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
    seconds = timing_of(database_url, tmp_path, ["1,1", "2,2"], method).seconds
    assert set(seconds) == PHASES
    assert all(0 <= spent < 60 for spent in seconds.values())


def test_a_second_run_counts_its_own_execution_only(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
    lines = [f"{number},1" for number in range(10)]
    first = timing_of(database_url, tmp_path, lines, "row")
    again = timing_of(database_url, tmp_path, lines, "row")
    assert (first.savepoints, again.savepoints) == (10, 0)
