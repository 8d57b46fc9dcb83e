"""Hive's partitions: which columns a path has, and what becomes of them in the table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import SourceError
from etl.readers.files import find_sources
from etl.readers.partitions import partitions_of
from tests.commands import execute, items_job, query


def test_folders_with_an_equals_sign_are_columns_whose_values_are_decoded() -> None:
    path = "in/year=2024/city=S%C3%A3o%2FPaulo/a%20b=/x=__HIVE_DEFAULT_PARTITION__/e=mc=2/part=0.parquet"
    assert partitions_of(path) == {"year": "2024", "city": "São/Paulo", "a b": "", "x": None, "e": "mc=2"}
    assert partitions_of("plain/a=b.csv") == {}


@pytest.mark.parametrize(("path", "said"), [("a=1/a=2/x.csv", "two folders"), ("a=%ff/x.csv", "no UTF-8")])
def test_a_path_that_says_no_values_is_an_error(path: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        partitions_of(path)


def test_only_data_is_found_beneath_a_folder(tmp_path: Path) -> None:
    for name in (
        *("m=10/a.parquet", "m=2/a.parquet", "m=2/b/c.csv", "top.csv"),
        *("_SUCCESS", "m=2/_metadata", "m=2/_b.parquet", "_temporary/0/a.parquet", "m=2/.a.parquet.crc", ".x/a.csv"),
    ):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    found = [source.path for source in find_sources(["in"], tmp_path, is_hive=True)]
    assert found == ["in/m=2/a.parquet", "in/m=2/b/c.csv", "in/m=10/a.parquet", "in/top.csv"]


def test_a_folder_of_partitions_says_which_key_reads_it(tmp_path: Path) -> None:
    (tmp_path / "in" / "m=1").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"Set `hive = true` in its \[\[load\]\]"):
        find_sources(["in"], tmp_path)


EVENTS = (
    "CREATE TABLE events (id INTEGER PRIMARY KEY, year SMALLINT NOT NULL, city VARCHAR(9), n INTEGER CHECK (n < 35))"
)


def test_partitions_are_converted_by_the_type_of_their_target(tmp_path: Path, database_url: str) -> None:
    job = items_job(tmp_path, database_url, EVENTS)
    for number, folder in enumerate(
        ["year=2024/city=S%C3%A3o", "year=__HIVE_DEFAULT_PARTITION__/city=x", "year=MM/city=y"]
    ):
        path = tmp_path / "in" / folder / "part-0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"id": [2 * number, 2 * number + 1], "n": [1, 50]}), path)
    job.write("in/year=7/city=__HIVE_DEFAULT_PARTITION__/a.jsonl", '{"id":90,"n":1}\nbad\n')
    job.write("in/_SUCCESS", "")
    job.configure('source = "in"\ntable = "events"\nhive = true')

    done = job.call("load", "--json")
    assert done.exit_code == 3, done.errors
    assert sorted(query(database_url, "SELECT id, year, city, n FROM events")) == [
        (0, 2024, "São", 1),
        (90, 7, None, 1),
    ]
    assert [(file["path"], file["written"], file["rejected"]) for file in done.result["loads"][0]["files"]] == [
        ("in/year=7/city=__HIVE_DEFAULT_PARTITION__/a.jsonl", 1, 1),
        ("in/year=2024/city=S%C3%A3o/part-0.parquet", 1, 1),
        ("in/year=MM/city=y/part-0.parquet", 0, 2),
        ("in/year=__HIVE_DEFAULT_PARTITION__/city=x/part-0.parquet", 0, 2),
    ]
    told = job.call("rejects", "--format", "jsonl").output
    assert '"column": "year"' in told
    assert '"year": "MM"' in told


def test_a_load_goes_on_within_a_partition(tmp_path: Path, sqlite_url: str) -> None:
    job = items_job(tmp_path, sqlite_url, EVENTS)
    for year in (1, 2):
        path = tmp_path / "in" / f"year={year}" / "a.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"id": range(100 * year, 100 * year + 60)}), path)
    job.configure('source = "in"\ntable = "events"\nhive = true\ncommit_every = 10')
    execute(
        sqlite_url, "CREATE TRIGGER stop BEFORE INSERT ON events WHEN NEW.id = 235 BEGIN SELECT RAISE(FAIL, 'x'); END"
    )
    assert job.call("load", "--max-rejects", "0").exit_code == 4
    execute(sqlite_url, "DROP TRIGGER stop")
    assert job.call("load").exit_code == 0
    assert query(sqlite_url, "SELECT year, count(*) FROM events GROUP BY year") == [(1, 60), (2, 60)]


def test_a_column_in_the_path_and_in_the_file_is_an_error(tmp_path: Path, sqlite_url: str) -> None:
    job = items_job(tmp_path, sqlite_url)
    job.write("in/id=1/a.csv", "id,name\n1,x\n")
    job.configure('source = "in"\ntable = "items"\nhive = true')
    done = job.call("load")
    assert done.exit_code == 1
    assert "in/id=1/a.csv has the column id in its path and in itself" in done.told


def test_without_the_key_a_path_is_no_data(tmp_path: Path, sqlite_url: str) -> None:
    job = items_job(tmp_path, sqlite_url)
    job.write("in/year=1/a.csv", "id,name\n1,x\n")
    job.configure('source = "in/**/*.csv"\ntable = "items"')
    assert job.call("load").exit_code == 0
