"""Golden cases: a folder each with config, tables, files, and what must come out of them on every database.

    job.toml                  the database's URL is ${ETL_CASE_DATABASE_URL}
    tables.sql                or tables.postgresql.sql, for a case that only PostgreSQL can have
    expected/exit_code
    expected/TABLE.csv        all rows, in any order; NULL is \\N; values as PostgreSQL writes them
    expected/rejects.jsonl    as `etl rejects --format jsonl` gives them, without run_id and message

Behind a column's name in TABLE.csv stands its type where SQLite stores something else than PostgreSQL's text.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from tests.commands import REJECT_KEYS, call, execute, is_postgresql, ledger, query, tables
from tests.comparison import engines_kept

HERE = Path(__file__).resolve().parent
SHOP = HERE.parent.parent / "sample_data"
CASES = sorted(path.parent for path in HERE.glob("*/job.toml"))
METHODS = ("row", "bulk", "copy")


def is_for(case: Path, url: str) -> bool:
    return (case / "tables.sql").exists() or is_postgresql(url)


def make_empty(url: str) -> None:
    """The database as if it were new, but for the ledger's tables, which are empty: making them takes time."""
    if is_postgresql(url):
        execute(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    else:
        others = {table for table in tables(url) if not table.startswith("etl_")}
        execute(url, *(f"DROP TABLE {table}" for table in others))
    if "etl_run" in tables(url):
        ledger_tables = [ledger(url, table) for table in ("etl_reject", "etl_file", "etl_run")]
        execute(url, *(f"DELETE FROM {table}" for table in ledger_tables))


def make_tables(case: Path, url: str) -> None:
    (script,) = case.glob("tables*.sql")
    execute(url, *filter(str.strip, script.read_text().split(";\n")))


def test_cases(database_url, tmp_path, subtests):
    if not is_postgresql(database_url):
        Path(make_url(database_url).database or "").touch()
    for case in CASES:
        folder = shutil.copytree(case, tmp_path / case.name)
        for method in METHODS if is_for(case, database_url) else ():
            if method == "copy" and not is_postgresql(database_url):
                continue
            with subtests.test(case.name, method=method), engines_kept():
                make_empty(database_url)
                make_tables(case, database_url)
                assert_is_as_expected(case, folder / "job.toml", method, database_url)


def assert_is_as_expected(case: Path, config: Path, method: str, url: str) -> None:
    loaded = call("load", config, "--method", method, ETL_CASE_DATABASE_URL=url)

    assert str(loaded.exit_code) == (case / "expected" / "exit_code").read_text().strip(), loaded.errors
    assert rejects(config, url) == expected_rejects(case)
    for table in (case / "expected").glob("*.csv"):
        assert rows(url, table) == expected_rows(table), table.name


def test_there_are_cases():
    assert len(CASES) >= 28


def expected_rows(table: Path) -> list[list[str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return sorted(list(csv.reader(file))[1:])


def expected_rejects(case: Path) -> list[dict[str, Any]]:
    lines = (case / "expected" / "rejects.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def rejects(config: Path, url: str) -> list[dict[str, Any]]:
    ended = call("rejects", config, "--format", "jsonl", ETL_CASE_DATABASE_URL=url)
    assert ended.exit_code == 0
    found = [json.loads(line) for line in ended.output.split("\n") if line]
    for reject in found:
        assert list(reject) == REJECT_KEYS
        assert reject.pop("run_id")
        assert reject.pop("message")
    return found


def rows(url: str, table: Path) -> list[list[str]]:
    """What is in a table, as PostgreSQL writes it."""
    with table.open(encoding="utf-8", newline="") as file:
        columns = [re.fullmatch(r"(\w+)(?::(.+))?", name) for name in next(csv.reader(file))]
    names, kinds = zip(*((match[1], match[2]) for match in columns if match), strict=True)
    if is_postgresql(url):
        found = query(url, f"SELECT {', '.join(f'{name}::text' for name in names)} FROM {table.stem}")
        return sorted([["\\N" if value is None else value for value in row] for row in found])
    found = query(url, f"SELECT {', '.join(names)} FROM {table.stem}")
    return sorted([[as_postgresql(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in found])


def as_postgresql(value: Any, kind: str | None) -> str:
    """PostgreSQL's text for what SQLite stores."""
    if value is None:
        return "\\N"
    if kind == "boolean":
        return {0: "false", 1: "true"}[value]
    if kind and kind.startswith("numeric"):
        return str(Decimal(str(value)).quantize(Decimal(1).scaleb(-int(kind[8:-1]))))
    if kind in ("time", "timestamp"):
        return str(value).rstrip("0").rstrip(".") if "." in value else str(value)
    if kind == "timestamptz":
        return as_postgresql(value, "timestamp") + "+00"
    if kind == "char":
        return str(value).rstrip(" ")
    if kind == "double":
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), repr(value).removesuffix(".0"))
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return str(value)
