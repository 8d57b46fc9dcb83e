"""Running the commands as a person does: `python -m etl …` in a process of its own, and looking at what it left."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy import make_url
from sqlalchemy.pool import NullPool

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60

# design.md, section 4: the object of --json, whatever the exit code.
RESULT_KEYS = [
    *("run_id", "job", "status", "exit_code", "dry_run", "seconds"),
    *("read", "written", "updated", "unchanged", "duplicates", "rejected", "filtered"),
    *("loads", "timing", "error"),
]
LOAD_KEYS = [
    *("name", "table", "method"),
    *("read", "written", "updated", "unchanged", "duplicates", "rejected", "filtered"),
    *("seconds", "rejects", "files"),
]
FILE_KEYS = ["path", "status", "read", "written", "duplicates", "rejected"]
REJECT_KEYS = [
    *("run_id", "load", "file", "record", "line", "phase", "reason", "sqlstate", "constraint", "column"),
    *("message", "values", "raw"),
]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    exit_code: int
    output: str
    errors: str

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        parsed: dict[str, Any] = json.loads(self.output)
        return parsed

    @property
    def told(self) -> str:
        """The last line on standard error, which is the error's."""
        return self.errors.rstrip("\n").rpartition("\n")[2]


def etl(*arguments: str | Path, stdin: str | bytes = b"", folder: Path | None = None, **environment: str) -> Ended:
    """Run a command to its end. It must not show a traceback, whatever happens."""
    done = subprocess.run(
        [sys.executable, "-m", "etl", *map(str, arguments)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        cwd=folder or ROOT,
        env=_environment(environment),
        timeout=SECONDS,
        check=False,
    )
    return _ended(done.returncode, done.stdout, done.stderr)


def call(*arguments: str | Path, stdin: str | bytes = b"", **environment: str) -> Ended:
    """Run a command in this process, which takes a tenth of the time; its logging is pytest's."""
    from etl.cli import main

    handler = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(main, list(map(str, arguments)), input=stdin, env=environment, prog_name="etl")
    finally:
        signal.signal(signal.SIGTERM, handler)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return _ended(done.exit_code, done.stdout_bytes, done.stderr_bytes)


def _ended(exit_code: int, output: bytes, errors: bytes) -> Ended:
    ended = Ended(exit_code, output.decode(), errors.decode())
    assert "Traceback" not in ended.output + ended.errors, ended.errors
    assert "etl has a bug" not in ended.errors, ended.errors
    return ended


def _environment(more: dict[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return inherited | {"PYTHONPATH": path, "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"} | more


@dataclass
class Started:
    """A command that is at work."""

    process: subprocess.Popen[bytes]

    def end(self, number: signal.Signals) -> Ended:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> Ended:
        output, errors = self.process.communicate(timeout=SECONDS)
        return _ended(self.process.returncode, output, errors)


@contextlib.contextmanager
def started(*arguments: str | Path, folder: Path | None = None, **environment: str) -> Iterator[Started]:
    """A command at work; killed on leaving, if it has not ended by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "etl", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder or ROOT,
        env=_environment(environment),
    )
    try:
        yield Started(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_until(is_so: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


# Databases, looked at through a connection of the test's own


@functools.cache
def _engine(url: str) -> sa.Engine:
    """It keeps no connection open."""
    return sa.create_engine(url, poolclass=NullPool)


def execute(url: str, *statements: str) -> None:
    with _engine(url).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with _engine(url).connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def count(url: str, table: str) -> int:
    ((rows,),) = query(url, f"SELECT count(*) FROM {table}")
    return int(rows)


def tables(url: str) -> set[str]:
    """All tables of the database, the ledger's among them."""
    inspector = sa.inspect(_engine(url))
    schemas = [name for name in inspector.get_schema_names() if name != "information_schema"]
    return {table for schema in schemas for table in inspector.get_table_names(schema)}


def is_postgresql(url: str) -> bool:
    return make_url(url).get_backend_name() == "postgresql"


def ledger(url: str, table: str) -> str:
    """The name of a ledger table in SQL: ``etl.etl_run``, and ``etl_run`` on SQLite."""
    return f"etl.{table}" if is_postgresql(url) else table


# Jobs


@dataclass
class Job:
    """A folder with a config and its files; the database's URL comes from the environment, so that none is in it."""

    folder: Path
    url: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "job.toml"

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def configure(self, *loads: str, more: str = "") -> None:
        """Write the config: each load is the text below its [[load]]."""
        text = '[database]\nurl = "${TEST_DATABASE_URL}"\n' + more
        self.write("job.toml", text + "".join(f"\n[[load]]\n{load}\n" for load in loads))

    def etl(self, command: str, *arguments: str | Path, stdin: str | bytes = b"") -> Ended:
        """Run a command on the config in a process of its own."""
        return etl(command, self.config, *arguments, stdin=stdin, **self._variables)

    def call(self, command: str, *arguments: str | Path, stdin: str | bytes = b"") -> Ended:
        """Run a command on the config in this process."""
        return call(command, self.config, *arguments, stdin=stdin, **self._variables)

    def started(self, *arguments: str | Path) -> contextlib.AbstractContextManager[Started]:
        """`etl load` of the config, at work."""
        return started("load", self.config, *arguments, **self._variables)

    @property
    def _variables(self) -> dict[str, Any]:
        return {"TEST_DATABASE_URL": self.url} | self.environment


ITEMS = "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL)"


def items_job(folder: Path, url: str, *tables: str) -> Job:
    """A job with an empty table ``items`` and one load of ``items.csv`` into it; the file is the test's to write."""
    if not is_postgresql(url):
        Path(make_url(url).database or "").touch()
    execute(url, *(tables or (ITEMS,)))
    job = Job(folder, url)
    job.configure('source = "items.csv"\ntable = "items"')
    return job


def items_csv(rows: Sequence[tuple[object, object]]) -> str:
    return "id,name\n" + "".join(f"{id_},{name}\n" for id_, name in rows)
