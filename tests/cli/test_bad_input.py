"""Bad input gets one sentence that names the place and what to do, the right exit code, and nothing half-written."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.commands import Ended, Job, call, count, execute, items_csv, items_job, query, tables
from tests.databases import PASSWORD, fresh_role

pytestmark = pytest.mark.newest_is_enough

ITEMS_LOAD = 'source = "items.csv"\ntable = "items"'
GOOD = [(1, "one"), (2, "two")]


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Job:
    """A job that works; each test breaks it. One row is in the table already."""
    return working_job(tmp_path, database_url)


def working_job(folder: Path, url: str) -> Job:
    job = items_job(folder, url)
    execute(url, "INSERT INTO items VALUES (99, 'before')")
    job.write("items.csv", items_csv(GOOD))
    return job


def assert_nothing_was_written(job: Job) -> None:
    """Not a row, and not even the ledger's tables."""
    assert query(job.url, "SELECT id, name FROM items") == [(99, "before")]
    assert tables(job.url) == {"items"}


def assert_told(ended: Ended, exit_code: int, sentence: str) -> None:
    """One sentence on standard error, nothing on standard output."""
    assert (ended.exit_code, ended.output) == (exit_code, "")
    assert ended.errors == f"etl: {sentence}\n"


# What a load is told. FOLDER stands for the folder of the config.


@dataclass(frozen=True)
class Case:
    """A load that cannot be started: its keys, the file, the exit code and the sentence (or a pattern for it)."""

    exit_code: int
    told: str | re.Pattern[str]
    load: str = ITEMS_LOAD
    files: dict[str, str | bytes] = field(default_factory=dict)


TRUNCATED = gzip.compress(items_csv([(number, number * 7919 % 10007) for number in range(3000)]).encode())[:5000]
CASES = {
    "no such file": Case(
        1,
        "There is no file 'nothing.csv' in FOLDER. Correct the path in `source`; a relative one starts at the "
        "folder of the config file.",
        'source = "nothing.csv"\ntable = "items"',
    ),
    "empty glob": Case(
        1,
        re.compile(r"No file matches 'in/\*\.csv' in FOLDER\. .*Correct the glob in `source`.*"),
        'source = "in/*.csv"\ntable = "items"',
    ),
    "empty folder": Case(
        1,
        re.compile(r"The folder 'in' in FOLDER has no file that ends in \.csv, \.tsv, .*, \.ipc\. .*`source`\."),
        'source = "in"\ntable = "items"',
        {"in/readme.md": "nothing here"},
    ),
    "empty file": Case(
        1,
        "items.csv is empty, where line 1 should be a header. Give it a header, or set `header = false`.",
        files={"items.csv": ""},
    ),
    "blank lines only": Case(
        1,
        "items.csv is empty, where line 1 should be a header. Give it a header, or set `header = false`.",
        files={"items.csv": "\n\r\n\n"},
    ),
    "byte order mark only": Case(
        1,
        "items.csv is empty, where line 1 should be a header. Give it a header, or set `header = false`.",
        files={"items.csv": b"\xef\xbb\xbf"},
    ),
    "wrong header": Case(
        1,
        re.compile(
            r'items\.csv: Load "items" cannot be mapped: .*"ident".*"naime" \(did you mean "name"\?\)\. '
            r"Map it under \[load\.columns\] or add it to ignore_columns\."
        ),
        files={"items.csv": "ident,naime\n1,one\n"},
    ),
    "a column more": Case(
        1,
        'items.csv: Load "items" cannot be mapped: no target column takes source column "colour". '
        "Map it under [load.columns] or add it to ignore_columns.",
        files={"items.csv": "id,name,colour\n1,one,red\n"},
    ),
    "wrong delimiter": Case(
        1,
        re.compile(r'items\.csv: Load "items" cannot be mapped: .*"id;name".*'),
        files={"items.csv": "id;name\n1;one\n"},
    ),
    "wrong header in the second file": Case(
        1,
        re.compile(r'b\.csv: Load "items" cannot be mapped: .*"ident".*'),
        'source = ["items.csv", "b.csv"]\ntable = "items"',
        {"b.csv": "ident,name\n3,three\n"},
    ),
    "missing source column": Case(
        1,
        re.compile(r'items\.csv: Load "items" cannot be mapped: missing column "Nimi".*the source has "id", "name".*'),
        ITEMS_LOAD + '\n[load.columns]\nname = "Nimi"',
    ),
    "duplicate header names": Case(
        1,
        re.compile(r"The header of items\.csv, line 1, .*'name'.*\. Give every column a name of its own\."),
        files={"items.csv": "id,name,name\n1,one,uno\n"},
    ),
    "header that is not UTF-8": Case(
        1,
        "The header of items.csv, line 1, has bytes that are no text. "
        "Set `encoding` in [load.csv] to the encoding of the file.",
        files={"items.csv": "id,näme\n1,one\n".encode("latin-1")},
    ),
    "a UTF-16 file": Case(
        1,
        'items.csv begins with the mark of UTF-16. Set `encoding = "utf-16"` in [load.csv].',
        files={"items.csv": items_csv(GOOD).encode("utf-16")},
    ),
    "header with a stray quote": Case(
        1,
        re.compile(r"The header of items\.csv, line 1, has a quote that does not enclose a field\. Correct .*"),
        files={"items.csv": 'id,na"me\n1,one\n'},
    ),
    "not a Parquet file": Case(
        1,
        re.compile(r"items\.parquet is not a Parquet file that can be read: .*\. Write or copy the file again\."),
        'source = "items.parquet"\ntable = "items"',
        {"items.parquet": items_csv(GOOD)},
    ),
    "truncated gzip": Case(
        1,
        re.compile(r"items\.csv\.gz cannot be read: .*\. It may be cut off or damaged: get it again, .*"),
        'source = "items.csv.gz"\ntable = "items"',
        {"items.csv.gz": TRUNCATED},
    ),
    "not gzip": Case(
        1,
        re.compile(r"items\.csv\.gz cannot be read: .*\. It may be cut off or damaged: get it again, .*"),
        'source = "items.csv.gz"\ntable = "items"',
        {"items.csv.gz": items_csv(GOOD)},
    ),
    "gzip of no bytes": Case(
        1,
        re.compile(r"items\.csv\.gz is empty, so it is no gzip file\. .*"),
        'source = "items.csv.gz"\ntable = "items"',
        {"items.csv.gz": b""},
    ),
    "unknown suffix": Case(
        2,
        re.compile(
            r"The name of 'items\.xlsx' does not say what format it has\. "
            r'Set `format = "csv"`, "jsonl", "parquet" or "arrow" in its \[\[load\]\]\.'
        ),
        'source = "items.xlsx"\ntable = "items"',
        {"items.xlsx": b"PK"},
    ),
    "unknown table": Case(
        1,
        "Load item: there is no table item in the database. Did you mean items?",
        'source = "items.csv"\ntable = "item"',
    ),
    "unknown table unlike any": Case(
        1,
        "Load zebras: there is no table zebras in the database. "
        "Create it first, have create = true make it, or correct the table of the load.",
        'source = "items.csv"\ntable = "zebras"',
    ),
    "unknown target column": Case(
        1,
        re.compile(r'.*the table has no column "nme" \(did you mean "name"\?\)\..*\[load\.columns\]\.'),
        ITEMS_LOAD + '\n[load.columns]\nnme = "name"',
    ),
    "a constant that does not fit": Case(
        2,
        re.compile(r'.*target column "id": the constant does not fit type integer: .*\[load\.columns\]\.'),
        ITEMS_LOAD + '\nignore_columns = ["id"]\n[load.columns]\nid = { value = "x" }',
    ),
    "a format for a number": Case(
        2,
        re.compile(r'.*target column "id": a format is for dates and times, not for integer\..*'),
        ITEMS_LOAD + '\n[load.columns]\nid = { from = "id", format = "%d" }',
    ),
    "unknown model": Case(
        2,
        re.compile(r'Load Item: model = "no_such_module:Item" cannot be imported: .*'),
        'source = "items.csv"\nmodel = "no_such_module:Item"',
    ),
    "fewer names than fields without a header": Case(
        1,
        re.compile(r"The first record of items\.csv has 3 fields, but 2 .*"),
        ITEMS_LOAD + '\n[load.csv]\nheader = false\n[load.columns]\nid = "a"\nname = "b"',
        {"items.csv": "1,one,red\n"},
    ),
}


def test_a_load_that_cannot_be_started_says_why_and_writes_nothing(job, subtests):
    for name, case in CASES.items():
        with subtests.test(name):
            assert_is_told(job, case)
            assert_nothing_was_written(job)
        job.write("items.csv", items_csv(GOOD))


def assert_is_told(job: Job, case: Case) -> None:
    for name, content in case.files.items():
        job.write(name, content)
    job.configure(case.load)

    ended = job.call("load")

    said = ended.errors.removeprefix("etl: ").removesuffix("\n").replace(str(job.folder), "FOLDER")
    assert (ended.exit_code, ended.output) == (case.exit_code, "")
    assert "\n" not in said
    if isinstance(case.told, str):
        assert said == case.told
    else:
        assert case.told.fullmatch(said), said


@pytest.mark.parametrize("command", ["load", "check"])
def test_check_tells_the_same_as_load(tmp_path, sqlite_url, command):
    job = working_job(tmp_path, sqlite_url)
    job.configure('source = "items.csv"\ntable = "item"')

    ended = job.call(command)

    assert_told(ended, 1, "Load item: there is no table item in the database. Did you mean items?")


def test_a_header_and_no_records_is_no_mistake(job):
    job.write("items.csv", "id,name\n")

    ended = job.call("load", "--json")

    assert ended.exit_code == 0
    assert (ended.result["read"], ended.result["status"]) == (0, "completed")
    assert query(job.url, "SELECT id, name FROM items") == [(99, "before")]


# The config


def test_no_config(tmp_path):
    assert_told(
        call("load", tmp_path / "job.toml"),
        2,
        f"There is no config file {tmp_path}/job.toml. Give the path of a job's TOML file.",
    )


def test_unknown_key(job):
    job.configure(ITEMS_LOAD + "\ncommit_evey = 5")

    assert_told(
        job.call("load"),
        2,
        f'{job.config}: [[load]] number 1, commit_evey: unknown key; did you mean "commit_every"? Nothing was started.',
    )
    assert_nothing_was_written(job)


def test_several_mistakes_in_the_config(job):
    job.configure(ITEMS_LOAD + '\ncommit_evey = 5\nmethod = "fast"')

    ended = job.call("load")

    assert (ended.exit_code, ended.output) == (2, "")
    assert ended.errors.splitlines() == [
        f"etl: {job.config} has 2 errors, nothing was started:",
        '  [[load]] number 1, method: "fast" is not allowed; allowed: "auto", "copy", "bulk" or "row"',
        '  [[load]] number 1, commit_evey: unknown key; did you mean "commit_every"?',
    ]


def test_not_toml(tmp_path):
    config = tmp_path / "job.toml"
    config.write_text("[database\n")

    assert_told(
        call("load", config),
        2,
        f"{config} is not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 10). "
        "Correct it there.",
    )


def test_missing_environment_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOP_URL", raising=False)
    config = tmp_path / "job.toml"
    config.write_text('[database]\nurl = "${SHOP_URL}"\n\n[[load]]\nsource = "x.csv"\ntable = "x"\n')

    assert_told(
        call("load", config),
        2,
        f"{config}: [database] url: ${{SHOP_URL}} is not set in the environment. "
        "Set it, or give a default as in ${NAME:-default}; nothing was started.",
    )


# The database


def test_missing_sqlite_file_is_told_and_not_made(tmp_path, sqlite_url):
    job = working_job(tmp_path, sqlite_url)
    path = Path(make_url(sqlite_url).database or "")
    path.unlink()
    job.configure(ITEMS_LOAD)

    for command in ("load", "check", "history", "rejects"):
        ended = job.call(command)
        remedy = "Create it and its tables, or have create = true make them, or correct the url."
        assert_told(ended, 1, f"There is no SQLite database {path}. {remedy}")
    assert not path.exists()


def test_a_file_that_is_no_sqlite_database(tmp_path, sqlite_url):
    job = working_job(tmp_path, sqlite_url)
    path = Path(make_url(sqlite_url).database or "")
    path.write_bytes(b"id,name\n" * 200)

    ended = job.call("load")

    assert (ended.exit_code, ended.output) == (1, "")
    assert ended.errors.startswith(f"etl: sqlite:///{path}: file is not a database. ")
    assert path.read_bytes() == b"id,name\n" * 200


WRONG = "tr0ub4dor-and-3"


def changed(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


def test_no_server(tmp_path, postgres_url):
    job = working_job(tmp_path, postgres_url)
    job.url = changed(postgres_url, port=1)

    ended = job.call("load")

    assert (ended.exit_code, ended.output) == (1, "")
    assert re.fullmatch(
        r"etl: postgresql://tester:\*\*\*@\S+:1/\S+ cannot be reached, or was lost: .*"
        r"Connection refused.* run the same command again.*\n",
        ended.errors,
    )
    assert PASSWORD not in ended.errors


def test_no_such_database(tmp_path, postgres_url):
    job = working_job(tmp_path, postgres_url)
    job.url = changed(postgres_url, database="no_such_shop")

    ended = job.call("load")

    assert (ended.exit_code, ended.output) == (1, "")
    assert 'database "no_such_shop" does not exist' in ended.errors


@pytest.mark.parametrize("command", ["load", "check", "history", "rejects"])
def test_a_wrong_password_is_told_and_never_shown(tmp_path, postgres_url, command):
    job = working_job(tmp_path, postgres_url)
    job.url = changed(postgres_url, password=WRONG)

    for arguments in [["--json"], ["-v"]] if command == "load" else [[]]:
        ended = job.call(command, *arguments)
        assert ended.exit_code == 1
        assert 'password authentication failed for user "tester"' in ended.errors
        assert WRONG not in ended.output + ended.errors
    job.url = postgres_url
    assert_nothing_was_written(job)


def test_a_wrong_password_in_the_url_of_a_command_is_never_shown(postgres_url):
    ended = call("history", changed(postgres_url, password=WRONG))

    assert ended.exit_code == 1
    assert WRONG not in ended.output + ended.errors


def test_no_permission_to_make_the_ledger(tmp_path, postgres_url):
    job = working_job(tmp_path, postgres_url)
    with fresh_role(postgres_url) as url:
        execute(postgres_url, f"GRANT SELECT, INSERT ON items TO {make_url(url).username}")
        job.url = url
        ended = job.call("load")
    job.url = postgres_url

    assert (ended.exit_code, ended.output) == (1, "")
    assert re.search(r": no permission: permission denied for database .* \(SQLSTATE 42501\)\. Grant it", ended.errors)
    assert_nothing_was_written(job)


def test_no_permission_to_insert_is_told_by_check_and_by_load(tmp_path, postgres_url):
    job = working_job(tmp_path, postgres_url)
    with fresh_role(postgres_url) as url:
        role = make_url(url).username
        execute(postgres_url, f"CREATE SCHEMA etl AUTHORIZATION {role}", f"GRANT SELECT ON items TO {role}")
        job.url = url
        checked = job.call("check")
        ended = job.call("load", "--json")

    assert checked.exit_code == 1
    assert f"the role {role} may not INSERT into items: GRANT INSERT ON items" in checked.output
    assert ended.exit_code == 1
    assert (ended.result["status"], ended.result["written"]) == ("failed", 0)
    assert "no permission: permission denied for table items" in ended.result["error"]
    assert count(postgres_url, "items") == 1


# The output


@pytest.mark.parametrize("output", ["missing/rejects.csv", "/dev/full"])
def test_rejects_into_a_file_that_cannot_be_written(tmp_path, sqlite_url, output):
    job = working_job(tmp_path, sqlite_url)
    job.write("items.csv", "id,name\nx,one\n")
    assert job.call("load").exit_code == 3

    path = output if output.startswith("/") else job.folder / output
    ended = job.call("rejects", "-o", path)

    assert (ended.exit_code, ended.output) == (2, "")
    assert re.fullmatch(
        rf"etl: {re.escape(str(path))} cannot be written: .*\. Give another path to -o\.\n", ended.errors
    )


def test_rejects_of_a_run_that_is_not_there(tmp_path, sqlite_url):
    job = working_job(tmp_path, sqlite_url)
    job.call("load")

    assert_told(
        job.call("rejects", "--run", "20200101-000000-abcdef"),
        2,
        "There is no run 20200101-000000-abcdef in the ledger. `etl history` lists the runs.",
    )


def test_the_sentence_is_all_there_is_on_standard_error_of_a_real_process(tmp_path, sqlite_url):
    job = working_job(tmp_path, sqlite_url)
    job.configure('source = "items.csv"\ntable = "item"')

    assert_told(job.etl("load"), 1, "Load item: there is no table item in the database. Did you mean items?")


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_system_that_starts_no_more_threads_is_told_and_the_same_command_goes_on(tmp_path, sqlite_url, threads):
    """As where the limit on processes is reached: the first thread is that of signals, then fingerprint and reading."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\n"
        "real, left = threading._start_new_thread, [0] * THREADS\n"
        "def start(*arguments):\n"
        "    if not left:\n"
        '        raise RuntimeError("can\'t start new thread")\n'
        "    left.pop()\n"
        "    return real(*arguments)\n"
        "threading._start_new_thread = start\n".replace("THREADS", str(threads))
    )
    job = items_job(tmp_path, sqlite_url)
    job.write("items.csv", items_csv([(1, "one")]))
    job.environment["PYTHONPATH"] = str(tmp_path)

    refused = job.etl("load", "--json")

    assert refused.exit_code == 1
    assert refused.result["error"].startswith("The system starts no thread for this process; the open transaction was")
    del job.environment["PYTHONPATH"]
    assert job.etl("load", "--json").result["written"] == 1
