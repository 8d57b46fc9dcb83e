"""Each exit code of `etl load`, by a process of its own, and the one JSON object that goes with it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.commands import (
    FILE_KEYS,
    ITEMS,
    LOAD_KEYS,
    RESULT_KEYS,
    Ended,
    Job,
    call,
    count,
    execute,
    is_postgresql,
    items_csv,
    items_job,
    ledger,
    query,
    wait_until,
)

pytestmark = pytest.mark.newest_is_enough

GOOD = [(1, "one"), (2, "two"), (3, "three")]
BAD = [(1, "one"), ("x", "two"), (3, ""), (4, "four")]  # no number, no name


def assert_one_json_object(ended: Ended, exit_code: int, status: str) -> dict[str, Any]:
    """Standard output is the object of design.md, section 4, and nothing else."""
    assert ended.exit_code == exit_code, ended.errors
    assert ended.output.count("\n") == 1
    assert ended.output.endswith("}\n")
    result = ended.result
    assert list(result) == RESULT_KEYS
    assert (result["status"], result["exit_code"]) == (status, exit_code)
    for load in result["loads"]:
        assert list(load) == LOAD_KEYS
        assert all(list(file) == FILE_KEYS for file in load["files"])
        assert all({"phase", "sqlstate", "constraint", "count"} <= set(some) for some in load["rejects"])
    for counted in [result, *result["loads"]]:
        verdicts = ("written", "updated", "unchanged", "duplicates", "rejected", "filtered")
        assert counted["read"] == sum(counted[verdict] for verdict in verdicts)
    if result["error"] is None:
        assert "etl: " not in ended.errors
    else:
        assert ended.told == f"etl: {result['error']}"
    return result


def run(job: Job) -> Ended:
    """`etl load --json` in a process of its own; on PostgreSQL in this one: the way out of it is the same."""
    return job.call("load", "--json") if is_postgresql(job.url) else job.etl("load", "--json")


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Job:
    return items_job(tmp_path, database_url)


def test_0_when_nothing_is_rejected_though_there_are_duplicates(job):
    job.write("items.csv", items_csv([*GOOD, (1, "one again")]))

    ended = run(job)

    result = assert_one_json_object(ended, 0, "completed")
    assert (result["read"], result["written"], result["duplicates"], result["rejected"]) == (4, 3, 1, 0)
    assert (result["job"], result["dry_run"], result["error"]) == ("job.toml", False, None)
    (load,) = result["loads"]
    assert (load["name"], load["table"], load["rejects"]) == ("items", load["table"], [])
    assert load["table"].endswith("items")
    assert load["files"] == [
        {"path": "items.csv", "status": "loaded", "read": 4, "written": 3, "duplicates": 1, "rejected": 0}
    ]
    assert query(job.url, "SELECT id, name FROM items ORDER BY id") == GOOD


def test_3_when_records_are_rejected_and_the_others_are_written(job):
    job.write("items.csv", items_csv(BAD))

    ended = run(job)

    result = assert_one_json_object(ended, 3, "completed")
    assert (result["read"], result["written"], result["rejected"]) == (4, 2, 2)
    assert result["error"] is None
    told = [(some["phase"], some["sqlstate"], some["count"]) for some in result["loads"][0]["rejects"]]
    assert sorted(told, key=str) == [("map", None, 1), ("write", "23502", 1)]
    assert query(job.url, "SELECT id, name FROM items ORDER BY id") == [(1, "one"), (4, "four")]


def test_1_when_a_source_breaks_off_and_the_same_command_goes_on_once_it_is_mended(job):
    job.configure('source = ["a.csv", "b.parquet"]\ntable = "items"\ncommit_every = "file"')
    job.write("a.csv", items_csv(GOOD))
    more = pa.table({"id": range(11, 111), "name": [f"item {number}" for number in range(11, 111)]})
    pq.write_table(more, job.folder / "b.parquet", compression="none", write_page_checksum=True)
    whole = (job.folder / "b.parquet").read_bytes()
    job.write("b.parquet", whole.replace(b"item 50", b"ITEM 50"))

    result = assert_one_json_object(run(job), 1, "failed")

    assert str(result["error"]).startswith("b.parquet cannot be read in row group 0: ")
    assert (result["read"], result["written"]) == (3, 3)
    assert query(job.url, "SELECT id, name FROM items ORDER BY id") == GOOD

    job.write("b.parquet", whole)
    again = assert_one_json_object(job.call("load", "--json"), 0, "completed")

    assert again["run_id"] == result["run_id"]
    assert (again["read"], again["written"]) == (103, 103)
    assert count(job.url, "items") == 103


def test_2_when_the_config_is_wrong_and_nothing_is_started(job):
    job.write("items.csv", items_csv(GOOD))
    job.configure('source = "items.csv"\ntabble = "items"')

    ended = run(job)

    result = assert_one_json_object(ended, 2, "failed")
    assert (result["run_id"], result["read"], result["loads"]) == (None, 0, [])
    assert "tabble" in str(result["error"])
    assert count(job.url, "items") == 0


def test_4_when_max_rejects_is_passed_and_the_open_transaction_is_rolled_back(job):
    job.configure('source = ["a.csv", "b.csv"]\ntable = "items"\nmax_rejects = 1\ncommit_every = "file"')
    job.write("a.csv", items_csv(GOOD))
    job.write("b.csv", items_csv([(11, "eleven"), ("x", "two"), (13, ""), (14, "four")]))

    ended = run(job)

    result = assert_one_json_object(ended, 4, "failed")
    assert "max_rejects = 1" in str(result["error"])
    assert (result["read"], result["written"], result["rejected"]) == (3, 3, 0)
    assert query(job.url, "SELECT id, name FROM items ORDER BY id") == GOOD
    assert count(job.url, ledger(job.url, "etl_reject")) == 0


SLOW_ON_SQLITE = [
    "CREATE VIEW slow AS WITH RECURSIVE numbers(n) AS"
    " (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 150000) SELECT max(n) AS n FROM numbers",
    "CREATE TRIGGER slowly BEFORE INSERT ON items BEGIN SELECT n FROM slow; END",
]
SLOW_ON_POSTGRESQL = [
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.03); RETURN new; END'",
    "CREATE TRIGGER slowly BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION slow()",
]
MANY = [(number, f"item {number}") for number in range(1, 501)]


@pytest.mark.parametrize(("given", "exit_code"), [("1", 4), ("49.9%", 4), ("50%", 3), ("2", 3)])
def test_max_rejects_of_the_command_line_overrides_that_of_the_config(tmp_path, sqlite_url, given, exit_code):
    job = items_job(tmp_path, sqlite_url)
    job.configure(f'source = "items.csv"\ntable = "items"\nmax_rejects = {9 if exit_code == 4 else 0}')
    job.write("items.csv", items_csv(BAD))

    ended = job.call("load", "--max-rejects", given)

    assert ended.exit_code == exit_code
    assert count(job.url, "items") == (0 if exit_code == 4 else 2)
    if exit_code == 4:
        assert f"2 of 4 records were rejected, more than max_rejects = {given} allows" in ended.errors


@pytest.fixture
def slow_job(tmp_path: Path, database_url: str) -> Job:
    """A job whose every row takes a few hundredths of a second, and 500 of them many seconds."""
    slow = SLOW_ON_POSTGRESQL if is_postgresql(database_url) else SLOW_ON_SQLITE
    job = items_job(tmp_path, database_url, ITEMS, *slow)
    job.write("items.csv", items_csv(MANY))
    return job


def make_quick(job: Job) -> None:
    execute(job.url, "DROP TRIGGER slowly" + (" ON items" if is_postgresql(job.url) else ""))


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["130 by SIGINT", "143 by SIGTERM"],
)
def test_a_signal_rolls_the_open_transaction_back_and_the_same_command_finishes(slow_job, number, exit_code):
    slow_job.configure('source = "items.csv"\ntable = "items"\ncommit_every = 10\nmethod = "row"')

    with slow_job.started("--json") as run:
        wait_until(lambda: count(slow_job.url, "items") >= 10)
        stopped = run.end(number)

    result = assert_one_json_object(stopped, exit_code, "stopped")
    committed = count(slow_job.url, "items")
    assert 10 <= committed < 500
    assert committed % 10 == 0
    assert (result["read"], result["written"]) == (committed, committed)
    assert result["loads"][0]["files"][0]["status"] == "partial"

    make_quick(slow_job)
    finished = assert_one_json_object(slow_job.call("load", "--json"), 0, "completed")

    assert finished["run_id"] == result["run_id"]
    assert finished["written"] == 500
    assert query(slow_job.url, "SELECT id, name FROM items ORDER BY id") == MANY


def test_5_when_another_run_of_the_job_is_at_work_even_in_a_long_transaction(slow_job):
    slow_job.configure('source = "items.csv"\ntable = "items"\ncommit_every = "run"\nmethod = "row"')
    runs = ledger(slow_job.url, "etl_run")

    with slow_job.started() as first:
        wait_until(lambda: "etl_run" in str(_tables(slow_job)) and count(slow_job.url, runs) == 1)
        second = slow_job.call("load", "--json", "--wait", "1")
        is_still_at_work = first.process.poll() is None

    assert is_still_at_work, "the first run has to be slower than this"
    result = assert_one_json_object(second, 5, "failed")
    assert str(result["error"]).startswith("Another run of job.toml is at work on this database")
    assert str(result["error"]).endswith("Wait until it has ended, or give --wait SECONDS to wait here.")
    assert result["run_id"] is None
    assert count(slow_job.url, runs) == 1


def _tables(job: Job) -> list[tuple[str]]:
    catalog = "SELECT tablename FROM pg_tables" if is_postgresql(job.url) else "SELECT name FROM sqlite_master"
    return query(job.url, catalog)


# Without a database


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing argument 'CONFIG'."),
        (["job.toml", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range x>=1."),
        (
            ["job.toml", "--max-rejects", "many"],
            "Invalid value for '--max-rejects': 'many' is not allowed; allowed: a number",
        ),
        (["job.toml", "--max-rejects", "101%"], "Invalid value for '--max-rejects': '101%' is not allowed; allowed: a"),
        (
            ["job.toml", "--max-rejects", "-1"],
            "Invalid value for '--max-rejects': '-1' is not allowed; allowed: a number",
        ),
        (["job.toml", "--method", "fast"], "Invalid value for '--method': 'fast' is not one of"),
        (["job.toml", "--fast"], "No such option"),
    ],
    ids=[
        "no config",
        "a limit of 0",
        "rejects: no number",
        "rejects: no share",
        "rejects: less than none",
        "unknown method",
        "unknown option",
    ],
)
def test_2_when_the_command_line_is_wrong_also_as_json(arguments, told):
    ended = call("load", *arguments, "--json")

    result = assert_one_json_object_of_usage(ended)
    assert told in str(result["error"])


def assert_one_json_object_of_usage(ended: Ended) -> dict[str, Any]:
    assert ended.exit_code == 2
    assert ended.output.count("\n") == 1
    assert list(ended.result) == RESULT_KEYS
    assert ended.result["exit_code"] == 2
    assert ended.errors.startswith("Usage: etl load ")
    return ended.result


def test_an_unknown_command_is_a_usage_error():
    ended = call("lode", "job.toml")

    assert ended.exit_code == 2
    assert ended.output == ""
    assert "No such command 'lode'" in ended.errors


def test_2_when_only_names_no_load_of_the_job(tmp_path):
    job = items_job(tmp_path, f"sqlite:///{tmp_path / 'target.db'}")
    job.write("items.csv", items_csv(GOOD))

    ended = job.etl("load", "--json", "--only", "item")

    result = assert_one_json_object(ended, 2, "failed")
    assert result["error"] == "job.toml has no load named item. It has items."
