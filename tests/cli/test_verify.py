"""`etl check --verify N`: the first N records by the chosen method and by `row`, compared, and nothing of it stays."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sqlalchemy import make_url
from sqlalchemy.orm import Session

import etl.plans
import etl.verifying
from etl.config import Database
from etl.database import connected
from etl.errors import Terminated
from etl.ledger import job_lock
from etl.records import Cause, Encoded, Outcome, Reason, Refused
from etl.running import Options
from etl.writers import Choice, Writer, choose_writer
from tests.commands import ITEMS, Job, count, execute, is_postgresql, items_csv, items_job, ledger, query, tables

pytestmark = pytest.mark.newest_is_enough

PARENTS = "CREATE TABLE kinds (kind VARCHAR(5) PRIMARY KEY)"
CHILDREN = (
    "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL, kind VARCHAR(5),"
    " CONSTRAINT items_kind_fkey FOREIGN KEY (kind) REFERENCES kinds (kind))"
)
KINDS = "kind\ntoy\nbook\ntoy\n"
ROWS = "id,name,kind\n1,ball,toy\n2,novel,book\nx,bad,toy\n3,,toy\n4,tea,food\n5,kite\n6,doll,toy\n1,top,toy\n"
GOOD = [(number, f"name {number}") for number in range(1, 6)]

Write = Callable[[Writer, Session, pa.RecordBatch], Outcome]


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Job:
    return shop_job(tmp_path, database_url)


@pytest.fixture
def sqlite_job(tmp_path: Path, sqlite_url: str) -> Job:
    return shop_job(tmp_path, sqlite_url)


@pytest.fixture
def good_job(tmp_path: Path, database_url: str) -> Job:
    """One load of five good rows."""
    job = items_job(tmp_path, database_url)
    job.write("items.csv", items_csv(GOOD))
    return job


def shop_job(folder: Path, url: str) -> Job:
    """Items of a kind: 3 good ones, 4 rejects of all phases and a duplicate; 2 kinds and a duplicate."""
    job = items_job(folder, url, PARENTS, CHILDREN)
    job.configure('source = "items.csv"\ntable = "items"', 'source = "kinds.csv"\ntable = "kinds"')
    job.write("items.csv", ROWS)
    job.write("kinds.csv", KINDS)
    return job


def verified(job: Job, records: int = 100, exit_code: int = 0, stdin: str = "") -> list[dict[str, Any]]:
    """What is said under "verify" of each load."""
    ended = job.call("check", "--verify", str(records), "--json", stdin=stdin)
    assert ended.exit_code == exit_code, ended.errors
    assert ended.output.count("\n") == 1
    return [load["verify"] for load in ended.result["loads"]]


def numbers(said: dict[str, Any], method: str) -> list[int]:
    return [said["counts"][method][name] for name in ("read", "written", "duplicates", "rejected")]


# The same


def test_verify_says_below_each_load_that_the_methods_agree(sqlite_job):
    ended = sqlite_job.etl("check", "--verify", "100")

    assert (ended.exit_code, ended.errors) == (0, "")
    assert ended.output.splitlines() == [
        "job       job.toml",
        f"database  {sqlite_job.url}  (SQLite {sqlite3.sqlite_version})",
        "ledger    none yet: the first run makes it",
        "",
        "load kinds into kinds",
        "  method      bulk: many rows under one savepoint, settled when one is refused",
        "  sources     1 with 18 bytes: kinds.csv",
        '  columns     kind  text(5)  from "kind"',
        "  constraints primary key (kind): kinds_pkey",
        "  reads             line 2  line 3  line 4",
        '              kind  "toy"   "book"  "toy"',
        "  verify      3 records by bulk and by row: the same rows and verdicts",
        "",
        "load items into items",
        "  method      bulk: many rows under one savepoint, settled when one is refused",
        "  sources     1 with 93 bytes: items.csv",
        '  columns     id    integer   from "id"',
        '              name  text(20)  from "name"',
        '              kind  text(5)   from "kind"',
        "  constraints primary key (id): items_pkey",
        "              foreign key (kind) to kinds (kind): items_kind_fkey",
        "              not null: name",
        "  reads             line 2  line 3   line 4",
        '              id    "1"     "2"      "x"',
        '              name  "ball"  "novel"  "bad"',
        '              kind  "toy"   "book"   "toy"',
        "  verify      8 records by bulk and by row: the same rows and verdicts",
        "",
        "Ready: `etl load` can run this job.",
    ]


def test_verify_as_json_has_the_counts_and_the_rows_of_both_methods(job):
    kinds, items = verified(job)

    assert list(items) == [
        *("same", "method", "records", "counts", "same_rows", "rows"),
        *("written_by_one", "refused_differently", "not_compared"),
    ]
    assert (kinds["same"], items["same"]) == (True, True)
    assert items["method"] == ("copy" if is_postgresql(job.url) else "bulk")
    assert [numbers(kinds, method) for method in ("chosen", "row")] == [[3, 2, 1, 0]] * 2
    assert [numbers(items, method) for method in ("chosen", "row")] == [[8, 3, 1, 4]] * 2
    assert items["rows"] == {"chosen": 3, "row": 3}
    assert items["written_by_one"] == items["refused_differently"] == {"count": 0, "first": []}
    assert items["not_compared"] == []


def test_without_verify_the_json_has_null_there(sqlite_job):
    assert [load["verify"] for load in sqlite_job.call("check", "--json").result["loads"]] == [None, None]


def test_only_the_first_records_of_each_source_are_verified(job):
    job.configure('source = "items.csv"\ntable = "items"', 'source = ["kinds.csv", "more.csv"]\ntable = "kinds"')
    job.write("more.csv", "kind\nfood\nart\nsport\n")

    kinds, items = verified(job, records=2)

    assert numbers(kinds, "chosen") == numbers(kinds, "row") == [4, 4, 0, 0]
    assert numbers(items, "chosen") == numbers(items, "row") == [2, 2, 0, 0]


@pytest.mark.parametrize("every", ["2", '"file"', '"run"'])
def test_children_find_their_parents_whatever_the_transactions(job, every):
    job.configure(
        f'source = "items.csv"\ntable = "items"\ncommit_every = {every}',
        f'source = "kinds.csv"\ntable = "kinds"\ncommit_every = {every}',
    )

    _, items = verified(job)

    assert numbers(items, "chosen") == numbers(items, "row") == [8, 3, 1, 4]


def test_rows_that_are_there_already_are_duplicates_by_both_methods(job):
    execute(job.url, "INSERT INTO kinds VALUES ('toy')", "INSERT INTO items VALUES (1, 'mine', NULL)")

    kinds, items = verified(job)

    assert numbers(kinds, "chosen") == numbers(kinds, "row") == [3, 1, 2, 0]
    assert numbers(items, "chosen") == numbers(items, "row") == [8, 2, 2, 4]
    assert (kinds["rows"], items["rows"]) == ({"chosen": 2, "row": 2}, {"chosen": 3, "row": 3})


def test_files_that_were_loaded_are_verified_again(job):
    job.call("load")

    kinds, items = verified(job)

    assert numbers(kinds, "chosen") == numbers(kinds, "row") == [3, 0, 3, 0]
    assert numbers(items, "chosen") == numbers(items, "row") == [8, 0, 4, 4]


def test_an_unfinished_run_is_not_resumed_by_verify(good_job):
    good_job.call("load", "--limit", "2")
    execute(good_job.url, f"UPDATE {ledger(good_job.url, 'etl_run')} SET status = 'failed', is_rerun = true")

    (items,) = verified(good_job, records=3)

    assert numbers(items, "chosen") == numbers(items, "row") == [3, 1, 2, 0]


def test_limits_of_rejects_and_duplicates_do_not_end_it(job):
    job.configure(
        'source = "items.csv"\ntable = "items"\nmax_rejects = 0',
        'source = "kinds.csv"\ntable = "kinds"\non_duplicate = "error"',
    )

    kinds, items = verified(job)

    assert (numbers(kinds, "row"), numbers(items, "row")) == ([3, 2, 1, 0], [8, 3, 1, 4])


def test_standard_input_is_read_once_for_both_methods(job):
    job.configure('source = "-"\nformat = "csv"\ntable = "kinds"')

    (kinds,) = verified(job, stdin=KINDS)

    assert numbers(kinds, "chosen") == numbers(kinds, "row") == [3, 2, 1, 0]


def test_what_the_database_makes_up_is_not_compared(tmp_path, database_url):
    table = (
        "CREATE TABLE items (number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id INTEGER UNIQUE, name TEXT,"
        " at TIMESTAMPTZ DEFAULT clock_timestamp(), twice BIGINT GENERATED ALWAYS AS (id * 2) STORED)"
        if is_postgresql(database_url)
        else "CREATE TABLE items (number INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER UNIQUE, name TEXT,"
        " at TEXT DEFAULT (hex(randomblob(9))), twice INTEGER GENERATED ALWAYS AS (id * 2) STORED)"
    )
    job = items_job(tmp_path, database_url, table)
    job.write("items.csv", items_csv([*GOOD, (1, "again"), (7, "seven")]))

    (items,) = verified(job)

    assert items["same"] is True
    assert items["not_compared"] == ["number", "at", "twice"]
    assert "not compared: number, at, twice" in job.call("check", "--verify", "9").output


def test_what_a_trigger_fills_in_is_not_compared(tmp_path, postgres_url):
    job = items_job(
        tmp_path,
        postgres_url,
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMPTZ)",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN new.at := clock_timestamp(); new.name := upper(new.name); RETURN new; END'",
        "CREATE TRIGGER stamp BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION stamp()",
    )
    job.write("items.csv", items_csv([*GOOD, (1, "again")]))

    (items,) = verified(job)

    assert (items["same"], items["not_compared"]) == (True, ["at"])
    assert numbers(items, "chosen") == numbers(items, "row") == [6, 5, 1, 0]


# Nothing to compare


def test_a_load_by_row_has_nothing_to_compare_and_the_others_are_verified(job):
    job.configure('source = "items.csv"\ntable = "items"', 'source = "kinds.csv"\ntable = "kinds"\nmethod = "row"')

    kinds, items = verified(job)

    assert kinds == {"same": None, "method": "row"}
    assert numbers(items, "chosen") == numbers(items, "row") == [8, 3, 1, 4]
    assert "  verify      nothing to compare: the method is row\n" in job.call("check", "--verify", "9").output


def test_where_every_load_is_by_row_nothing_is_loaded(sqlite_job, monkeypatch):
    sqlite_job.configure('source = "kinds.csv"\ntable = "kinds"\nmethod = "row"')
    monkeypatch.setattr(etl.verifying, "executed", None)  # called, it would be a TypeError

    assert verified(sqlite_job) == [{"same": None, "method": "row"}]


# Nothing stays


def test_nothing_stays_not_even_the_ledger(job):
    verified(job)

    assert tables(job.url) == {"items", "kinds"}
    assert (count(job.url, "items"), count(job.url, "kinds")) == (0, 0)
    if is_postgresql(job.url):
        assert query(job.url, "SELECT nspname FROM pg_namespace WHERE nspname = 'etl'") == []


def test_the_ledger_of_earlier_runs_is_left_as_it_was(job):
    job.call("load", "--limit", "2")

    def kept() -> list[list[tuple[Any, ...]]]:
        names = ("etl_run", "etl_file", "etl_reject")
        return [query(job.url, f"SELECT * FROM {ledger(job.url, name)}") for name in names]

    before = kept()
    verified(job)

    assert kept() == before
    assert query(job.url, "SELECT id FROM items ORDER BY id") == [(1,), (2,)]


def test_nothing_stays_of_a_verification_that_fails(job, monkeypatch):
    monkeypatch.setattr(etl.verifying, "digest_rows", lambda *_: job.write("items.csv", ROWS + "7,yoyo,toy\n"))

    ended = job.call("check", "--verify", "100")

    assert (ended.exit_code, ended.output) == (1, "")
    assert ended.errors == (
        "etl: items.csv was written to while it was read by one method after the other; all was rolled back."
        " Run the same command again when the file is complete.\n"
    )
    assert tables(job.url) == {"items", "kinds"}
    assert (count(job.url, "items"), count(job.url, "kinds")) == (0, 0)


# Not the same


@dataclass(frozen=True)
class Liar:
    """A writer that does not do what it says."""

    honest: Writer
    lie: Write

    @property
    def method(self) -> str:
        return self.honest.method

    @property
    def piece_rows(self) -> int:
        return self.honest.piece_rows

    def encode(self, rows: pa.RecordBatch) -> None:
        return None

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        return self.lie(self.honest, session, rows)


@pytest.fixture
def chosen_writer_lies(monkeypatch: pytest.MonkeyPatch) -> Callable[[Write], None]:
    """Make the writers that a config chooses do something else; the `row` of the comparison stays honest."""
    choose = choose_writer

    def install(lie: Write) -> None:
        def choose_liar(*arguments: Any) -> Choice:
            choice = choose(*arguments)
            return Choice(Liar(choice.writer, lie), choice.reason)

        monkeypatch.setattr(etl.plans, "choose_writer", choose_liar)

    return install


BY_CHECK = Cause(Reason.CHECK, "refused", "23514", "items_check")


def loses_the_last_row(honest: Writer, session: Session, rows: pa.RecordBatch) -> Outcome:
    outcome = honest.write(session, rows.slice(0, rows.num_rows - 1))
    return Outcome(rows.num_rows, outcome.refused)


def refuses_the_second_row(honest: Writer, session: Session, rows: pa.RecordBatch) -> Outcome:
    others = [index for index in range(rows.num_rows) if index != 1]
    assert not honest.write(session, rows.take(pa.array(others))).refusals
    return Outcome(rows.num_rows, (Refused(np.array([1]), BY_CHECK),))


def says_that_all_are_written(honest: Writer, session: Session, rows: pa.RecordBatch) -> Outcome:
    return Outcome(honest.write(session, rows).rows)


def shouts(honest: Writer, session: Session, rows: pa.RecordBatch) -> Outcome:
    return honest.write(session, rows.set_column(1, rows.schema.field(1), pc.utf8_upper(rows.column(1))))


def names_another_constraint(honest: Writer, session: Session, rows: pa.RecordBatch) -> Outcome:
    outcome = honest.write(session, rows)
    return Outcome(outcome.rows, tuple(Refused(group.places, BY_CHECK) for group in outcome.refused))


def lines_of(output: str) -> list[str]:
    """The lines of the one load's verification, and those at the end."""
    return output[output.index("  verify") :].splitlines()


def method_of(job: Job) -> str:
    return "copy" if is_postgresql(job.url) else "bulk"


NOT_THE_SAME = [
    "",
    "Not the same. Unless something else wrote to these tables meanwhile, or a trigger asks a clock or a",
    'sequence, this is a bug of etl: please report it with this output, and use method = "row" until then.',
]


def test_a_row_that_was_lost_is_missed_in_the_table(good_job, chosen_writer_lies):
    chosen_writer_lies(loses_the_last_row)

    ended = good_job.call("check", "--verify", "100")

    method = method_of(good_job)
    assert ended.exit_code == 1
    assert lines_of(ended.output) == [
        f"  verify      5 records by {method} and by row: NOT THE SAME",
        f"              by {method}: 5 written, 0 duplicates, 0 rejected; 4 rows in the table",
        "              by row: 5 written, 0 duplicates, 0 rejected; 5 rows in the table",
        *NOT_THE_SAME,
    ]
    assert count(good_job.url, "items") == 0


def test_a_good_record_that_was_refused_is_named(good_job, chosen_writer_lies):
    chosen_writer_lies(refuses_the_second_row)

    ended = good_job.call("check", "--verify", "100")

    method = method_of(good_job)
    assert ended.exit_code == 1
    assert lines_of(ended.output) == [
        f"  verify      5 records by {method} and by row: NOT THE SAME",
        f"              by {method}: 4 written, 0 duplicates, 1 rejected; 4 rows in the table",
        "              by row: 5 written, 0 duplicates, 0 rejected; 5 rows in the table",
        f"              record 2 (line 3) of items.csv: rejected (check items_check) by {method}, written by row",
        *NOT_THE_SAME,
    ]
    assert "name 2" not in "".join(lines_of(ended.output))


def test_a_duplicate_that_was_called_written_is_named(good_job, chosen_writer_lies):
    good_job.write("items.csv", items_csv([*GOOD, (3, "again")]))
    chosen_writer_lies(says_that_all_are_written)

    (items,) = verified(good_job, exit_code=1)

    assert (items["same"], items["same_rows"]) == (False, True)
    assert (numbers(items, "chosen"), numbers(items, "row")) == ([6, 6, 0, 0], [6, 5, 1, 0])
    nothing = {"reason": None, "sqlstate": None, "constraint": None, "column": None}
    unique = {"reason": "unique", "sqlstate": "23505", "constraint": "items_pkey", "column": None}
    assert items["written_by_one"] == {
        "count": 1,
        "first": [
            {
                "file": "items.csv",
                "record": 6,
                "line": 7,
                "chosen": {"verdict": "written"} | nothing,
                "row": {"verdict": "duplicate"} | unique,
            }
        ],
    }


def test_a_value_that_was_altered_is_seen(good_job, chosen_writer_lies):
    chosen_writer_lies(shouts)

    ended = good_job.call("check", "--verify", "100")

    method = method_of(good_job)
    assert ended.exit_code == 1
    assert lines_of(ended.output) == [
        f"  verify      5 records by {method} and by row: NOT THE SAME",
        f"              by {method}: 5 written, 0 duplicates, 0 rejected; 5 rows in the table",
        "              by row: 5 written, 0 duplicates, 0 rejected; 5 rows in the table",
        "              as many rows are in the table, but not the same ones",
        *NOT_THE_SAME,
    ]


def test_another_constraint_that_is_named_is_no_difference(good_job, chosen_writer_lies):
    good_job.write("items.csv", items_csv([*GOOD, (3, "again")]))
    chosen_writer_lies(names_another_constraint)

    ended = good_job.call("check", "--verify", "100")

    method = method_of(good_job)
    assert ended.exit_code == 0
    assert lines_of(ended.output) == [
        f"  verify      6 records by {method} and by row: the same rows and verdicts",
        "              1 refused by both, each for another reason: it breaks several constraints, and one is named",
        f"              record 6 (line 7) of items.csv: rejected (check items_check) by {method},"
        " duplicate (unique items_pkey) by row",
        "",
        "Ready: `etl load` can run this job.",
    ]


# Errors


def test_5_where_a_run_of_the_job_is_at_work_and_check_alone_does_not_mind(job, monkeypatch):
    monkeypatch.setattr(etl.verifying, "Options", functools.partial(Options, wait=0))
    with connected(Database(url=job.url)) as connection, job_lock(connection, "job.toml"):
        verification = job.call("check", "--verify", "9", "--json")
        check = job.call("check")

    assert (verification.exit_code, check.exit_code) == (5, 0)
    assert verification.result["exit_code"] == 5
    assert verification.result["error"].startswith("Another run of job.toml is at work on this database")


def test_1_where_the_source_cannot_be_read(sqlite_job):
    sqlite_job.write("items.csv.gz", b"\x1f\x8b\x08\x00")
    sqlite_job.configure('source = "items.csv.gz"\ntable = "items"')

    ended = sqlite_job.call("check", "--verify", "9")

    assert (ended.exit_code, ended.output) == (1, "")
    assert ended.errors.startswith("etl: items.csv.gz cannot be read: ")


def test_1_where_the_database_fails_in_the_middle_and_nothing_stays(tmp_path, postgres_url):
    job = shop_job(tmp_path, postgres_url)
    execute(
        job.url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$out of order$$; END'",
        "CREATE TRIGGER fail BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION fail()",
    )

    ended = job.call("check", "--verify", "9")

    assert (ended.exit_code, ended.output) == (1, "")
    assert "out of order (SQLSTATE P0001)" in ended.errors
    assert tables(job.url) == {"items", "kinds"}
    assert count(job.url, "kinds") == 0


@pytest.mark.parametrize(("signal", "exit_code"), [(KeyboardInterrupt, 130), (Terminated, 143)], ids=["130", "143"])
def test_a_signal_ends_it_and_nothing_stays(good_job, chosen_writer_lies, signal, exit_code):
    def is_interrupted(honest: Writer, session: Session, rows: pa.RecordBatch) -> Outcome:
        honest.write(session, rows)
        raise signal

    chosen_writer_lies(is_interrupted)

    ended = good_job.call("check", "--verify", "100")

    assert (ended.exit_code, ended.output) == (exit_code, "")
    assert tables(good_job.url) == {"items"}
    assert count(good_job.url, "items") == 0


def test_a_role_that_may_not_insert_is_told_so_and_nothing_is_verified(tmp_path, postgres_url, unprivileged_url):
    role = make_url(unprivileged_url).username
    job = items_job(tmp_path, postgres_url, ITEMS, f"GRANT SELECT ON items TO {role}")
    job.write("items.csv", items_csv(GOOD))
    job.url = unprivileged_url

    ended = job.call("check", "--verify", "9", "--json")

    (items,) = ended.result["loads"]
    assert ended.exit_code == 1
    assert items["problems"] == [f"the role {role} may not INSERT into items: GRANT INSERT ON items TO it"]
    assert items["verify"] is None


def test_1_where_the_role_may_not_make_the_ledger(tmp_path, postgres_url, unprivileged_url):
    job = items_job(
        tmp_path, postgres_url, ITEMS, f"GRANT SELECT, INSERT ON items TO {make_url(unprivileged_url).username}"
    )
    job.write("items.csv", items_csv(GOOD))
    job.url = unprivileged_url

    ended = job.call("check", "--verify", "9")

    assert (ended.exit_code, ended.output) == (1, "")
    assert "no permission: permission denied for database" in ended.errors


def test_2_where_n_is_no_number_of_records(sqlite_job):
    ended = sqlite_job.call("check", "--verify", "0")

    assert ended.exit_code == 2
    assert "Invalid value for '--verify': 0 is not in the range x>=1." in ended.errors
