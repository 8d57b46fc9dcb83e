"""A run that makes its table, killed around the commit that the table comes with: the same command goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.commands import execute, is_postgresql, query, tables
from tests.crash.nursery import Nursery
from tests.crash.steps import Moment, Step

pytestmark = pytest.mark.newest_is_enough

LOADS = """
[[load]]
source = "new.csv"
table = "made"
create = true
key = "id"
commit_every = 2

[[load]]
source = "grown.csv"
table = "grown"
add_columns = true
"""
NOT_COMMITTED: list[tuple[str, Moment, int]] = [("run", "before", 1), ("run", "after", 1)]
COMMITTED: list[tuple[str, Moment, int]] = [("file", "before", 1), ("rows", "after", 2)]


@pytest.mark.parametrize(("name", "moment", "number"), NOT_COMMITTED + COMMITTED)
def test_run_that_was_killed_while_it_made_its_table_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, nursery: Nursery, name: str, moment: Moment, number: int
) -> None:
    if not is_postgresql(database_url):
        Path(make_url(database_url).database or "").touch()
    execute(database_url, "CREATE TABLE grown (id INTEGER PRIMARY KEY)")
    (tmp_path / "new.csv").write_text("id,code\n1,007\n2,010\n3,x\n2,y\n5,z\n")
    (tmp_path / "grown.csv").write_text("id,price\n1,1.5\n2,\n")
    config = tmp_path / "job.toml"
    config.write_text(f'[database]\nurl = "{database_url}"\n{LOADS}', encoding="utf-8")

    killed = nursery.run("load", config, "--json", "--no-progress", step=Step(name, moment, number))

    assert killed.exit_code == -signal.SIGKILL
    is_made, is_run = "made" in tables(database_url), "etl_run" in tables(database_url)
    assert is_made == is_run, "the table is there with the run, or neither is"
    assert is_made == ((name, moment, number) in COMMITTED)
    done = nursery.run("load", config, "--json", "--no-progress")
    assert (done.exit_code, done.result["written"], done.result["duplicates"]) == (0, 6, 1)
    assert sorted(query(database_url, "SELECT id, code FROM made")) == [(1, "007"), (2, "010"), (3, "x"), (5, "z")]
    assert [(id_, price and float(price)) for id_, price in query(database_url, "SELECT * FROM grown ORDER BY id")] == [
        (1, 1.5),
        (2, None),
    ]
