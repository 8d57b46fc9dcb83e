"""The commands and their options, one after the other, as a person uses them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import (
    REJECT_KEYS,
    ROOT,
    Job,
    call,
    count,
    execute,
    is_postgresql,
    items_job,
    ledger,
    query,
    tables,
)

pytestmark = pytest.mark.newest_is_enough

PARENTS = "CREATE TABLE kinds (kind VARCHAR(5) PRIMARY KEY)"
CHILDREN = (
    "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL, kind VARCHAR(5),"
    " CONSTRAINT items_kind_fkey FOREIGN KEY (kind) REFERENCES kinds (kind))"
)
KINDS = "kind\ntoy\nbook\ntoy\n"  # the third is a duplicate
ITEMS = "id,name,kind\n1,ball,toy\n2,novel,book\nx,bad,toy\n3,,toy\n4,tea,food\n5,kite\n6,doll,toy\n"


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Job:
    return shop_job(tmp_path, database_url)


@pytest.fixture
def sqlite_job(tmp_path: Path, sqlite_url: str) -> Job:
    return shop_job(tmp_path, sqlite_url)


def shop_job(folder: Path, url: str) -> Job:
    """Items of a kind: 3 good ones, a reject each by read, map, NOT NULL and foreign key, and one duplicate kind."""
    job = items_job(folder, url, PARENTS, CHILDREN)
    job.configure(
        'source = "items.csv"\ntable = "items"',
        'source = "kinds.csv"\ntable = "kinds"\nrecord_duplicates = true',
    )
    job.write("items.csv", ITEMS)
    job.write("kinds.csv", KINDS)
    return job


def ids(job: Job) -> list[int]:
    return [id_ for (id_,) in query(job.url, "SELECT id FROM items ORDER BY id")]


# etl load


def test_loads_run_parents_first_whatever_their_order_in_the_config(job):
    ended = job.call("load", "--json")

    assert ended.exit_code == 3
    assert [load["name"] for load in ended.result["loads"]] == ["kinds", "items"]
    assert ids(job) == [1, 2, 6]


def test_a_file_that_was_loaded_is_not_loaded_again(sqlite_job):
    sqlite_job.call("load")

    ended = sqlite_job.call("load", "--json")

    assert ended.exit_code == 0
    assert (ended.result["read"], ended.result["written"]) == (0, 0)
    assert [file["status"] for load in ended.result["loads"] for file in load["files"]] == ["already_loaded"] * 2
    assert ids(sqlite_job) == [1, 2, 6]


def test_a_new_file_is_loaded_and_the_old_one_is_not(sqlite_job):
    sqlite_job.configure('source = "in/*.csv"\ntable = "kinds"')
    sqlite_job.write("in/a.csv", "kind\ntoy\n")
    sqlite_job.call("load")
    sqlite_job.write("in/b.csv", "kind\nbook\n")

    (load,) = sqlite_job.call("load", "--json").result["loads"]

    assert {file["path"]: file["status"] for file in load["files"]} == {
        "in/a.csv": "already_loaded",
        "in/b.csv": "loaded",
    }
    assert count(sqlite_job.url, "kinds") == 2


def test_rerun_loads_again_what_was_loaded_and_finds_duplicates(sqlite_job):
    sqlite_job.call("load")

    ended = sqlite_job.call("load", "--json", "--rerun")

    assert ended.exit_code == 3
    assert (ended.result["read"], ended.result["written"], ended.result["duplicates"]) == (10, 0, 6)
    assert ids(sqlite_job) == [1, 2, 6]


def test_only_runs_the_loads_that_it_names(sqlite_job):
    result = sqlite_job.call("load", "--json", "--only", "kinds").result

    assert [load["name"] for load in result["loads"]] == ["kinds"]
    assert (count(sqlite_job.url, "kinds"), count(sqlite_job.url, "items")) == (2, 0)


def test_only_may_be_given_twice(sqlite_job):
    result = sqlite_job.call("load", "--json", "--only", "items", "--only", "kinds").result

    assert [load["name"] for load in result["loads"]] == ["kinds", "items"]


@pytest.mark.parametrize(("asked", "used"), [("row", "row"), ("bulk", "bulk"), ("auto", "bulk")])
def test_method_overrides_that_of_the_config(sqlite_job, asked, used):
    result = sqlite_job.call("load", "--json", "--method", asked).result

    assert {load["method"] for load in result["loads"]} == {used}


def test_auto_is_copy_on_postgresql(tmp_path, postgres_url):
    job = shop_job(tmp_path, postgres_url)

    assert {load["method"] for load in job.call("load", "--json").result["loads"]} == {"copy"}


def test_copy_into_sqlite_is_refused_with_a_sentence(sqlite_job):
    ended = sqlite_job.call("load", "--method", "copy")

    assert ended.exit_code == 2
    assert 'Method "copy" is for PostgreSQL' in ended.errors


def test_limit_reads_so_many_records_of_each_source_and_the_next_run_goes_on(job):
    first = job.call("load", "--json", "--limit", "2")

    assert (first.exit_code, first.result["read"]) == (0, 4)
    assert [file["status"] for load in first.result["loads"] for file in load["files"]] == ["partial"] * 2
    assert ids(job) == [1, 2]

    second = job.call("load", "--json")

    assert second.exit_code == 3
    assert ids(job) == [1, 2, 6]
    assert [file["status"] for load in second.result["loads"] for file in load["files"]] == ["loaded"] * 2


def test_a_dry_run_has_the_true_counts_and_writes_nothing_not_even_the_ledger(job):
    dry = job.call("load", "--json", "--dry-run")

    assert tables(job.url) == {"items", "kinds"}
    assert (count(job.url, "items"), count(job.url, "kinds")) == (0, 0)
    assert dry.exit_code == 3
    assert dry.result["dry_run"] is True

    true = job.call("load", "--json").result

    lines = ("read", "written", "duplicates", "rejected")
    assert [dry.result[line] for line in lines] == [true[line] for line in lines] == [10, 5, 1, 4]
    assert [load["rejects"] for load in dry.result["loads"]] == [load["rejects"] for load in true["loads"]]


def test_a_dry_run_after_a_run_leaves_the_ledger_as_it_was(sqlite_job):
    sqlite_job.call("load")
    before = query(sqlite_job.url, f"SELECT id, status, executions FROM {ledger(sqlite_job.url, 'etl_run')}")
    sqlite_job.write("kinds.csv", KINDS + "food\n")

    dry = sqlite_job.call("load", "--json", "--dry-run")

    assert (dry.result["written"], count(sqlite_job.url, "kinds")) == (1, 2)
    assert query(sqlite_job.url, f"SELECT id, status, executions FROM {ledger(sqlite_job.url, 'etl_run')}") == before


def test_a_dry_run_as_text_says_that_nothing_was_written(sqlite_job):
    assert sqlite_job.call("load", "--dry-run").output.startswith("Dry run: nothing was written. ")


def test_the_summary_names_counts_reasons_and_the_command_that_shows_the_rejects(sqlite_job):
    output = sqlite_job.call("load").output
    rows = [line.split() for line in output.splitlines()]

    assert rows[0] == ["load", "method", "read", "written", "duplicates", "rejected", "seconds", "rows/s"]
    assert rows[1][:6] == ["kinds", "bulk", "3", "2", "1", "0"]
    assert rows[2][:6] == ["items", "bulk", "7", "3", "0", "4"]
    assert rows[3][:5] == ["total", "10", "5", "1", "4"]
    assert ["items", "1", "read", "column_count"] in rows
    assert ["items", "1", "map", "type", "id"] in rows
    assert ["items", "1", "write", "not_null", "name", "23502"] in rows
    assert ["items", "1", "write", "foreign_key", "items_kind_fkey", "23503"] in rows
    shown = re.fullmatch(r"To see them: etl rejects (\S+) --run (\S+)", output.splitlines()[-1])
    assert shown
    assert shown[1] == str(sqlite_job.config)
    seen = sqlite_job.call("rejects", "--run", shown[2])
    assert seen.exit_code == 0
    assert "items.csv:4" in seen.output


def test_quiet_says_nothing_but_the_exit_code(sqlite_job):
    ended = sqlite_job.call("load", "-q")

    assert (ended.exit_code, ended.output, ended.errors) == (3, "", "")


def test_quiet_still_tells_an_error(sqlite_job):
    (sqlite_job.folder / "items.csv").unlink()

    ended = sqlite_job.call("load", "-q")

    assert ended.exit_code == 1
    assert ended.errors.startswith("etl: There is no file 'items.csv'")


def test_quiet_and_json_print_the_object_alone(sqlite_job):
    ended = sqlite_job.call("load", "-q", "--json")

    assert ended.result["read"] == 10
    assert ended.errors == ""


def test_verbose_says_why_a_method_was_chosen(sqlite_job):
    plain, verbose = sqlite_job.call("load"), sqlite_job.call("load", "--rerun", "-v")

    assert "kinds: loading into kinds, method bulk\n" in plain.errors
    assert re.search(r"kinds: loading into kinds, method bulk \(.+\)\n", verbose.errors)


@pytest.mark.parametrize(
    ("option", "has_bar"), [("--progress", True), ("--no-progress", False), ("", False)], ids=lambda value: str(value)
)
def test_a_bar_is_drawn_on_request_and_on_terminals_only(sqlite_job, option, has_bar):
    ended = sqlite_job.call("load", *filter(None, [option]))

    assert ("|" in ended.errors and "%" in ended.errors) == has_bar
    assert "\r" not in ended.output


def test_standard_input_is_a_source(sqlite_job):
    sqlite_job.configure('source = "-"\nformat = "csv"\ntable = "kinds"')

    ended = sqlite_job.call("load", "--json", stdin=KINDS)

    (load,) = ended.result["loads"]
    assert ended.exit_code == 0
    assert load["files"] == [{"path": "-", "status": "loaded", "read": 3, "written": 2, "duplicates": 1, "rejected": 0}]
    assert count(sqlite_job.url, "kinds") == 2


def test_the_same_standard_input_again_is_already_loaded(sqlite_job):
    sqlite_job.configure('source = "-"\nformat = "csv"\ntable = "kinds"')
    first = sqlite_job.etl("load", "--json", stdin=KINDS)
    again = sqlite_job.call("load", "--json", stdin=KINDS)

    assert first.result["written"] == 2
    assert again.result["loads"][0]["files"][0]["status"] == "already_loaded"


# etl check


def test_check_says_what_a_load_depends_on_and_writes_nothing(job):
    ended = job.call("check")

    assert ended.exit_code == 0
    assert tables(job.url) == {"items", "kinds"}
    assert (count(job.url, "items"), count(job.url, "kinds")) == (0, 0)
    for said in [
        "job       job.toml",
        "ledger    none yet: the first run makes it",
        "load kinds into ",
        "load items into ",
        "foreign key (kind) to ",
        "primary key (id): items_pkey",
        "not null: id, name" if is_postgresql(job.url) else "not null: ",
        'from "name"',
        "Ready: `etl load` can run this job.",
    ]:
        assert said in ended.output
    assert ended.output.index("load kinds into") < ended.output.index("load items into")


def test_check_as_json_is_one_object_for_programs(job):
    ended = job.call("check", "--json")

    found = ended.result
    assert ended.exit_code == 0
    assert ended.output.count("\n") == 1
    assert (found["job"], found["ledger"]) == ("job.toml", None)
    assert found["server"].startswith("PostgreSQL " if is_postgresql(job.url) else "SQLite ")
    kinds, items = found["loads"]
    assert (kinds["name"], items["name"]) == ("kinds", "items")
    assert items["sources"] == ["items.csv"]
    assert items["bytes"] == len(ITEMS)
    assert items["columns"] == [
        {"name": "id", "type": "integer", "source": '"id"'},
        {"name": "name", "type": "text(20)", "source": '"name"'},
        {"name": "kind", "type": "text(5)", "source": '"kind"'},
    ]
    assert (items["warnings"], items["problems"]) == ([], [])


def test_check_knows_the_ledger_of_earlier_runs(sqlite_job):
    sqlite_job.call("load")

    assert sqlite_job.call("check", "--json").result["ledger"] == "0002"


def test_check_warns_of_a_required_column_that_nothing_feeds(job):
    job.write("items.csv", "id,kind\n1,toy\n")

    ended = job.call("check")

    assert ended.exit_code == 0
    assert "name is NOT NULL, has no default, and no source column feeds it: every row will be refused" in ended.output


def test_check_shows_constants_formats_and_defaults(sqlite_job):
    execute(sqlite_job.url, "CREATE TABLE days (day DATE, shop VARCHAR(5), note TEXT)")
    sqlite_job.write("days.csv", "Date\n28/02/2023\n")
    sqlite_job.configure(
        'source = "days.csv"\ntable = "days"\n[load.columns]\n'
        'day = { from = "Date", format = "%d/%m/%Y" }\nshop = { value = "PT" }'
    )

    output = sqlite_job.call("check").output

    assert re.search(r'day +date +from "Date" as %d/%m/%Y', output)
    assert re.search(r"shop +text\(5\) +from the constant 'PT'", output)
    assert re.search(r"note +text +keeps its default", output)


# etl history


def test_history_before_the_first_run_is_empty(job):
    ended = job.call("history")

    assert (ended.exit_code, ended.output) == (0, "No runs yet.\n")
    assert job.call("history", "--json").result == {"runs": []}
    assert tables(job.url) == {"items", "kinds"}


def test_history_lists_the_runs_newest_first(sqlite_job):
    runs = [sqlite_job.call("load", "--json", *arguments).result["run_id"] for arguments in ([], ["--rerun"], [])]

    found = sqlite_job.call("history", "--json").result["runs"]

    assert [run["run_id"] for run in found] == runs[::-1]
    assert [(run["status"], run["read"], run["rejected"]) for run in found] == [
        ("completed", 0, 0),
        ("completed", 10, 4),
        ("completed", 10, 4),
    ]
    as_text = sqlite_job.call("history").output
    assert as_text.startswith("Runs of job.toml\n")
    assert [as_text.index(run) for run in runs[::-1]] == sorted(as_text.index(run) for run in runs)


def test_history_of_the_last_runs(sqlite_job):
    for _ in range(3):
        sqlite_job.call("load")

    assert len(sqlite_job.call("history", "--json", "--last", "2").result["runs"]) == 2


def test_history_and_rejects_take_a_url_in_place_of_the_config(job):
    run_id = job.call("load", "--json").result["run_id"]

    runs = call("history", job.url, "--json").result["runs"]
    listed = call("rejects", job.url, "--format", "jsonl")

    assert [run["run_id"] for run in runs] == [run_id]
    assert len(listed.output.splitlines()) == 5


def test_history_of_a_config_shows_the_runs_of_its_job_only(sqlite_job):
    sqlite_job.call("load")
    other = sqlite_job.folder / "other.toml"
    other.write_text(sqlite_job.config.read_text())

    runs = call("history", other, "--json", TEST_DATABASE_URL=sqlite_job.url).result["runs"]

    assert runs == []
    assert len(call("history", sqlite_job.url, "--json").result["runs"]) == 1


# etl rejects


def reject_lines(job: Job, *arguments: str | Path) -> list[dict[str, object]]:
    ended = job.call("rejects", "--format", "jsonl", *arguments)
    assert ended.exit_code == 0
    return [json.loads(line) for line in ended.output.splitlines()]


def test_rejects_as_json_lines_have_every_key_and_the_sources_own_values(job):
    run_id = job.call("load", "--json").result["run_id"]

    found = reject_lines(job)

    assert all(list(reject) == REJECT_KEYS for reject in found)
    assert {reject["run_id"] for reject in found} == {run_id}
    assert all(reject["message"] for reject in found)
    shown = [[reject[key] for key in REJECT_KEYS if key not in ("run_id", "message")] for reject in found]
    key = "kinds_pkey"
    assert shown == [
        ["kinds", "kinds.csv", 3, 4, "duplicate", "unique", "23505", key, None, {"kind": "toy"}, None],
        *(
            ["items", "items.csv", record, record + 1, *rest]
            for record, *rest in [
                (3, "map", "type", None, None, "id", {"id": "x", "name": "bad", "kind": "toy"}, None),
                (4, "write", "not_null", "23502", None, "name", {"id": "3", "name": None, "kind": "toy"}, None),
                (
                    *(5, "write", "foreign_key", "23503", "items_kind_fkey", None),
                    {"id": "4", "name": "tea", "kind": "food"},
                    None,
                ),
                (6, "read", "column_count", None, None, None, None, "5,kite"),
            ]
        ),
    ]


def test_rejects_can_be_chosen_by_load_and_phase(sqlite_job):
    sqlite_job.call("load")

    assert [reject["record"] for reject in reject_lines(sqlite_job, "--load", "items")] == [3, 4, 5, 6]
    assert [reject["record"] for reject in reject_lines(sqlite_job, "--phase", "write")] == [4, 5]
    assert [reject["load"] for reject in reject_lines(sqlite_job, "--phase", "duplicate")] == ["kinds"]
    assert reject_lines(sqlite_job, "--load", "kinds", "--phase", "map") == []


def test_rejects_are_those_of_the_newest_run_unless_another_is_named(sqlite_job):
    first = sqlite_job.call("load", "--json").result["run_id"]
    sqlite_job.call("load")

    assert reject_lines(sqlite_job) == []
    assert len(reject_lines(sqlite_job, "--run", first)) == 5


def test_rejects_as_csv_can_be_read_back(sqlite_job):
    sqlite_job.write("items.csv", 'id,name,kind\nx,"two\nlines, ""quoted""",toy\n7,"open\n')
    sqlite_job.call("load")

    output = sqlite_job.call("rejects", "--format", "csv", "--load", "items").output
    header, *found = list(csv.reader(io.StringIO(output, newline="")))

    assert header == REJECT_KEYS
    first, second = (dict(zip(header, row, strict=True)) for row in found)
    assert json.loads(first["values"]) == {"id": "x", "name": 'two\nlines, "quoted"', "kind": "toy"}
    assert (first["line"], second["line"], second["reason"], second["raw"]) == ("2", "4", "quote", '7,"open')


def test_rejects_as_a_table_show_place_and_reason(sqlite_job):
    sqlite_job.call("load")

    lines = sqlite_job.call("rejects").output.splitlines()

    assert lines[0].split() == ["load", "place", "reason", "constraint", "or", "column", "message"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["kinds", "kinds.csv:4", "unique"],
        ["items", "items.csv:4", "type"],
        ["items", "items.csv:5", "not_null"],
        ["items", "items.csv:6", "foreign_key"],
        ["items", "items.csv:7", "column_count"],
    ]
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("format_", ["table", "csv", "jsonl"])
def test_rejects_go_into_a_file_on_request(sqlite_job, format_):
    sqlite_job.call("load")
    path = sqlite_job.folder / "rejects.out"

    ended = sqlite_job.call("rejects", "--format", format_, "-o", path)

    assert (ended.exit_code, ended.output) == (0, "")
    assert path.read_text() == sqlite_job.call("rejects", "--format", format_).output


def test_a_job_without_rejects_lists_none(sqlite_job):
    assert sqlite_job.call("rejects").output == "No rejects.\n"
    assert sqlite_job.call("rejects", "--format", "jsonl").output == ""
    assert sqlite_job.call("rejects", "--format", "csv").output == ",".join(REJECT_KEYS) + "\n"


# All of them


def test_a_reader_that_has_seen_enough_is_no_error(sqlite_job):
    sqlite_job.write("items.csv", "id,name,kind\n" + "x,bad,toy\n" * 5_000)
    sqlite_job.call("load")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TEST_DATABASE_URL": sqlite_job.url}

    done = subprocess.run(
        ["sh", "-c", '"$0" -m etl rejects "$1" | head -n 1', sys.executable, str(sqlite_job.config)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )

    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


def test_version_and_help():
    assert re.fullmatch(r"etl, version \d+\.\d+\.\d+\n", call("--version").output)
    for command in ([], ["load"], ["check"], ["history"], ["rejects"], ["purge"]):
        assert call(*command, "--help").output.startswith(" ".join(["Usage: etl", *command]))
