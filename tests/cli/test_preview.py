"""`etl check` shows the first records as they are read: to people as a table, to programs as JSON."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.commands import ROOT, Ended, call, execute
from tests.files import write_job

DIALECT = {"delimiter": ";", "escape": "\\", "header": 2}


def check(folder: Path, url: str, content: bytes, *options: str, columns: str = "id TEXT, note TEXT") -> Ended:
    execute(url, f"CREATE TABLE notes ({columns})")
    (folder / "notes.csv").write_bytes(content)
    load = {"source": "notes.csv", "table": "notes", "csv": DIALECT, "ignore_columns": "*"}
    return call("check", write_job(folder, url, load), *options)


def shown(ended: Ended) -> list[str]:
    """The lines of the table, without their margin."""
    _, _, behind = ended.output.partition("  reads       ")
    return [line[14:] for line in ("x" * 14 + behind).partition("\n\n")[0].split("\n")]


def test_first_records_are_shown_by_source_column(sqlite_url: str, tmp_path: Path) -> None:
    content = b'Notes\nid;note\n1;\\;a \n2;"";\n3;\n4;x\x1b[31m\n5;y\n'

    ended = check(tmp_path, sqlite_url, content)

    assert ended.exit_code == 0, ended.errors
    assert shown(ended) == [
        "      line 3  line 4    line 5",
        'id    "1"     rejected  "3"',
        'note  ";a "             NULL',
        "line 4 is rejected: column_count, has 3 fields, the header has 2",
    ]


def test_characters_that_steer_a_terminal_are_shown_by_their_codes(sqlite_url: str, tmp_path: Path) -> None:
    ended = check(tmp_path, sqlite_url, 'x\nid;note\x07\n1;"a\nb\x1b[31m\u202e"\n'.encode(), columns="id TEXT")

    assert shown(ended)[1:] == ['id        "1"', 'note\\x07  "a\\nb\\x1b[31m\\u202e"']
    assert ended.output.replace("\n", "").isprintable()


def test_programs_get_the_first_records_too(sqlite_url: str, tmp_path: Path) -> None:
    ended = check(tmp_path, sqlite_url, b"x\nid;note\n1;a;\n2;\n3;\\;\n4;z\n", "--json")

    (load,) = ended.result["loads"]
    assert load["preview"] == {
        "source": "notes.csv",
        "records": [
            {
                "record": 1,
                "line": 3,
                "values": None,
                "reject": {"reason": "column_count", "message": "has 3 fields, the header has 2"},
            },
            {"record": 2, "line": 4, "values": {"id": "2", "note": None}, "reject": None},
            {"record": 3, "line": 5, "values": {"id": "3", "note": ";"}, "reject": None},
        ],
    }


def test_source_without_records_has_none_to_show(sqlite_url: str, tmp_path: Path) -> None:
    ended = check(tmp_path, sqlite_url, b"x\nid;note\n")

    assert (ended.exit_code, shown(ended)) == (0, ["notes.csv has no records"])


def test_wide_files_are_shown_to_people_in_part_and_to_programs_as_a_whole(sqlite_url: str, tmp_path: Path) -> None:
    names = ["id", *(f"c{number}" for number in range(30))]
    content = ("x\n" + ";".join(names) + "\n" + ";".join("7" * 31) + "\n").encode()

    ended = check(tmp_path, sqlite_url, content, columns="id TEXT")
    as_json = call("check", tmp_path / "job.toml", "--json")

    assert len(shown(ended)) == 22
    assert shown(ended)[-1] == "and 11 columns more: `--json` has all"
    assert list(as_json.result["loads"][0]["preview"]["records"][0]["values"]) == names


def test_parquet_is_shown_by_the_columns_that_are_loaded(sqlite_url: str, tmp_path: Path) -> None:
    execute(sqlite_url, "CREATE TABLE notes (id INTEGER, day DATE)")
    table = {"id": [1, 2, None, 4], "other": ["x"] * 4, "day": pa.array([0, None, 1, 2], pa.date32())}
    pq.write_table(pa.table(table), tmp_path / "notes.parquet")
    job = write_job(tmp_path, sqlite_url, {"source": "notes.parquet", "table": "notes", "ignore_columns": ["other"]})

    assert shown(call("check", job)) == [
        "     record 1      record 2  record 3",
        'id   "1"           "2"       NULL',
        'day  "1970-01-01"  NULL      "1970-01-02"',
    ]


@pytest.mark.parametrize("columns", [56, 80])
def test_table_is_cut_to_the_width_of_the_terminal(sqlite_url: str, tmp_path: Path, columns: int) -> None:
    content = "x\nid;note\n" + "".join(f"{number};{'日本' * 30}\n" for number in range(3))
    check(tmp_path, sqlite_url, content.encode())

    output = on_a_terminal(columns, "check", str(tmp_path / "job.toml"))

    lines = [line for line in output.split("\r\n") if "日" in line or "  line 3" in line]
    assert len(lines) == 2, output
    widths = [len(line) + sum(character in "日本" for character in line) for line in lines]
    assert columns - 8 < max(widths) <= columns, output


def on_a_terminal(columns: int, *arguments: str) -> str:
    """What a command writes to a terminal that is so wide."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "etl", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment):
        os.close(theirs)
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            return b"".join(_until_its_end(terminal)).decode()


def _until_its_end(terminal: FileIO) -> Iterator[bytes]:
    with suppress(OSError):  # the terminal is gone with its last process
        while part := terminal.read(65_536):
            yield part


def test_json_is_one_object_whatever_the_records_hold(sqlite_url: str, tmp_path: Path) -> None:
    ended = check(tmp_path, sqlite_url, 'x\nid;note\n1;"\u2028\x1b\ud7ff"\n'.encode(), "--json")

    assert ended.output.count("\n") == 1
    assert "\x1b" not in ended.output
    values = json.loads(ended.output)["loads"][0]["preview"]["records"][0]["values"]
    assert values == {"id": "1", "note": "\u2028\x1b\ud7ff"}
