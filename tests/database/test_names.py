"""Names and values that are SQL, control characters or both: nothing of them is executed, none reaches a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from etl.errors import TargetMismatch
from tests.commands import Job, call, etl
from tests.databases import connect
from tests.files import write_csv, write_job
from tests.jobs import fetch, is_sqlite, run_sql, write_rows

pytestmark = pytest.mark.newest_is_enough

# What would be another statement, another name, or an error, wherever it stood without quotes; some in one another.
HOSTILE = [
    'qu"ote',
    "quo'te; DROP TABLE victim; --",
    '"; DROP TABLE victim; --',
    "$settle$; DROP TABLE victim; $settle$",
    "$$",
    "new\nline",
    "ends in one\n",
    "word\n",
    "tab\tand\rreturn",
    "%(name)s %s %",
    "{} {0} {name}",
    ":name ::text",
    "$1 ? @x",
    "\x1b[31mred\x9b0m",
    "select",
    "Übergrößenträger",
    "é" * 31 + "z",  # 63 bytes, all that PostgreSQL takes
    "a.b",
    "-- /*",
    "back\\slash",
]
# One of them in each run of the tests, all in the long one.
SAMPLED = [name if "$settle$" in name else pytest.param(name, marks=pytest.mark.long) for name in HOSTILE]
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def short(prefix: str, name: str) -> str:
    return prefix + name.encode()[:60].decode(errors="ignore")


@pytest.mark.parametrize("name", SAMPLED)
def test_every_way_to_write_rows_takes_a_name_for_nothing_but_a_name(database_url: str, name: str) -> None:
    """Table, key, columns, CHECK and foreign key by this name; small pieces, so that all are screened and settled."""
    is_unreadable = "\n" in name and not is_sqlite(database_url)
    child, parent, other = short("t", name), short("p", name), short("n", name)
    run_sql(
        database_url,
        "CREATE TABLE victim (n INTEGER)",
        f"CREATE TABLE {quoted(parent)} ({quoted(name)} INTEGER PRIMARY KEY)",
        f"INSERT INTO {quoted(parent)} VALUES (1), (2)",
        f"CREATE TABLE {quoted(child)} ({quoted(name)} INTEGER, {quoted(other)} VARCHAR(300),"
        f" CONSTRAINT {quoted(short('k', name))} PRIMARY KEY ({quoted(name)}),"
        f" CONSTRAINT {quoted(short('c', name))} CHECK (length({quoted(other)}) > 0),"
        f" CONSTRAINT {quoted(short('f', name))} FOREIGN KEY ({quoted(name)})"
        f" REFERENCES {quoted(parent)} ({quoted(name)}))",
    )
    cells = [(1, name), (1, name), (3, name), (2, None), (2, "'; DROP TABLE victim; --"), (4, ""), (1, "x")]
    if is_unreadable:
        with pytest.raises(TargetMismatch, match="has a newline in the name"):
            write_rows(database_url, [], child)
        run_sql(database_url, f"ALTER TABLE {quoted(child)} DROP CONSTRAINT {quoted(short('f', name))}")
        cells = [cell for cell in cells if cell[0] != 3]
    written = write_rows(database_url, [{name: key, other: text} for key, text in cells], child, size=3)
    told = [verdict.split()[0] for verdict in written.verdicts]
    if not is_unreadable:
        assert told.pop(2) == "foreign_key"
    assert told[:4] == ["written", "unique", "written", "unique"]
    assert told[4] in ("check", "foreign_key")
    assert told[5] == "unique"
    stored = fetch(database_url, f"SELECT {quoted(name)}, {quoted(other)} FROM {quoted(child)} ORDER BY 1")
    assert stored == [(1, name), (2, None)]
    assert fetch(database_url, "SELECT count(*) FROM victim") == [(0,)]


def test_columns_by_all_of_these_names_are_kept_apart(database_url: str) -> None:
    columns = ", ".join(f"{quoted(name)} INTEGER" for name in [*HOSTILE, "word", "ends in one"])
    run_sql(database_url, f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns})")
    rows = [{"id": key} | {name: key * place for place, name in enumerate(HOSTILE)} for key in (1, 1, 2)]
    assert write_rows(database_url, rows).verdicts == ["written", "unique t_pkey", "written"]
    chosen = ", ".join(map(quoted, HOSTILE))
    assert fetch(database_url, f"SELECT {chosen} FROM t WHERE id = 2") == [tuple(range(0, 2 * len(HOSTILE), 2))]
    assert fetch(database_url, 'SELECT "word", "ends in one" FROM t WHERE id = 2') == [(None, None)]


@pytest.fixture
def hostile_job(database_url: str, tmp_path: Path) -> Job:
    """Schema, ledger, table, load, column and file by hostile names, and values that look like SQL."""
    name = "$settle$\n\"; DROP TABLE victim; --'%s{}\x1bc"
    run_sql(database_url, "CREATE TABLE victim (n INTEGER)")
    table = quoted(name)
    if not is_sqlite(database_url):
        run_sql(database_url, f"CREATE SCHEMA {quoted('s' + name)}")
        table = f"{quoted('s' + name)}.{table}"
    run_sql(database_url, f"CREATE TABLE {table} ({quoted(name)} INTEGER PRIMARY KEY, v VARCHAR(40) CHECK (v <> ''))")
    file = f"{name.replace('/', '')}.csv"
    values = ["fine", "\x1b]0;owned\x07'; DROP TABLE victim; --", "", "fine"]
    lines = [f"{quoted(name)},v", *(f'{key},"{value}"' for key, value in enumerate(values))]
    (tmp_path / file).write_text("\n".join([*lines, "x\x1b[31m,red", "0,again"]) + "\n", newline="")
    load = {"source": "*.csv", "table": name, "name": f"load {name}", "record_duplicates": True, "commit_every": 2}
    places: dict[str, Any] = {} if is_sqlite(database_url) else {"schema": "s" + name, "ledger_schema": "l" + name}
    write_job(tmp_path, database_url, load, **places)
    return Job(tmp_path, database_url)


def test_a_job_of_hostile_names_is_run_resumed_listed_verified_and_purged(hostile_job: Job) -> None:
    verified = hostile_job.call("check", "--verify", "10")
    assert (verified.exit_code, "the same rows and verdicts" in verified.output) == (0, True)
    part = hostile_job.call("load", "--limit", "2")
    loaded = hostile_job.call("load", "-v")
    assert (part.exit_code, loaded.exit_code) == (0, 3)
    shown = [
        verified,
        part,
        loaded,
        hostile_job.call("check"),
        hostile_job.call("history"),
        hostile_job.call("rejects"),
        hostile_job.call("rejects", "--load", "no\x1b[31m such"),
        hostile_job.call("load", "--only", "no\x1b[31m such"),
        hostile_job.call("load"),
        hostile_job.call("purge", "--keep", "0"),
    ]
    for ended in shown:
        assert not CONTROLS.search(ended.output + ended.errors)
    assert fetch(hostile_job.url, "SELECT count(*) FROM victim") == [(0,)]


@pytest.mark.long
def test_json_of_hostile_names_is_exact_and_steers_no_terminal(hostile_job: Job) -> None:
    loaded = hostile_job.call("load", "--json")
    (load,) = loaded.result["loads"]
    assert (load["read"], load["written"], load["duplicates"], load["rejected"]) == (6, 3, 1, 2)
    assert "\x1bc" in load["name"]
    (file,) = load["files"]
    assert file["path"].endswith("\x1bc.csv")
    listed = hostile_job.call("rejects", "--format", "jsonl")
    kept = [json.loads(line) for line in listed.output.splitlines()]
    assert [(reject["record"], reject["reason"]) for reject in kept] == [(3, "check"), (5, "type"), (6, "unique")]
    for ended in (loaded, listed, hostile_job.call("history", "--json"), hostile_job.call("check", "--json")):
        assert not CONTROLS.search(ended.output + ended.errors)


@pytest.mark.long
def test_rejects_as_csv_are_the_very_values(hostile_job: Job) -> None:
    """It is for programs: a file of it is what was in the source."""
    hostile_job.call("load")
    output = hostile_job.folder / "out"
    assert hostile_job.call("rejects", "--format", "csv", "-o", output).exit_code == 0
    assert "x\\u001b[31m" in output.read_text()  # within the JSON of the values
    assert "\x1bc.csv" in output.read_text()  # the name of the file


def test_file_names_that_are_no_text_are_shown_by_their_bytes(tmp_path: Path, sqlite_url: str) -> None:
    run_sql(sqlite_url, "CREATE TABLE t (id INTEGER)")
    write_csv(tmp_path / "n\udce9.csv", ("id",), [(1,), ("x",)])
    config = write_job(tmp_path, sqlite_url, {"source": "*.csv", "table": "t"}, name="th\udce9.toml")
    ended = {command: call(command, config) for command in ("check", "load", "rejects", "history")}
    assert [done.exit_code for done in ended.values()] == [0, 3, 0, 0]
    assert "n\\xe9.csv" in ended["check"].output
    assert "n\\xe9.csv" in ended["rejects"].output
    assert "th\\xe9.toml" in ended["history"].output
    assert fetch(sqlite_url, "SELECT job, path FROM etl_file") == [("th\\xe9.toml", "n\\xe9.csv")]


def test_messages_show_the_codes_of_control_characters(tmp_path: Path) -> None:
    hostile = "no\x1b[31msuch\x9b\n"
    missing = write_job(tmp_path, "sqlite:///no\x1b[31m.db", {"source": f"{hostile}.csv", "table": hostile})
    unknown = write_job(tmp_path, "sqlite://", {"source": "a", "table": "t", hostile: 1, "method": hostile}, name="b")
    for ended in (
        call("load", missing),
        call("load", unknown),
        call("load", f"{tmp_path}/{hostile}"),
        call("history", f"sqlite:///{hostile}"),
        call(hostile),
        call("load", "--limit", hostile, "job.toml"),
        call("load", "job.toml", hostile),
    ):
        assert ended.exit_code in (1, 2)
        assert "such" in ended.errors or "no\\x1b" in ended.errors
        assert not CONTROLS.search(ended.output + ended.errors)


@pytest.mark.long
def test_progress_shows_the_codes_of_control_characters(hostile_job: Job) -> None:
    ended = hostile_job.etl("load", "--progress")
    assert ended.exit_code == 3
    assert "\x1bc" not in ended.errors
    assert "\x1b[31m" not in ended.errors


@pytest.mark.long
def test_database_by_a_hostile_name_is_loaded(postgres_url: str, tmp_path: Path) -> None:
    name = 'etl_test_%40%25"; DROP'
    url = make_url(postgres_url)
    with connect(url) as connection:
        connection.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE template0")
    try:
        there = url.set(database=name).render_as_string(hide_password=False)
        address: dict[str, Any] = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
        with psycopg.connect(dbname=name, **address) as connection:
            connection.execute("CREATE TABLE t (id INTEGER)")
        write_csv(tmp_path / "a.csv", ("id",), [(1,)])
        write_job(tmp_path, there, {"source": "*.csv", "table": "t"})
        assert Job(tmp_path, there).call("load").exit_code == 0
    finally:
        with connect(url) as connection:
            connection.execute(f"DROP DATABASE {quoted(name)} WITH (FORCE)")


@pytest.mark.long
def test_messages_of_a_real_process_are_the_same(tmp_path: Path) -> None:
    ended = etl("load", f"{tmp_path}/no\x1b[31m.toml")
    assert ended.exit_code == 2
    assert "no\\x1b[31m.toml" in ended.errors
