"""What the mapping and the filter do to texts is the same in each format: CSV, JSON lines, Parquet and Arrow."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import etl
from tests.files import write_job
from tests.jobs import fetch, run_sql

Records = list[dict[str, Any]]
RECORDS: Records = [
    {"id": "1", "name": " Xy ", "day": "31/01/2024", "moment": "1700000000", "price": "12.50", "paid": "true"},
    {"id": "2", "name": "pq", "day": "2024-02-01", "moment": "0", "price": "-3", "paid": "f"},
    {"id": "3", "name": None, "day": None, "moment": None, "price": None, "paid": None},
]
TABLE = (
    "CREATE TABLE things (id integer PRIMARY KEY, name varchar(20), day date, moment timestamptz, price numeric(9,2),"
    " paid boolean)"
)


def write_csv(path: Path, records: Records) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def write_json_lines(path: Path, records: Records) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def write_parquet(path: Path, records: Records) -> None:
    pq.write_table(pa.Table.from_pylist(records), path)


def write_arrow(path: Path, records: Records) -> None:
    feather.write_feather(pa.Table.from_pylist(records), path, compression="uncompressed")


FORMATS: dict[str, Callable[[Path, Records], None]] = {
    "things.csv": write_csv,
    "things.jsonl": write_json_lines,
    "things.parquet": write_parquet,
    "things.arrow": write_arrow,
}


def load(folder: Path, url: str, source: str, **load_keys: Any) -> etl.RunResult:
    """Load the records, but for the columns that are not named."""
    run_sql(url, TABLE)
    FORMATS[source](folder / source, RECORDS)
    columns = {"id": "id"} | load_keys.pop("columns", {"name": "name"})
    ignored = [name for name in RECORDS[0] if name not in columns]
    keys = {"source": source, "table": "things", "columns": columns, "ignore_columns": ignored}
    return etl.load(write_job(folder, url, keys | load_keys))


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize(
    ("column", "entry", "expected"),
    [
        ("name", {"from": "name", "trim": True}, ["Xy", "pq", None]),
        ("name", {"from": "name", "case": "upper"}, [" XY ", "PQ", None]),
        ("name", {"from": "name", "default": "nobody"}, [" Xy ", "pq", "nobody"]),
        ("name", {"concat": ["name", "price"], "separator": "|", "trim": True}, ["Xy |12.50", "pq|-3", None]),
        ("name", {"compute": "utf8_reverse", "args": ["name"]}, [" yX ", "qp", None]),
        ("day", {"from": "day", "format": ["%d/%m/%Y", "%Y-%m-%d"]}, ["2024-01-31", "2024-02-01", None]),
        (
            "moment",
            {"from": "moment", "format": "epoch"},
            ["2023-11-14 22:13:20.000000", "1970-01-01 00:00:00.000000", None],
        ),
        ("price", "price", [12.5, -3, None]),
        ("price", {"from": "price", "default": 7}, [12.5, -3, 7]),
        ("price", {"compute": "add", "args": ["price", {"value": 1}], "as": "numeric(9,2)"}, [13.5, -2, None]),
        ("paid", "paid", [1, 0, None]),
    ],
)
def test_a_column_is_mapped_alike_from_each_format(sqlite_url, tmp_path, source, column, entry, expected):
    result = load(tmp_path, sqlite_url, source, columns={column: entry})

    assert (result.exit_code, result.counts.written) == (0, 3)
    assert [value for (value,) in fetch(sqlite_url, f"SELECT {column} FROM things ORDER BY id")] == expected


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"column": "price", "greater": 0}, [1]),
        ({"column": "price", "equals": 12.5}, [1]),
        ({"column": "name", "equals": "pq"}, [2]),
        ({"column": "name", "not_equals": "pq"}, [1, 3]),
        ({"column": "name", "matches": "^ X"}, [1]),
        ({"column": "name", "is_null": False}, [1, 2]),
        ({"column": "paid", "equals": True}, [1]),
        ({"column": "id", "in": ["1", "3"]}, [1, 3]),
        ({"column": "id", "in": [1, 3]}, [1, 3]),
        ({"column": "id", "less": "3"}, [1, 2]),
    ],
)
def test_a_condition_holds_alike_in_each_format(sqlite_url, tmp_path, source, condition, expected):
    result = load(tmp_path, sqlite_url, source, filter=[condition])

    assert (result.counts.written, result.counts.filtered) == (len(expected), 3 - len(expected))
    assert [number for (number,) in fetch(sqlite_url, "SELECT id FROM things ORDER BY id")] == expected
