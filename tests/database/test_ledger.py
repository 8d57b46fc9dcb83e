"""Runs as the ledger keeps them: what commits together, what is resumed, what is refused, what is left alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.orm import Session

import etl
import etl.ledger.schema
import etl.plans
import etl.running
from etl.config import Database
from etl.database import connected, session_factory
from etl.errors import (
    AccountingError,
    ConfigError,
    DuplicateFound,
    SourceChanged,
    SourceError,
    TargetMismatch,
    TargetUnavailable,
    TooManyRejects,
)
from etl.ledger import File, RejectedRecord, Run, ledger_version, upgrade_ledger
from etl.ledger.models import Base
from etl.ledger.schema import HEAD
from etl.progress import Silence
from etl.readers import prefetching
from etl.readers.csv import CsvReader
from etl.records import Counts, Outcome, RunResult
from etl.writers import choose_writer
from tests.databases import connect
from tests.files import write_csv, write_job
from tests.jobs import fetch, has_table, is_sqlite, ledger, run_sql

pytestmark = pytest.mark.newest_is_enough

MIGRATIONS = Path(etl.ledger.schema.__file__).parent / "migrations"
STEPS = list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())
HEADER = ("id", "n")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record batches of some ten records, so that a file of a hundred has several."""
    monkeypatch.setitem(CsvReader.__init__.__kwdefaults__, "block_size", 64)  # type: ignore[arg-type]


class Watcher(Silence):
    """Calls ``look(what)`` at each event of a run: ``done`` and ``committed``."""

    def __init__(self, look: Callable[[str], None]) -> None:
        self.look = look

    def records_done(self, size: int, counts: Counts) -> None:
        self.look("done")

    def committed(self) -> None:
        self.look("committed")


class Stopper(Silence):
    """Raises ``error`` when the event ``what`` comes for the ``number``-th time."""

    def __init__(self, what: str, number: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.what, self.left, self.error = what, number, error

    def _tell(self, what: str) -> None:
        if what == self.what:
            self.left -= 1
            if self.left == 0:
                raise self.error

    def records_done(self, size: int, counts: Counts) -> None:
        self._tell("done")

    def committed(self) -> None:
        self._tell("committed")


KEYLESS = "CREATE TABLE t (id INTEGER, n INTEGER, CONSTRAINT ck_n CHECK (n >= 0))"
KEYED = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, CONSTRAINT ck_n CHECK (n >= 0))"


def numbered(count: int, first: int = 1) -> list[tuple[object, object]]:
    """Rows of which each seventh breaks ck_n and each eleventh is no number: the mapper refuses it."""
    return [
        (number, "x" if number % 11 == 0 else -1 if number % 7 == 0 else number)
        for number in range(first, first + count)
    ]


def good_ids(count: int, first: int = 1) -> list[tuple[int]]:
    return [(number,) for number in range(first, first + count) if number % 7 and number % 11]


def one_load(folder: Path, url: str, **load: Any) -> Path:
    return write_job(folder, url, {"source": "*.csv", "table": "t"} | load)


def counts_in_ledger(url: str, where: str = "1 = 1") -> tuple[int, int, int, int]:
    found = fetch(
        url,
        "SELECT coalesce(sum(read_count), 0), coalesce(sum(written), 0), coalesce(sum(duplicates), 0),"
        f" coalesce(sum(rejected), 0) FROM {ledger(url)}etl_file WHERE {where}",
    )[0]
    return tuple(int(value) for value in found)  # type: ignore[return-value]


def numbers(result: RunResult) -> tuple[int, int, int, int]:
    counts = result.counts
    return counts.read, counts.written, counts.duplicates, counts.rejected


def table_ids(url: str) -> list[tuple[Any, ...]]:
    return fetch(url, "SELECT id FROM t ORDER BY id")


def rejected_records(url: str) -> list[tuple[Any, ...]]:
    return fetch(
        url,
        f"SELECT record, line, phase, reason, constraint_name, column_name FROM {ledger(url)}etl_reject ORDER BY id",
    )


# The ledger's own tables


def test_ledger_is_made_by_the_first_run_and_has_the_newest_version(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1)])
    etl.load(one_load(tmp_path, database_url))
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert newest == HEAD
    assert fetch(database_url, f"SELECT version_num FROM {ledger(database_url)}etl_version") == [(HEAD,)]
    with connected(Database(url=database_url)) as connection:
        assert ledger_version(connection, None if is_sqlite(database_url) else "etl") == HEAD


def test_ledger_schema_of_the_config_is_used(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1), (2, -1)])
    job = write_job(tmp_path, postgres_url, {"source": "a.csv", "table": "t"}, ledger_schema="Odd ledger")
    etl.load(job)
    schemas = fetch(postgres_url, "SELECT nspname FROM pg_namespace WHERE nspname IN ('Odd ledger', 'etl', 'ledger')")
    assert schemas == [("Odd ledger",)]
    assert fetch(postgres_url, 'SELECT record FROM "Odd ledger".etl_reject') == [(2,)]


def test_newest_step_is_the_only_head_and_every_step_can_be_reached() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_heads() == [HEAD]
    assert [step.revision for step in scripts.walk_revisions()][-1] == "0001"


def test_ledger_with_an_empty_version_table_is_brought_up_to_date(database_url: str, tmp_path: Path) -> None:
    schema = "" if is_sqlite(database_url) else "CREATE SCHEMA etl; "
    run_sql(
        database_url,
        *filter(None, schema.split("; ")),
        f"CREATE TABLE {ledger(database_url)}etl_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        KEYED,
    )
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1)])
    assert numbers(etl.load(one_load(tmp_path, database_url))) == (1, 1, 0, 0)
    assert fetch(database_url, f"SELECT version_num FROM {ledger(database_url)}etl_version") == [(HEAD,)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.revision)
def test_older_ledger_is_brought_up_to_date_from_each_step(database_url: str, step: Any) -> None:
    from alembic import command

    schema = None if is_sqlite(database_url) else "etl"
    run_sql(database_url, KEYED)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with connected(Database(url=database_url)) as connection:
        with connection.begin():
            if schema:
                connection.execute(sa.schema.CreateSchema(schema))
            config.attributes.update(connection=connection, schema=schema, version_table="etl_version")
            command.upgrade(config, step.revision)
        assert ledger_version(connection, schema) == step.revision
        connection.rollback()
        with connection.begin():
            upgrade_ledger(connection, schema)
        assert ledger_version(connection, schema) == HEAD


def test_newer_ledger_is_refused_and_left_as_it_is(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1)])
    job = one_load(tmp_path, database_url)
    etl.load(job)
    run_sql(database_url, f"UPDATE {ledger(database_url)}etl_version SET version_num = '9999'")
    write_csv(tmp_path / "b.csv", HEADER, [(2, 2)])
    with pytest.raises(TargetMismatch, match=r"version 9999.*0\d\d\d at most.*newer etl"):
        etl.load(job)
    assert table_ids(database_url) == [(1,)]
    assert fetch(database_url, f"SELECT count(*) FROM {ledger(database_url)}etl_run") == [(1,)]


def no_schema(*_: object) -> Any:
    return sa.schema.BLANK_SCHEMA


@pytest.mark.parametrize("way", ["at once", "step by step"])
def test_models_and_migrations_agree(database_url: str, way: str) -> None:
    """The schema is called as the models call it, so that no name has to be translated."""
    run_sql(database_url, "CREATE TABLE t (id INTEGER)", "DROP TABLE t")  # so that there is a SQLite file
    metadata, schema = Base.metadata, "ledger"
    if is_sqlite(database_url):
        metadata, schema = sa.MetaData(), ""
        for table in Base.metadata.tables.values():
            table.to_metadata(metadata, schema=None, referred_schema_fn=no_schema)  # type: ignore[arg-type]
    database = Database(url=database_url, ledger_schema="ledger")
    with connected(database) as connection:
        with connection.begin():
            if way == "step by step":
                connection.execute(sa.text(f"CREATE SCHEMA {schema}" if schema else "SELECT 1"))
                empty = "(version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
                connection.execute(sa.text(f"CREATE TABLE {f'{schema}.' if schema else ''}etl_version {empty}"))
            upgrade_ledger(connection, schema or None)
        options: dict[str, Any] = {
            "version_table": "etl_version",
            "version_table_schema": schema or None,
            "include_schemas": bool(schema),
            "compare_type": not is_sqlite(database_url),  # BIGINT and INTEGER, VARCHAR and TEXT are one to SQLite
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_deleting_a_run_deletes_its_files_and_rejects(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, numbered(30))
    job = one_load(tmp_path, database_url)
    first = etl.load(job)
    write_csv(tmp_path / "b.csv", HEADER, numbered(30, first=31))
    second = etl.load(job)
    with connected(Database(url=database_url)) as connection, session_factory(connection).begin() as session:
        run = session.get(Run, first.run_id)
        assert run is not None
        session.delete(run)
    left = ledger(database_url)
    assert fetch(database_url, f"SELECT run_id FROM {left}etl_file") == [(second.run_id,)]
    assert fetch(database_url, f"SELECT count(*) FROM {left}etl_reject") == [(second.counts.rejected,)]


def test_database_itself_keeps_no_orphans(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, numbered(30))
    etl.load(one_load(tmp_path, database_url))
    if is_sqlite(database_url):
        run_sql(database_url, "PRAGMA foreign_keys = ON", "DELETE FROM etl_run")
    else:
        run_sql(database_url, "DELETE FROM etl.etl_run")
    for table in ("etl_file", "etl_reject"):
        assert fetch(database_url, f"SELECT count(*) FROM {ledger(database_url)}{table}") == [(0,)]


@pytest.mark.parametrize("method", ["row", "bulk"])
def test_role_that_may_only_insert_and_select_and_owns_the_ledger_schema_is_enough(
    postgres_url: str, unprivileged_url: str, tmp_path: Path, method: str
) -> None:
    role = sa.make_url(unprivileged_url).username
    run_sql(
        postgres_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "INSERT INTO p VALUES (1)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER REFERENCES p (id))",
        f'GRANT INSERT, SELECT ON t TO "{role}"',
        f'CREATE SCHEMA etl AUTHORIZATION "{role}"',
    )
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1), (1, 1), (2, 9), (3, None)])
    job = one_load(tmp_path, unprivileged_url, method=method)
    assert numbers(etl.load(job)) == (4, 2, 1, 1)
    assert table_ids(postgres_url) == [(1,), (3,)]
    again = etl.load(job)  # the ledger is there now, and nothing has to be created
    assert [file.status for file in again.loads[0].files] == ["already_loaded"]


def test_role_that_may_not_make_a_ledger_is_told_so(postgres_url: str, unprivileged_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, KEYED, f'GRANT INSERT, SELECT ON t TO "{sa.make_url(unprivileged_url).username}"')
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1)])
    with pytest.raises(etl.TargetError, match=r"no permission.*SQLSTATE 42501"):
        etl.load(one_load(tmp_path, unprivileged_url))
    assert table_ids(postgres_url) == []


def test_role_that_owns_a_ledger_made_by_another_needs_no_right_to_create(
    postgres_url: str, unprivileged_url: str, tmp_path: Path
) -> None:
    role = sa.make_url(unprivileged_url).username
    with connected(Database(url=postgres_url)) as connection, connection.begin():
        upgrade_ledger(connection, "etl")
    run_sql(
        postgres_url,
        KEYED,
        f'GRANT INSERT, SELECT ON t TO "{role}"',
        f'GRANT USAGE ON SCHEMA etl TO "{role}"',
        f'GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA etl TO "{role}"',
        f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA etl TO "{role}"',
    )
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1)])
    assert numbers(etl.load(one_load(tmp_path, unprivileged_url))) == (1, 1, 0, 0)


# What commits together


@pytest.mark.parametrize(("method", "table"), [("row", KEYED), ("bulk", KEYLESS)], ids=["row", "bulk"])
def test_rows_rejects_counts_and_checkpoint_commit_together(
    database_url: str, tmp_path: Path, method: str, table: str
) -> None:
    """A second connection sees the rows, rejects and counts of the same records at every moment."""
    run_sql(database_url, table)
    write_csv(tmp_path / "a.csv", HEADER, numbered(60))
    seen: list[int] = []

    def look(what: str) -> None:
        read, written, _, rejected = counts_in_ledger(database_url)
        position = fetch(database_url, f"SELECT coalesce(sum(position_record), 0) FROM {ledger(database_url)}etl_file")
        assert int(position[0][0]) == read
        assert table_ids(database_url) == good_ids(read)
        assert (written, rejected) == (len(good_ids(read)), read - len(good_ids(read)))
        assert len(rejected_records(database_url)) == rejected
        if what == "committed":
            seen.append(read)

    result = etl.load(one_load(tmp_path, database_url, commit_every=9, method=method), reporter=Watcher(look))
    assert seen[-1] == 60
    assert len(set(seen)) >= 60 // 11  # every nine rows, and the records that cannot be mapped are rows of none
    assert numbers(result) == (60, len(good_ids(60)), 0, 60 - len(good_ids(60)))


@pytest.mark.parametrize(
    ("commit_every", "expected"),
    [(10, [10, 20, 30, 40, 50]), ("file", [25, 50]), ("run", [50])],
)
def test_commits_come_where_commit_every_says(
    database_url: str, tmp_path: Path, commit_every: int | str, expected: list[int]
) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a1.csv", HEADER, [(number, 1) for number in range(25)])
    write_csv(tmp_path / "a2.csv", HEADER, [(number, 1) for number in range(25, 50)])
    seen: list[int] = []

    def look(what: str) -> None:
        rows = len(table_ids(database_url))
        if what == "committed":
            seen.append(rows)
        assert rows == (seen[-1] if seen else 0)

    etl.load(one_load(tmp_path, database_url, commit_every=commit_every), reporter=Watcher(look))
    assert sorted(set(seen)) == expected  # a transaction may reach over two files


def test_loads_may_differ_in_commit_every(database_url: str, tmp_path: Path) -> None:
    tables = [f"CREATE TABLE t{number} (id INTEGER, n INTEGER)" for number in (1, 2, 3)]
    run_sql(database_url, *tables)
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(50)])
    loads = [
        {"source": "a.csv", "table": f"t{number}", "commit_every": commit_every}
        for number, commit_every in [(1, "run"), (2, 7), (3, "file")]
    ]
    result = etl.load(write_job(tmp_path, database_url, *loads))
    assert numbers(result) == (150, 150, 0, 0)
    for number in (1, 2, 3):
        assert fetch(database_url, f"SELECT count(*), count(DISTINCT id) FROM t{number}") == [(50, 50)]


def test_dry_run_counts_truly_and_leaves_nothing(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED, "INSERT INTO t VALUES (1, 0)")
    write_csv(tmp_path / "a.csv", HEADER, numbered(40))
    job = one_load(tmp_path, database_url, commit_every=5)
    expected = (40, len(good_ids(40)) - 1, 1, 40 - len(good_ids(40)))
    result = etl.load(job, dry_run=True)
    assert (result.dry_run, numbers(result)) == (True, expected)
    assert table_ids(database_url) == [(1,)]
    assert not any(has_table(database_url, name) for name in ("etl_run", "etl_file", "etl_reject", "etl_version"))
    if not is_sqlite(database_url):
        assert fetch(database_url, "SELECT 1 FROM pg_namespace WHERE nspname = 'etl'") == []
    assert numbers(etl.load(job)) == expected
    assert numbers(etl.load(job, dry_run=True, rerun=True)) == (40, 0, len(good_ids(40)), 40 - len(good_ids(40)))
    assert fetch(database_url, f"SELECT count(*) FROM {ledger(database_url)}etl_run") == [(1,)]


def test_dry_run_that_fails_leaves_nothing(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, numbered(40))
    with pytest.raises(TooManyRejects):
        etl.load(one_load(tmp_path, database_url, commit_every=5, max_rejects=2), dry_run=True)
    assert table_ids(database_url) == []
    assert not has_table(database_url, "etl_run")


# Rejects


def test_reject_is_kept_with_its_place_reason_and_values(database_url: str, tmp_path: Path) -> None:
    run_sql(
        database_url,
        "CREATE TABLE p (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(5) NOT NULL, p INTEGER REFERENCES p (id))",
    )
    (tmp_path / "a.csv").write_text('id,name,p\n1,"a\nb",\n2,,\n\n3,c,9\nx,d,\n1,e,\n4,f\n5,toolong,\n')
    result = etl.load(one_load(tmp_path, database_url))
    assert numbers(result) == (8 - 1, 1, 1, 5)
    assert rejected_records(database_url) == [
        (2, 4, "write", "not_null", None, "name"),
        (3, 6, "write", "foreign_key", "t_p_fkey", None),
        (4, 7, "map", "type", None, "id"),
        (6, 9, "read", "column_count", None, None),
        (7, 10, "map", "too_long", None, "name"),
    ]
    kept = fetch(database_url, f"SELECT record, source_values, raw FROM {ledger(database_url)}etl_reject ORDER BY id")
    values = [(record, json.loads(text) if isinstance(text, str) else text, raw) for record, text, raw in kept]
    assert values == [
        (2, {"id": "2", "name": None, "p": None}, None),
        (3, {"id": "3", "name": "c", "p": "9"}, None),
        (4, {"id": "x", "name": "d", "p": None}, None),
        (6, None, "4,f"),
        (7, {"id": "5", "name": "toolong", "p": None}, None),
    ]
    by_reason = {(reject.phase, reject.reason): reject.count for reject in result.loads[0].rejects}
    assert by_reason == {
        ("write", "not_null"): 1,
        ("write", "foreign_key"): 1,
        ("map", "type"): 1,
        ("read", "column_count"): 1,
        ("map", "too_long"): 1,
    }


@pytest.mark.parametrize("listed", [True, False])
def test_duplicates_are_listed_on_request_and_are_no_rejects(database_url: str, tmp_path: Path, listed: bool) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1), (1, 2), (2, 2), (2, -1), (1, 3)])
    result = etl.load(one_load(tmp_path, database_url, record_duplicates=listed))
    assert result.counts.duplicates + result.counts.rejected == 3
    # The fourth breaks both constraints: which one is named is left to the database.
    assert result.exit_code == (3 if result.counts.rejected else 0)
    places = [(record, phase) for record, _, phase, *_ in rejected_records(database_url) if record != 4]
    assert places == ([(2, "duplicate"), (5, "duplicate")] if listed else [])


@pytest.mark.parametrize("limit", [3, "10%"])
def test_as_many_rejects_as_allowed_are_no_failure(database_url: str, tmp_path: Path, limit: int | str) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number % 10 == 0 else 1) for number in range(1, 31)])
    assert numbers(etl.load(one_load(tmp_path, database_url, max_rejects=limit))) == (30, 27, 0, 3)


@pytest.mark.parametrize("limit", [2, "9.9%"])
def test_more_rejects_than_allowed_roll_the_open_transaction_back(
    database_url: str, tmp_path: Path, limit: int | str
) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number % 10 == 0 else 1) for number in range(1, 31)])
    job = one_load(tmp_path, database_url, max_rejects=limit)
    with pytest.raises(TooManyRejects, match=r"max_rejects = .*ck_n") as failed:
        etl.load(job)
    assert failed.value.exit_code == 4
    assert table_ids(database_url) == []
    assert rejected_records(database_url) == []
    status, error = fetch(database_url, f"SELECT status, error FROM {ledger(database_url)}etl_run")[0]
    assert (status, error) == ("failed", str(failed.value))
    one_load(tmp_path, database_url, max_rejects=3)
    assert numbers(etl.load(job)) == (30, 27, 0, 3)


@pytest.mark.parametrize("commit_every", ["file", "run"])
def test_nothing_of_a_short_file_stays_when_its_share_of_rejects_is_too_high(
    database_url: str, tmp_path: Path, commit_every: str
) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number % 10 == 0 else 1) for number in range(1, 31)])
    with pytest.raises(TooManyRejects):
        etl.load(one_load(tmp_path, database_url, max_rejects="9%", commit_every=commit_every))
    assert table_ids(database_url) == []


@pytest.mark.parametrize("commit_every", ["file", "run"])
def test_nothing_of_a_file_stays_though_the_files_behind_it_were_loaded_before(
    database_url: str, tmp_path: Path, commit_every: str
) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "b.csv", HEADER, [(100, 1), (101, 1)])
    job = one_load(tmp_path, database_url, max_rejects="9%", commit_every=commit_every)
    etl.load(job)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number % 10 == 0 else 1) for number in range(1, 31)])
    with pytest.raises(TooManyRejects):
        etl.load(job)
    assert table_ids(database_url) == [(100,), (101,)]


def test_files_before_the_one_that_passes_the_limit_stay_and_no_more(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1), (2, -1), (3, 1)])
    write_csv(tmp_path / "b.csv", HEADER, [(4, 1), (5, -1), (6, -1)])
    write_csv(tmp_path / "c.csv", HEADER, [(7, 1)])
    with pytest.raises(TooManyRejects, match=r"3 of 6 records .* Most frequent: check \(ck_n\) 3\."):
        etl.load(one_load(tmp_path, database_url, max_rejects=2, commit_every="file"))
    assert table_ids(database_url) == [(1,), (3,)]
    assert [record for record, *_ in rejected_records(database_url)] == [2]


def test_nothing_of_the_loads_before_stays_when_all_of_the_run_is_one_transaction(
    database_url: str, tmp_path: Path
) -> None:
    run_sql(database_url, KEYED, "CREATE TABLE u (id INTEGER, n INTEGER NOT NULL)")
    write_csv(tmp_path / "t.csv", HEADER, [(1, 1), (2, 2)])
    write_csv(tmp_path / "u.csv", HEADER, [(1, 1), (2, ""), (3, "")])
    loads: list[dict[str, Any]] = [
        {"source": "t.csv", "table": "t", "commit_every": "run"},
        {"source": "u.csv", "table": "u", "commit_every": "run", "max_rejects": 1},
    ]
    seen: list[int] = []
    watcher = Watcher(lambda _: seen.append(len(table_ids(database_url))))
    with pytest.raises(TooManyRejects, match=r"Load u: 2 of 3 records"):
        etl.load(write_job(tmp_path, database_url, *loads), reporter=watcher)
    assert (set(seen), table_ids(database_url)) == ({0}, [])


def test_share_is_exact_at_its_edge(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number <= 29 else 1) for number in range(1, 101)])
    # 0.29 * 100 is 28.999999999999996 in binary.
    assert etl.load(one_load(tmp_path, sqlite_url, max_rejects="29%")).counts.rejected == 29


def test_share_is_judged_behind_the_first_thousand_records_of_a_load(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, KEYLESS)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number <= 500 else 1) for number in range(1, 5_001)])
    with pytest.raises(TooManyRejects) as failed:
        etl.load(one_load(tmp_path, sqlite_url, max_rejects="10%", commit_every=100))
    assert re.search(r"500 of 1,00\d records .* more than max_rejects = 10% allows", str(failed.value))
    # Nine transactions of 100 records were full before that; 400 of those records were taken.
    assert len(table_ids(sqlite_url)) == 400


def test_rejects_committed_before_a_resume_count_and_are_named(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYLESS)
    rows: list[tuple[object, object]] = [(number, -1 if number % 5 == 0 else 1) for number in range(1, 41)]
    write_csv(tmp_path / "a.csv", HEADER, [*rows, ("x", 1), *rows])
    job = one_load(tmp_path, database_url, max_rejects=8, commit_every=10)
    with pytest.raises(KeyboardInterrupt):
        etl.load(job, reporter=Stopper("committed", 4))
    assert len(rejected_records(database_url)) == 8
    with pytest.raises(TooManyRejects, match=r"Most frequent: check \(ck_n\) (8|9), type \(id\) 1\."):
        etl.load(job)
    assert len(rejected_records(database_url)) == 8


@pytest.mark.parametrize(("given", "is_passed"), [(3, False), ("10%", False), ("9.9%", True), (2, True), (None, True)])
def test_max_rejects_of_the_call_stands_in_for_that_of_each_load(
    sqlite_url: str, tmp_path: Path, given: int | str | None, is_passed: bool
) -> None:
    run_sql(sqlite_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number % 10 == 0 else 1) for number in range(1, 31)])
    with pytest.raises(TooManyRejects) if is_passed else contextlib.nullcontext():
        etl.load(one_load(tmp_path, sqlite_url, max_rejects=0), max_rejects=given)
    assert len(table_ids(sqlite_url)) == (0 if is_passed else 27)


@pytest.mark.parametrize("given", [-1, "1", "101%", "many", True, 0.5])
def test_max_rejects_of_the_call_that_means_nothing_is_told(sqlite_url: str, tmp_path: Path, given: Any) -> None:
    with pytest.raises(ConfigError, match=r"^max_rejects = .* is not allowed\. Give a number of records such as 100"):
        etl.load(one_load(tmp_path, sqlite_url), max_rejects=given)


def test_source_that_vanishes_is_told_in_a_sentence(sqlite_url: str, tmp_path: Path) -> None:
    run_sql(sqlite_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, numbered(10))
    write_csv(tmp_path / "b.csv", HEADER, numbered(20))

    class Remover(Silence):
        def records_done(self, size: int, counts: Counts) -> None:
            (tmp_path / "b.csv").unlink(missing_ok=True)

    with pytest.raises(SourceError, match=r"There is no file b\.csv"):
        etl.load(one_load(tmp_path, sqlite_url, source=["a.csv", "b.csv"]), reporter=Remover())


def test_share_of_rejects_is_not_judged_by_the_first_few_records(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, -1 if number <= 3 else 1) for number in range(1, 101)])
    job = one_load(tmp_path, database_url, max_rejects="3%", commit_every=5)
    assert numbers(etl.load(job)) == (100, 97, 0, 3)


def test_what_was_committed_before_too_many_rejects_stays_and_the_run_goes_on_behind_it(
    database_url: str, tmp_path: Path
) -> None:
    run_sql(database_url, KEYLESS)
    write_csv(tmp_path / "a.csv", HEADER, numbered(60))
    job = one_load(tmp_path, database_url, max_rejects=5, commit_every=10)
    with pytest.raises(TooManyRejects):
        etl.load(job)
    committed = len(table_ids(database_url))
    assert 0 < committed < len(good_ids(60))
    one_load(tmp_path, database_url, commit_every=10)
    assert numbers(etl.load(job)) == (60, len(good_ids(60)), 0, 60 - len(good_ids(60)))
    assert table_ids(database_url) == good_ids(60)


def test_duplicate_is_an_error_where_the_config_says_so(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    (tmp_path / "a.csv").write_text("id,n\n1,1\n\n2,2\n1,3\n2,4\n")
    with pytest.raises(DuplicateFound, match=r"record 3 \(line 5\) of a\.csv is a duplicate by t_pkey"):
        etl.load(one_load(tmp_path, database_url, on_duplicate="error"))
    assert table_ids(database_url) == []


# Loaded already, rerun, changed, limit


def test_source_that_was_loaded_is_not_loaded_again(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYLESS)
    write_csv(tmp_path / "a.csv", HEADER, numbered(20))
    job = one_load(tmp_path, database_url)
    etl.load(job)
    again = etl.load(job)
    assert (again.status, again.exit_code, numbers(again)) == ("completed", 0, (0, 0, 0, 0))
    assert [(file.path, file.status) for file in again.loads[0].files] == [("a.csv", "already_loaded")]
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")  # it is the content that counts
    assert [file.status for file in etl.load(job).loads[0].files] == ["already_loaded"]
    assert table_ids(database_url) == good_ids(20)


def test_other_content_another_load_and_another_table_are_loaded(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYLESS, "CREATE TABLE other (id INTEGER, n INTEGER)")
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1)])
    etl.load(one_load(tmp_path, database_url))
    assert numbers(etl.load(one_load(tmp_path, database_url, name="renamed"))) == (1, 1, 0, 0)
    assert numbers(etl.load(one_load(tmp_path, database_url, name="renamed", table="other"))) == (1, 1, 0, 0)
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1), (2, 2)])
    assert numbers(etl.load(one_load(tmp_path, database_url))) == (2, 2, 0, 0)
    assert table_ids(database_url) == [(1,), (1,), (1,), (2,)]


def test_rerun_loads_everything_again(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(20)])
    job = one_load(tmp_path, database_url)
    etl.load(job)
    run_sql(database_url, "DELETE FROM t WHERE id >= 15")
    assert numbers(etl.load(job, rerun=True)) == (20, 5, 15, 0)
    assert numbers(etl.load(job, rerun=True)) == (20, 0, 20, 0)
    assert [file.status for file in etl.load(job).loads[0].files] == ["already_loaded"]


@pytest.mark.parametrize("flag", [True, False])
def test_rerun_that_was_stopped_goes_on_behind_its_own_checkpoint(
    database_url: str, tmp_path: Path, flag: bool
) -> None:
    run_sql(database_url, KEYLESS)
    write_csv(tmp_path / "a1.csv", HEADER, [(number, 1) for number in range(20)])
    write_csv(tmp_path / "a2.csv", HEADER, [(number, 1) for number in range(20, 40)])
    job = one_load(tmp_path, database_url, commit_every=6)
    etl.load(job)
    with pytest.raises(KeyboardInterrupt):
        etl.load(job, rerun=True, reporter=Stopper("committed", 4))
    assert numbers(etl.load(job, rerun=flag)) == (40, 40, 0, 0)
    assert table_ids(database_url) == [(number,) for number in range(40) for _ in range(2)]


@pytest.mark.parametrize("rerun", [True, False])
def test_file_that_has_changed_since_its_checkpoint_is_refused(database_url: str, tmp_path: Path, rerun: bool) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(30)])
    job = one_load(tmp_path, database_url, commit_every=10)
    with pytest.raises(KeyboardInterrupt):
        etl.load(job, reporter=Stopper("committed", 1))
    before = table_ids(database_url)
    assert len(before) == 10
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(100, 130)])
    if rerun:
        assert numbers(etl.load(job, rerun=True)) == (30, 30, 0, 0)
        return
    with pytest.raises(SourceChanged, match=r"a\.csv has changed since 10 of its records were committed"):
        etl.load(job)
    assert table_ids(database_url) == before
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(30)])
    assert numbers(etl.load(job)) == (30, 30, 0, 0)


def test_file_that_changes_while_it_is_read_is_refused(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    path = write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(30)])

    def append(what: str) -> None:
        with path.open("a") as file:
            file.write("99,1\n")

    with pytest.raises(SourceChanged, match=r"a\.csv has grown from 145 to \d+ bytes while it was read"):
        etl.load(one_load(tmp_path, database_url, commit_every="file"), reporter=Watcher(append))
    assert table_ids(database_url) == []


def test_full_load_goes_on_behind_the_limit(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYLESS)
    write_csv(tmp_path / "a.csv", HEADER, numbered(50))
    write_csv(tmp_path / "b.csv", HEADER, numbered(5, first=51))
    job = one_load(tmp_path, database_url)
    limited = etl.load(job, limit=13)
    assert numbers(limited) == (18, len(good_ids(13)) + len(good_ids(5, 51)), 0, 3 - 1 + 1)
    assert [(file.path, file.status, file.counts.read) for file in limited.loads[0].files] == [
        ("a.csv", "partial", 13),
        ("b.csv", "loaded", 5),
    ]
    full = etl.load(job)
    assert full.counts.read == 37
    assert table_ids(database_url) == good_ids(55)


def test_file_that_was_loaded_stays_so_when_a_rerun_has_read_a_part_of_it(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYLESS)
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(5)])
    job = one_load(tmp_path, database_url)
    etl.load(job)
    assert numbers(etl.load(job, rerun=True, limit=2)) == (2, 2, 0, 0)
    assert [file.status for file in etl.load(job).loads[0].files] == ["already_loaded"]
    assert table_ids(database_url) == [(0,), (0,), (1,), (1,), (2,), (3,), (4,)]


# Resuming


@pytest.mark.parametrize(("method", "commit_every"), [("row", 7), ("bulk", 7), ("bulk", "file"), ("row", "run")])
def test_run_that_was_stopped_at_any_moment_ends_as_one_that_was_not(
    database_url: str, tmp_path: Path, method: str, commit_every: int | str
) -> None:
    run_sql(database_url, KEYLESS)
    write_csv(tmp_path / "a1.csv", HEADER, numbered(30))
    write_csv(tmp_path / "a2.csv", HEADER, numbered(30, first=31))
    job = one_load(tmp_path, database_url, commit_every=commit_every, method=method)
    etl.load(job)
    expected = (
        table_ids(database_url),
        [row[:] for row in rejected_records(database_url)],
        counts_in_ledger(database_url),
    )
    stops = [("done", 1), ("committed", 1), ("done", 4), ("committed", 2)]
    run_sql(
        database_url,
        "DELETE FROM t",
        *(f"DELETE FROM {ledger(database_url)}{name}" for name in ("etl_reject", "etl_file", "etl_run")),
    )
    stopped = 0
    for what, number in stops:
        try:
            etl.load(job, reporter=Stopper(what, number))
            break
        except KeyboardInterrupt:
            stopped += 1
    assert stopped
    result = etl.load(job)
    runs = fetch(database_url, f"SELECT status FROM {ledger(database_url)}etl_run ORDER BY started_at")
    if stopped == len(stops):
        assert numbers(result) == expected[2]
        assert runs == [("completed",)]
    assert (table_ids(database_url), rejected_records(database_url), counts_in_ledger(database_url)) == expected


def test_stopped_run_is_written_down_as_stopped(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(30)])
    job = one_load(tmp_path, database_url, commit_every=10)
    with pytest.raises(KeyboardInterrupt):
        etl.load(job, reporter=Stopper("committed", 2))
    run = f"SELECT status, executions, finished_at IS NOT NULL FROM {ledger(database_url)}etl_run"
    assert [(status, executions, bool(ended)) for status, executions, ended in fetch(database_url, run)] == [
        ("stopped", 1, True)
    ]
    etl.load(job)
    assert [(status, executions) for status, executions, _ in fetch(database_url, run)] == [("completed", 2)]


@pytest.mark.usefixtures("hasty_retries")
def test_run_goes_on_after_the_server_has_ended_its_connection(postgres_url: str, tmp_path: Path) -> None:
    run_sql(postgres_url, KEYLESS)
    write_csv(tmp_path / "a.csv", HEADER, numbered(60))
    job = one_load(tmp_path, postgres_url, commit_every=10)

    def end(what: str) -> None:
        if what == "done" and len(table_ids(postgres_url)) > 20:
            with connect(sa.make_url(postgres_url)) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'etl' AND datname = current_database()"
                )

    with pytest.raises(TargetUnavailable, match="run the same command again"):
        etl.load(job, reporter=Watcher(end))
    assert 20 < len(table_ids(postgres_url)) < len(good_ids(60))
    assert numbers(etl.load(job)) == (60, len(good_ids(60)), 0, 60 - len(good_ids(60)))
    assert table_ids(postgres_url) == good_ids(60)


def test_failed_load_keeps_the_loads_before_it(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, "CREATE TABLE first (id INTEGER, n INTEGER)", KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(5)])
    write_csv(tmp_path / "b.csv", HEADER, [(number, -1) for number in range(5)])
    loads: list[dict[str, Any]] = [
        {"source": "a.csv", "table": "first"},
        {"source": "b.csv", "table": "t", "max_rejects": 1},
    ]
    job = write_job(tmp_path, database_url, *loads)
    with pytest.raises(TooManyRejects):
        etl.load(job)
    assert fetch(database_url, "SELECT count(*) FROM first") == [(5,)]
    del loads[1]["max_rejects"]
    write_job(tmp_path, database_url, *loads)
    assert numbers(etl.load(job)) == (10, 5, 0, 5)
    assert fetch(database_url, "SELECT count(*) FROM first") == [(5,)]


def test_only_the_named_loads_are_run(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, "CREATE TABLE first (id INTEGER, n INTEGER)", KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(1, 1)])
    job = write_job(tmp_path, database_url, *({"source": "a.csv", "table": name} for name in ("first", "t")))
    assert [load.name for load in etl.load(job, only=["t"]).loads] == ["t"]
    assert fetch(database_url, "SELECT count(*) FROM first") == [(0,)]
    with pytest.raises(ConfigError, match="no load named none"):
        etl.load(job, only=["none"])


# Order of the loads


def test_loads_run_in_the_order_of_their_foreign_keys(database_url: str, tmp_path: Path) -> None:
    run_sql(
        database_url,
        "CREATE TABLE a (id INTEGER PRIMARY KEY, ref INTEGER REFERENCES a (id))",
        "CREATE TABLE b (id INTEGER PRIMARY KEY, ref INTEGER REFERENCES a (id))",
        "CREATE TABLE c (id INTEGER PRIMARY KEY, ref INTEGER REFERENCES b (id))",
    )
    for name in "abc":
        write_csv(tmp_path / f"{name}.csv", ("id", "ref"), [(1, 1)])
    result = etl.load(write_job(tmp_path, database_url, *({"source": f"{name}.csv", "table": name} for name in "cba")))
    assert [load.name for load in result.loads] == ["a", "b", "c"]
    assert numbers(result) == (3, 3, 0, 0)


def test_loads_whose_tables_refer_to_each_other_in_a_circle_stay_in_order(database_url: str, tmp_path: Path) -> None:
    run_sql(
        database_url,
        "CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER)",
        "CREATE TABLE a (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b (id))",
        "CREATE TABLE d (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a (id))",
    )
    if is_sqlite(database_url):  # it adds no constraint to a table, and does not ask whether the parent is there
        run_sql(database_url, "DROP TABLE b", "CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a (id))")
    else:
        run_sql(database_url, "ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a (id)")
    write_csv(tmp_path / "d.csv", ("id", "a"), [(1, 1)])
    write_csv(tmp_path / "b.csv", ("id", "a"), [(1, None), (2, 1)])
    write_csv(tmp_path / "a.csv", ("id", "b"), [(1, 1)])
    loads = [{"source": f"{name}.csv", "table": name} for name in ("d", "b", "a")]
    result = etl.load(write_job(tmp_path, database_url, *loads))
    assert [load.name for load in result.loads] in (["b", "a", "d"], ["d", "b", "a"])
    assert [load.name for load in result.loads if load.name != "d"] == ["b", "a"]
    assert {load.name: load.counts.rejected for load in result.loads}["b"] == 1


def test_several_loads_into_one_table_stay_in_order(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    for number in (2, 1, 3):
        write_csv(tmp_path / f"{number}.csv", HEADER, [(1, number)])
    loads = [{"name": f"load {number}", "source": f"{number}.csv", "table": "t"} for number in (2, 1, 3)]
    result = etl.load(write_job(tmp_path, database_url, *loads))
    assert [load.name for load in result.loads] == ["load 2", "load 1", "load 3"]
    assert fetch(database_url, "SELECT n FROM t") == [(2,)]


# Rule 2


class Forgetful:
    """A writer that loses the last row of each batch, and owns up to the others."""

    method = "bulk"

    piece_rows = 1_000

    def encode(self, rows: pa.RecordBatch) -> None:
        return None

    def write(self, session: Session, rows: pa.RecordBatch, encoded: object = None) -> Outcome:
        return Outcome(rows.num_rows - 1)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        etl.plans, "choose_writer", lambda *given: dataclasses.replace(choose_writer(*given), writer=Forgetful())
    )


@pytest.mark.usefixtures("forgetful")
def test_lost_row_is_a_failure_and_nothing_is_committed(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, [(number, 1) for number in range(30)])
    with pytest.raises(AccountingError, match=r"a\.csv do not add up"):
        etl.load(one_load(tmp_path, database_url, commit_every=10))
    assert table_ids(database_url) == []
    assert counts_in_ledger(database_url) == (0, 0, 0, 0)
    assert fetch(database_url, f"SELECT status FROM {ledger(database_url)}etl_run") == [("failed",)]


def test_sums_of_the_ledger_are_those_of_the_table_and_of_the_result(database_url: str, tmp_path: Path) -> None:
    run_sql(database_url, KEYED)
    rows = numbered(40)
    write_csv(tmp_path / "a.csv", HEADER, [*rows, *rows])
    write_csv(tmp_path / "b.csv", HEADER, numbered(20, first=35))
    result = etl.load(one_load(tmp_path, database_url, record_duplicates=True))
    with connected(Database(url=database_url)) as connection, session_factory(connection)() as session:
        files = session.scalars(sa.select(File)).all()
        kept = session.scalar(sa.select(sa.func.count()).select_from(RejectedRecord))
    total = sum((file.counts for file in files), Counts())
    assert total == result.counts
    assert total.read == 100
    assert total.written == len(table_ids(database_url)) == len(good_ids(54))
    assert kept == total.rejected + total.duplicates


def test_the_thread_that_reads_ahead_asks_nothing_of_the_database(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the ledger's objects are expired, as they are by the rollback of a run that is broken off."""
    run_sql(database_url, KEYED)
    write_csv(tmp_path / "a.csv", HEADER, numbered(100))
    sessions: list[Session] = []
    asking: set[str] = set()

    def expiring(items: Any, **options: Any) -> Any:
        sessions[-1].expire_all()
        return prefetching(items, **options)

    def note(*_: object) -> None:
        asking.add(threading.current_thread().name)

    def began(session: Session, *_: object) -> None:
        sessions.append(session)

    monkeypatch.setattr(etl.running, "prefetching", expiring)
    with listening(Session, "after_begin", began), listening(sa.Engine, "before_cursor_execute", note):
        result = etl.load(one_load(tmp_path, database_url, commit_every=7))

    assert result.counts.read == 100
    assert asking == {threading.current_thread().name}


@contextlib.contextmanager
def listening(target: Any, name: str, hear: Callable[..., None]) -> Iterator[None]:
    sa.event.listen(target, name, hear)
    try:
        yield
    finally:
        sa.event.remove(target, name, hear)
