"""The peers: other tools that load a CSV file into a table, each used as its own documentation says is fastest.

`make bench-peers` installs those that are Python packages into `.venv-peers`, so that they never meet etl's
dependencies; pgloader is a package of Debian. What is not there is reported as missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from bench.contenders import Contender, run_or_raise
from bench.files import ROOT, Data
from bench.results import Result
from bench.servers import Server
from bench.tables import STATE, TABLE, State, Target

BIN = ROOT / ".venv-peers" / "bin"
SCRIPTS = ROOT / "bench" / "peers"
LIMIT = 180.0  # seconds for one load
ROWS = 200_000  # most are slow: enough rows for a rate, and no more

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool on one database; `prepare` and `state` are for one that makes a table of its own."""

    name: str
    program: str | None
    target: Target
    load: Callable[[Data], Command]
    note: str
    rows: int = ROWS
    prepare: Callable[[Data], None] | None = None
    state: Callable[[], State] | None = None


def postgres_peers(server: Server, target: Target, folder: Path, *, duplicates: bool) -> list[Peer]:
    """The tools for PostgreSQL, for a clean file or for one with duplicates."""
    python, csvsql = program("python"), program("csvsql")
    url = server.url.replace("postgresql:", "postgresql+psycopg2:", 1)
    return [
        pgloader(server, target, duplicates=duplicates),
        *([polars(server, target, duplicates=True)] if duplicates else []),  # else it is fast: on all rows, elsewhere
        dlt(server, target, folder, duplicates=duplicates, python=python),
        Peer(
            "csvkit",
            csvsql,
            target,
            lambda data: (
                *(csvsql or "", "--db", url, "--insert", "--no-create", "--tables", TABLE),
                *("--no-inference", "--chunk-size", "10000", str(data.csv)),
            ),
            "a duplicate fails the load" if duplicates else "no types are guessed",
        ),
    ]


def sqlite_peers(target: Target, path: Path, *, duplicates: bool) -> list[Peer]:
    """The tools for SQLite, for a clean file or for one with duplicates."""
    utils, csvsql = program("sqlite-utils"), program("csvsql")
    skip = ("--pk", "id", "--ignore") if duplicates else ()
    ignore = ("--prefix", "OR IGNORE") if duplicates else ()
    return [
        Peer(
            "sqlite-utils, SQLite",
            utils,
            target,
            lambda data: (
                *(utils or "", "insert", str(path), TABLE, str(data.csv), "--csv", "--empty-null", "--silent"),
                *("--batch-size", "10000", *skip),
            ),
            "duplicates are skipped, and not counted" if duplicates else "",
        ),
        Peer(
            "csvkit, SQLite",
            csvsql,
            target,
            lambda data: (
                *(csvsql or "", "--db", target.url, "--insert", "--no-create", "--tables", TABLE, *ignore),
                *("--no-inference", "--chunk-size", "10000", str(data.csv)),
            ),
            "INSERT OR IGNORE: whatever breaks a constraint is dropped silently" if duplicates else "",
        ),
    ]


def pgloader(server: Server, target: Target, *, duplicates: bool) -> Peer:
    """It sends a batch that fails again, behind each bad row: small batches are fastest then, else its default."""
    found = shutil.which("pgloader")
    batch = "500" if duplicates else "25000"
    note = f"batches of {batch}; rows that fail go to a file" if duplicates else ""

    def load(data: Data) -> Command:
        variables = (f"FILE={data.csv}", f"URL={server.url}", f"BATCH={batch}")
        return ("env", *variables, found or "", "--root-dir", f"{data.csv}.d", str(SCRIPTS / "pgloader.load"))

    return Peer("pgloader", found, target, load, note, rows=20_000 if duplicates else ROWS)


def polars(server: Server, target: Target, *, duplicates: bool) -> Peer:
    python = program("python")
    script = str(SCRIPTS / "polars_adbc.py")
    note = "a duplicate fails the load" if duplicates else "the whole file is in memory"
    return Peer("polars + ADBC", python, target, lambda data: (python or "", script, server.url, str(data.csv)), note)


def dlt(server: Server, target: Target, folder: Path, *, duplicates: bool, python: str | None) -> Peer:
    """dlt makes the table, without CHECK and key; what is there before goes in by itself, too."""
    how = "insert-only" if duplicates else "append"

    def load(file: Path) -> Command:
        password = "DESTINATION__POSTGRES__CREDENTIALS__PASSWORD=none"  # it wants one, also where the server does not
        settings = ("RUNTIME__DLTHUB_TELEMETRY=false", password)
        return ("env", *settings, python or "", str(SCRIPTS / "dlt_load.py"), server.url, str(file), how)

    def prepare(data: Data) -> None:
        server.execute("DROP SCHEMA IF EXISTS bench_dlt CASCADE", "DROP SCHEMA IF EXISTS bench_dlt_staging CASCADE")
        for made in folder.glob("*.dlt"):
            shutil.rmtree(made)
        if data.there_csv:
            run_or_raise(load(data.there_csv), folder)

    note = "its own table, which has no key and no CHECK"
    if duplicates:
        note += "; merge strategy insert-only"
    query = STATE.format(table=f"bench_dlt.{TABLE}")

    def state() -> State:
        try:
            return State(*server.row(query))
        except psycopg.errors.UndefinedTable:
            return State(0, 0)

    return Peer("dlt", python, target, lambda data: load(data.csv), note, prepare=prepare, state=state)


def program(name: str) -> str | None:
    path = BIN / name
    return str(path) if path.exists() else None


def contender(peer: Peer, data: Data) -> Contender | Result:
    """The peer with a file, or the result that says that it is not installed."""
    if peer.program is None:
        return Result(peer.name, data.rows, trouble="not installed", note=peer.note)
    prepare = partial(peer.prepare, data) if peer.prepare else partial(peer.target.prepare, data.there_csv)
    return Contender(
        name=peer.name,
        command=peer.load(data),
        rows=data.rows,
        expected=State(data.written + data.there, data.cents),
        prepare=prepare,
        state=peer.state or peer.target.state,
        is_peer=True,
        limit=LIMIT,
        there=data.there,
        note=peer.note,
    )
