"""Who loads: etl, the databases' own shells, and other tools; with the command that a user would type."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.files import Data
from bench.results import Result
from bench.servers import Server
from bench.tables import TABLE, State, Target


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to load a file. `prepare` makes the table anew, `state` looks at it afterwards.

    `counts` are those that etl has to report: read, written, duplicates, rejected; `dead_rows` counts what is left.
    `there` rows are in the table before. A peer may fail: that is a finding and no failure of the bench; it has
    `limit` seconds for its load.
    """

    name: str
    command: tuple[str, ...]
    rows: int
    expected: State
    prepare: Callable[[], None]
    state: Callable[[], State]
    counts: tuple[int, int, int, int] | None = None
    dead_rows: Callable[[], int | None] | None = None
    is_peer: bool = False
    limit: float | None = None
    there: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Etl:
    """The etl command, for one folder."""

    command: tuple[str, ...]
    folder: Path

    def load(self, source: Path, url: str, method: str, *options: str, keys: str = "") -> tuple[str, ...]:
        """The command a user would type, and the job file that goes with it, with more ``keys`` of the load."""
        job = self.folder / f"{source.name}-{url.partition(':')[0]}.toml"
        load = f'[[load]]\nsource = "{source.name}"\ntable = "{TABLE}"\n{keys}'
        job.write_text(f'[database]\nurl = "{url}"\n\n{load}')
        return (*self.command, "load", job.name, "--method", method, "--json", "--no-progress", *options)


def etl_contender(etl: Etl, data: Data, target: Target, method: str, source: Path | None = None) -> Contender:
    """etl on the CSV of ``data``, or on another of its files."""
    return Contender(
        name=f"etl {method}",
        command=etl.load(source or data.csv, target.url, method),
        rows=data.rows,
        expected=State(data.written + data.there, data.cents),
        prepare=partial(target.prepare, data.there_csv),
        state=target.state,
        counts=(data.rows, data.written, data.duplicates, data.rejected),
        dead_rows=target.dead_rows,
        there=data.there,
    )


def psql_copy(
    server: Server, data: Data, target: Target, source: Path | None = None, name: str = "psql \\copy"
) -> Contender | Result:
    """`\\copy` of a file whose rows are all good, or the result that says that there is no psql."""
    if server.psql is None:
        return Result(name, data.written, trouble="psql is not installed")
    source = source or data.csv
    copy = f"\\copy {TABLE} FROM '{source.name}' WITH (FORMAT csv, HEADER)"
    good = State(data.written + data.there, data.cents)
    prepare = partial(target.prepare, data.there_csv)
    return Contender(name, psql(server, copy), data.written, good, prepare, target.state)


def by_hand(
    server: Server, data: Data, target: Target, prepare: Callable[[], None] | None = None
) -> Contender | Result:
    """What a person does with duplicates: a staging table, and `ON CONFLICT DO NOTHING`.

    Only the number of rows is checked: a scan gives them as they lie in the staging table, which need not be the order
    of the file, so that of two rows with one key the later one may stay.
    """
    if server.psql is None:
        return Result("by hand", data.rows, trouble="psql is not installed")
    command = psql(
        server,
        f"CREATE TEMP TABLE staging (LIKE {TABLE})",
        f"\\copy staging FROM '{data.csv.name}' WITH (FORMAT csv, HEADER)",
        f"INSERT INTO {TABLE} SELECT * FROM staging ON CONFLICT DO NOTHING",
    )
    expected = State(data.written + data.there, data.cents)
    prepare = prepare or partial(target.prepare, data.there_csv)
    note = "of two rows with one key either may stay"
    return Contender("by hand", command, data.rows, expected, prepare, lambda: counted(target, data), note=note)


def updating_by_hand(server: Server, data: Data, target: Target) -> Contender | Result:
    """What a person does where the last row of each key is to stay: a staging table with the order of the file, and
    `ON CONFLICT DO UPDATE` of the last row of each key."""
    if server.psql is None:
        return Result("by hand", data.rows, trouble="psql is not installed")
    columns = ("id", "name", "city", "note", "amount", "quantity", "created_at", "day")
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[1:])
    names = ", ".join(columns)
    command = psql(
        server,
        f"CREATE TEMP TABLE staging (LIKE {TABLE}, place bigserial)",
        f"\\copy staging ({names}) FROM '{data.csv.name}' WITH (FORMAT csv, HEADER)",
        f"INSERT INTO {TABLE} SELECT DISTINCT ON (id) {names} FROM staging ORDER BY id, place DESC"
        f" ON CONFLICT (id) DO UPDATE SET {changes}",
    )
    expected = State(data.written + data.there, data.updated_cents)
    prepare = partial(target.prepare, data.there_csv)
    return Contender("by hand", command, data.rows, expected, prepare, target.state, dead_rows=target.dead_rows)


def updating_etl(etl: Etl, data: Data, target: Target, method: str) -> Contender:
    """etl with `on_duplicate = "update"` on a file with duplicates."""
    return replace(
        etl_contender(etl, data, target, method),
        command=etl.load(data.csv, target.url, method, keys='on_duplicate = "update"\n'),
        expected=State(data.written + data.there, data.updated_cents),
        counts=(data.rows, data.written, 0, 0),
    )


def counted(target: Target, data: Data) -> State:
    """The rows of the table, with the amounts that are right."""
    return State(target.state().rows, data.cents)


def psql(server: Server, *statements: str) -> tuple[str, ...]:
    assert server.psql is not None
    options = [option for statement in statements for option in ("-c", statement)]
    return (server.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", *options, server.url)


def sqlite_import(data: Data, target: Target) -> Contender | Result:
    """`.import` of the sqlite3 shell, or the result that says that there is none."""
    shell = shutil.which("sqlite3")
    if shell is None:
        return Result("sqlite3 .import", data.rows, trouble="sqlite3 is not installed")
    load = f".import --csv --skip 1 {data.csv.name} {TABLE}"
    name = target.url.rpartition("/")[2]
    good = State(data.written, data.cents)
    return Contender("sqlite3 .import", (shell, name, load), data.rows, good, target.prepare, target.state)


def run_or_raise(command: tuple[str, ...], folder: Path) -> None:
    """Run a command that prepares something; RuntimeError, if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(f"exit code {done.returncode}: {lines[-1] if lines else 'no message'}")
