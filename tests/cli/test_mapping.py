"""Filter, transform and computed columns through the commands, on every database."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.commands import Job, call, is_postgresql, items_job, query
from tests.commands import ledger as ledger_table

pytestmark = pytest.mark.newest_is_enough

ORDERS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer VARCHAR(20) NOT NULL, total NUMERIC(8, 2), record INTEGER)"
)
CSV = """id,first,last,total,status
1,Ann,Lee,10,paid
2,Bob,Ray,20,void
3,Bad,Ray,30,paid
4,Cy,Ray,4x,paid
5,Dee,Ray,50,paid
1,Ann,Lee,60,paid
6,Gone,Ray,70,paid
"""
LOAD = """
source = "orders.*"
table = "orders"
filter = [{ column = "status", equals = "paid" }]
transform = "cleaning:clean"
commit_every = 2
[load.columns]
customer = { concat = ["first", "last"], separator = " ", case = "upper" }
record = { record = true }
"""
CLEANING = """
import etl
import pyarrow.compute as pc

def clean(records):
    bad = records.filter(pc.equal(records["first"], "Bad"))
    if bad.num_rows:
        raise etl.RecordErrors({number: "a bad name" for number in bad["etl_record"].to_pylist()})
    return records.filter(pc.not_equal(records["first"], "Gone")).drop_columns(["status"])
"""
FAILING = """
def clean_all(records):
    if 5 in records["etl_record"].to_pylist():
        raise ValueError("Dee")
    return clean(records)
"""
ROWS = [(1, "ANN LEE", 10.0, 1), (5, "DEE RAY", 50.0, 5)]


@pytest.fixture
def orders(tmp_path: Path, database_url: str) -> Iterator[Job]:
    """On every database."""
    yield from orders_job(tmp_path, database_url)


@pytest.fixture
def sqlite_orders(tmp_path: Path, sqlite_url: str) -> Iterator[Job]:
    """For what no database has a part in."""
    yield from orders_job(tmp_path, sqlite_url)


def orders_job(folder: Path, url: str) -> Iterator[Job]:
    job = items_job(folder, url, ORDERS)
    job.configure(LOAD)
    job.write("cleaning.py", CLEANING)
    job.write("orders.csv", CSV)
    sys.modules.pop("cleaning", None)
    yield job
    sys.modules.pop("cleaning", None)


def rows(job: Job) -> list[tuple[object, ...]]:
    found = query(job.url, "SELECT id, customer, total, record FROM orders ORDER BY id")
    return [(id_, name, None if total is None else float(total), record) for id_, name, total, record in found]


def as_parquet(job: Job) -> None:
    """The same records as a typed file: the numbers are numbers, and one that is none is not there."""
    lines = [line.split(",") for line in CSV.splitlines()[1:]]
    ids, firsts, lasts, totals, statuses = zip(*lines, strict=True)
    table = pa.table(
        {
            "id": pa.array(map(int, ids), pa.int32()),
            "first": pa.array(firsts).dictionary_encode(),
            "last": pa.array(lasts, pa.large_string()),
            "total": pa.array([None if total == "4x" else int(total) for total in totals]),
            "status": pa.array(statuses),
        }
    )
    pq.write_table(table, job.folder / "orders.parquet", row_group_size=2)
    (job.folder / "orders.csv").unlink()


@pytest.mark.parametrize("method", ["row", "bulk", "copy"])
def test_each_record_has_one_verdict(orders: Job, method: str) -> None:
    ended = orders.call("load", "--json", "--method", method)
    assert ended.exit_code == 3
    (load,) = ended.result["loads"]
    counts = [load[name] for name in ("read", "written", "duplicates", "rejected", "filtered")]
    assert counts == [7, 2, 1, 2, 2]
    assert rows(orders) == ROWS
    (run,) = call("history", orders.config, "--json", TEST_DATABASE_URL=orders.url).result["runs"]
    assert (run["read"], run["filtered"]) == (7, 2)
    columns = "read_count, written, duplicates, rejected, filtered"
    assert query(orders.url, f"SELECT {columns} FROM {ledger_table(orders.url, 'etl_file')}") == [(7, 2, 1, 2, 2)]
    told = orders.call("rejects", "--format", "csv").output.splitlines()
    assert [line.split(",")[3:7] for line in told[1:]] == [["3", "4", "map", "transform"], ["4", "5", "map", "type"]]
    assert '""first"": ""Bad"", ""last"": ""Ray"", ""total"": ""30"", ""status"": ""paid""' in told[1]


def test_a_typed_file_is_filtered_transformed_and_mapped_alike(orders: Job) -> None:
    as_parquet(orders)
    ended = orders.call("load", "--json")
    counts = [ended.result[name] for name in ("read", "written", "duplicates", "rejected", "filtered")]
    assert counts == [7, 3, 1, 1, 2]
    assert rows(orders) == [ROWS[0], (4, "CY RAY", None, 4), ROWS[1]]


def test_the_report_and_the_history_show_what_was_filtered(sqlite_orders: Job) -> None:
    headline, numbers = sqlite_orders.call("load").output.splitlines()[:2]
    assert dict(zip(headline.split(), numbers.split(), strict=False))["filtered"] == "2"
    *_, headline, numbers = sqlite_orders.call("history").output.rstrip().splitlines()
    assert "filtered" in headline.split()
    assert " 7 " in numbers


def test_check_says_where_each_column_comes_from(sqlite_orders: Job) -> None:
    told = sqlite_orders.call("check").output
    assert "filter      \"status\" equals 'paid'" in told
    assert "transform   cleaning:clean" in told
    assert 'from "first" and "last" joined with " " between, in upper case' in told
    assert "from the record's number" in told
    (load,) = sqlite_orders.call("check", "--json").result["loads"]
    assert (load["filter"], load["transform"]) == (["\"status\" equals 'paid'"], "cleaning:clean")


def test_verify_compares_what_is_not_filtered(orders: Job) -> None:
    ended = orders.call("check", "--verify", "100", "--json")
    assert (ended.exit_code, [load["verify"]["same"] for load in ended.result["loads"]]) == (0, [True])
    assert rows(orders) == []


def test_a_load_that_a_transform_has_ended_is_resumed_exactly(orders: Job) -> None:
    orders.write("cleaning.py", CLEANING + FAILING)
    orders.configure(LOAD.replace("cleaning:clean", "cleaning:clean_all"))
    ended = orders.call("load", "--json")
    assert ended.exit_code == 1
    assert (
        'transform = "cleaning:clean_all" raised ValueError in clean_all (cleaning.py, line ' in ended.result["error"]
    )
    assert "for records 5 to 6 of orders.csv" in ended.result["error"]
    assert "Dee" not in ended.result["error"] + ended.errors
    assert ended.result["read"] == 4
    orders.configure(LOAD)
    counts = orders.call("load", "--json").result
    assert [counts[name] for name in ("read", "written", "duplicates", "rejected", "filtered")] == [7, 2, 1, 2, 2]
    assert rows(orders) == ROWS


def test_a_column_that_a_transform_drops_is_told_as_that(sqlite_orders: Job) -> None:
    sqlite_orders.configure(LOAD.replace('concat = ["first", "last"]', 'concat = ["first", "status"]'))
    ended = sqlite_orders.call("load")
    assert ended.exit_code == 1
    told = 'missing column "status"; what the transform returns has "id", "first", "last", "total"'
    assert told in ended.told


def test_a_module_that_is_not_there_or_broken_is_a_config_error(sqlite_orders: Job) -> None:
    for module, told in (
        ("", "has no attribute 'clean'"),
        ("clean = 3", 'transform = "cleaning:clean" is no function.'),
        ("def", "cannot be imported: invalid syntax"),
        ("1 / 0", "cannot be imported: division by zero"),
        ("def clean(records): return None", "called without records to learn its columns, returned NoneType"),
    ):
        sys.modules.pop("cleaning", None)
        sqlite_orders.write("cleaning.py", module + "\n")
        shutil.rmtree(sqlite_orders.folder / "__pycache__", ignore_errors=True)
        ended = sqlite_orders.call("load")
        assert ended.exit_code == 2, module
        assert told in ended.told, module


def test_a_filter_that_leaves_nothing_loads_nothing_and_is_done(sqlite_orders: Job) -> None:
    sqlite_orders.configure(LOAD.replace('equals = "paid"', 'equals = "lost"'))
    ended = sqlite_orders.call("load", "--json")
    assert (ended.exit_code, ended.result["read"], ended.result["filtered"]) == (0, 7, 7)
    assert sqlite_orders.call("load", "--json").result["loads"][0]["files"][0]["status"] == "already_loaded"


def test_numbers_of_records_are_right_however_the_file_is_cut(orders: Job) -> None:
    lines = [f"{number},A,B,{number},{'paid' if number % 3 else 'void'}" for number in range(1, 20_001)]
    orders.write("orders.csv", "\n".join(["id,first,last,total,status", *lines]) + "\n")
    orders.configure(LOAD.replace("commit_every = 2", "commit_every = 7_000"))
    ended = orders.call("load", "--json")
    assert (ended.exit_code, ended.result["written"], ended.result["filtered"]) == (0, 13_334, 6_666)
    total = 20_000 * 20_001 // 2 - 3 * (6_666 * 6_667 // 2)
    assert query(orders.url, "SELECT count(*), sum(record), sum(id) FROM orders") == [(13_334, total, total)]
    assert is_postgresql(orders.url) == (ended.result["loads"][0]["method"] == "copy")
