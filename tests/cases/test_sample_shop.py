"""The sample shop by the configs that come with it, against what `sample_data/expect.py` found without etl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.commands import ROOT, Ended, call, count, is_postgresql, query

pytestmark = pytest.mark.newest_is_enough

EXPECTED = json.loads((ROOT / "sample_data" / "expected.json").read_text(encoding="utf-8"))
LINES = ("read", "written", "duplicates", "rejected")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what the README starts from."""
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def create_tables(folder: Path, url: str) -> None:
    script = folder / "sample_data" / "create_tables.py"
    subprocess.run([sys.executable, script, url], check=True, capture_output=True)


def shop(folder: Path, url: str, command: str, *arguments: str) -> Ended:
    """A command on the shop's config: postgres.toml, or quickstart.toml, whose database is beside the folder."""
    name = "postgres.toml" if is_postgresql(url) else "quickstart.toml"
    return call(command, folder / "configs" / name, *arguments, DATABASE_URL=url)


@pytest.fixture
def url(folder: Path, database_url: str) -> str:
    found = database_url if is_postgresql(database_url) else f"sqlite:///{folder / 'quickstart.db'}"
    create_tables(folder, found)
    return found


def test_every_record_of_the_shop_has_the_expected_verdict_and_the_second_run_loads_nothing(folder, url):
    ended = shop(folder, url, "load", "--json")

    assert ended.exit_code == 3
    assert pick(ended.result) == EXPECTED["run"]
    assert [load["name"] for load in ended.result["loads"]] == ["customers", "products", "orders", "order_lines"]
    for load in ended.result["loads"]:
        expected = EXPECTED["loads"][load["name"]]
        assert pick(load) == pick(expected)
        assert reasons(load) == expected["reasons"]
        assert {in_sample_data(file["path"]): pick(file) for file in load["files"]} == expected["files"]
        assert count(url, load["table"]) == load["written"]
    assert rejects(folder, url) == EXPECTED["rejects"]
    for fact in EXPECTED["facts"]:
        assert query(url, fact["sql"]) == [(fact["value"],)], fact["what"]

    again = shop(folder, url, "load", "--json")

    assert again.exit_code == 0
    assert pick(again.result) == dict.fromkeys(LINES, 0)
    statuses = {file["status"] for load in again.result["loads"] for file in load["files"]}
    assert statuses == {"already_loaded"}
    assert count(url, "orders") == EXPECTED["loads"]["orders"]["written"]


@pytest.fixture
def quickstart(folder: Path) -> str:
    url = f"sqlite:///{folder / 'quickstart.db'}"
    create_tables(folder, url)
    return url


def test_the_second_run_says_that_there_is_nothing_new(folder, quickstart):
    shop(folder, quickstart, "load")

    again = shop(folder, quickstart, "load")

    assert again.output.startswith("Nothing new: every file was loaded before, and nothing was loaded twice.\n")


def test_a_rerun_meets_its_own_rows_as_duplicates(folder, quickstart):
    shop(folder, quickstart, "load", "--method", "row")

    again = shop(folder, quickstart, "load", "--rerun", "--json").result

    assert again["written"] == 0
    assert again["read"] == EXPECTED["run"]["read"]
    assert again["duplicates"] == EXPECTED["run"]["duplicates"] + EXPECTED["run"]["written"]
    assert again["rejected"] == EXPECTED["run"]["rejected"]


def pick(counted: dict[str, Any]) -> dict[str, int]:
    return {line: counted[line] for line in LINES}


def in_sample_data(path: str) -> str:
    return path.rpartition("sample_data/")[2]


def reasons(load: dict[str, Any]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for some in load["rejects"]:
        counted[some["reason"]] += some["count"]
    return dict(sorted(counted.items()))


def rejects(folder: Path, url: str) -> list[dict[str, Any]]:
    """As expected.json has them. The customers that were there already are listed too, on request of the config."""
    lines = shop(folder, url, "rejects", "--format", "jsonl").output.splitlines()
    found = [json.loads(line) for line in lines]
    keys = ("load", "file", "record", "line", "reason")
    return [
        {key: in_sample_data(reject[key]) if key == "file" else reject[key] for key in keys}
        for reject in found
        if reject["phase"] != "duplicate"
    ]
