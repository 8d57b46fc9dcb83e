"""What is measured: the same table and the same file, loaded by etl and by the databases' own shells."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import Measurement, Summary, measure, summarise
from bench.servers import Server

ROW_ROWS = 20_000  # a savepoint for each row is slow: enough rows for a rate, and no more
FULL_ROWS = 1_000_000  # the bars are for this many
BULK_TO_IMPORT = 2.5
BULK_TO_ROW = 15.0
MEMORY_LIMIT = 400_000_000
MEMORY_SIZES = {"100 MB": 100_000_000, "1 GB": 1_000_000_000}
TABLE = "bench_rows"

SQLITE_DDL = f"""CREATE TABLE {TABLE} (
    id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL, city TEXT NOT NULL, note TEXT,
    amount NUMERIC(12, 2) NOT NULL, quantity INTEGER NOT NULL CHECK (quantity > 0),
    created_at TIMESTAMP NOT NULL, day DATE NOT NULL)"""
POSTGRES_DDL = SQLITE_DDL


@dataclass(frozen=True, slots=True)
class Data:
    """A generated file and what is in it."""

    path: Path
    rows: int
    bytes: int
    duplicates: int
    bad: int

    @property
    def good(self) -> int:
        return self.rows - self.duplicates - self.bad


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to load the file. `prepare` makes the table anew, `count` counts its rows afterwards."""

    name: str
    data: Data
    command: tuple[str, ...]
    prepare: Callable[[], None]
    count: Callable[[], int]


@dataclass(slots=True)
class Result:
    """The measurements of one contender; `missing` says why there are none."""

    name: str
    rows: int
    bytes: int
    summary: Summary | None = None
    missing: str | None = None

    @property
    def rows_per_second(self) -> float | None:
        return self.rows / self.summary.median_seconds if self.summary else None


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the specification and what was measured; `value` None: it was not measured."""

    what: str
    value: float | None
    limit: float
    at_most: bool
    counts: bool = True
    note: str = ""

    @property
    def state(self) -> str:
        if self.value is None:
            return "not measured"
        held = self.value <= self.limit if self.at_most else self.value >= self.limit
        return ("held" if held else "MISSED") if self.counts else f"for information ({self.note})"


@dataclass(slots=True)
class Outcome:
    """The results and bars of one scenario."""

    name: str
    results: list[Result] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def result(self, name: str) -> Result | None:
        return next((one for one in self.results if one.name == name and one.summary), None)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all scenarios share."""

    folder: Path
    etl: tuple[str, ...]
    rows: int
    repeats: int
    duplicates: float
    bad: float
    server: Server | None
    say: Callable[[str], None]

    @property
    def is_dirty(self) -> bool:
        return self.duplicates > 0 or self.bad > 0


# The scenarios --------------------------------------------------------------------------------------------


def on_sqlite(bench: Bench) -> Outcome:
    """`bulk` and `row` on SQLite beside `.import` of the sqlite3 shell."""
    outcome = Outcome("sqlite")
    data = make_data(bench, "rows", rows=bench.rows)
    contenders = etl_contenders(bench, data, sqlite_url(bench), *sqlite_table(bench), fast=("bulk",))
    shell = shutil.which("sqlite3")
    if shell:
        load = f".import --csv --skip 1 {data.path.name} {TABLE}"
        contenders.insert(0, Contender("sqlite3 .import", data, (shell, "bench.db", load), *sqlite_table(bench)))
    else:
        outcome.results.append(Result("sqlite3 .import", 0, 0, missing="sqlite3 is not installed"))
    run_alternating(bench, contenders, outcome)
    ratio = seconds_ratio(outcome, "etl bulk", "sqlite3 .import")
    small = bench.rows < FULL_ROWS
    note = f"the bar is for {FULL_ROWS:,} rows"
    what = "SQLite: wall time of bulk / of .import"
    outcome.bars.append(Bar(what, ratio, BULK_TO_IMPORT, at_most=True, counts=not small, note=note))
    return outcome


def on_postgres(bench: Bench) -> Outcome:
    """`copy`, `bulk` and `row` on PostgreSQL beside `\\copy` of psql."""
    outcome = Outcome("postgres")
    what = "PostgreSQL: rows/s of bulk / of row"
    if bench.server is None:
        outcome.results.append(Result("PostgreSQL", 0, 0, missing="no server binaries"))
        outcome.bars.append(Bar(what, None, BULK_TO_ROW, at_most=False))
        return outcome
    data = make_data(bench, "rows", rows=bench.rows)
    table = postgres_table(bench.server)
    contenders = etl_contenders(bench, data, bench.server.url, *table, fast=("copy", "bulk"))
    if bench.server.psql:
        copy = f"\\copy {TABLE} FROM '{data.path.name}' WITH (FORMAT csv, HEADER)"
        command = (bench.server.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", copy, bench.server.url)
        contenders.insert(0, Contender("psql \\copy", data, command, *table))
    else:
        outcome.results.append(Result("psql \\copy", 0, 0, missing="psql is not installed"))
    run_alternating(bench, contenders, outcome)
    bulk, row = outcome.result("etl bulk"), outcome.result("etl row")
    rates = (bulk.rows_per_second, row.rows_per_second) if bulk and row else (None, None)
    ratio = rates[0] / rates[1] if rates[0] and rates[1] else None
    outcome.bars.append(Bar(what, ratio, BULK_TO_ROW, at_most=False))
    return outcome


def memory_on_sqlite(bench: Bench) -> Outcome:
    """Peak memory of `bulk` for a small and a large file, on SQLite."""
    return peak_memory(bench, "memory-sqlite", sqlite_url(bench), *sqlite_table(bench))


def memory_on_postgres(bench: Bench) -> Outcome:
    """Peak memory of `bulk` for a small and a large file, on PostgreSQL."""
    if bench.server is None:
        missing = Result("PostgreSQL", 0, 0, missing="no server binaries")
        return Outcome("memory-postgres", [missing])
    return peak_memory(bench, "memory-postgres", bench.server.url, *postgres_table(bench.server))


SCENARIOS: dict[str, Callable[[Bench], Outcome]] = {
    "sqlite": on_sqlite,
    "postgres": on_postgres,
    "memory-sqlite": memory_on_sqlite,
    "memory-postgres": memory_on_postgres,
}


def peak_memory(bench: Bench, name: str, url: str, prepare: Callable[[], None], count: Callable[[], int]) -> Outcome:
    outcome = Outcome(name)
    for label, size in MEMORY_SIZES.items():
        data = make_data(bench, f"memory-{size}", bytes=size)
        command = etl_command(bench, data, url, "bulk")
        contender = Contender(f"etl bulk, {label}", data, command, prepare, count)
        run_alternating(bench, [contender], outcome, repeats=1)
        result = outcome.result(contender.name)
        peak = result.summary.peak_bytes / 1e6 if result and result.summary else None
        what = f"{name.removeprefix('memory-')}: peak memory of bulk for {label}, in MB"
        outcome.bars.append(Bar(what, peak, MEMORY_LIMIT / 1e6, at_most=True))
        data.path.unlink()
    return outcome


# Their parts ----------------------------------------------------------------------------------------------


def etl_contenders(
    bench: Bench, data: Data, url: str, prepare: Callable[[], None], count: Callable[[], int], fast: Sequence[str]
) -> list[Contender]:
    """``fast`` are the methods that are measured on all of ``data``, the one that ``auto`` takes first."""
    few = make_data(bench, "few", rows=min(ROW_ROWS, bench.rows))
    plans = [*((f"etl {method}", data, method) for method in fast), ("etl row", few, "row")]
    if bench.is_dirty:
        name = f"etl {fast[0]}, {bench.duplicates:g} % duplicates, {bench.bad:g} % bad"
        dirty = make_data(bench, "dirty", rows=bench.rows, duplicates=bench.duplicates, bad=bench.bad)
        plans.append((name, dirty, fast[0]))
    return [Contender(name, one, etl_command(bench, one, url, method), prepare, count) for name, one, method in plans]


def make_data(bench: Bench, name: str, **options: float) -> Data:
    """Generate a file, once for each name; the options are those of `bench.data`."""
    path, facts = bench.folder / f"{name}.csv", bench.folder / f"{name}.json"
    if not path.exists():
        bench.say(f"making {path.name}")
        command = [sys.executable, "-m", "bench.data", str(path)]
        command += [f"--{option}={value}" for option, value in options.items()]
        root = Path(__file__).resolve().parent.parent
        made = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        facts.write_text(made.stdout)
    return Data(path, **json.loads(facts.read_text()))


def etl_command(bench: Bench, data: Data, url: str, method: str) -> tuple[str, ...]:
    """The command a user would type, and the job file that goes with it."""
    job = bench.folder / f"{data.path.stem}-{url.partition(':')[0]}.toml"
    job.write_text(f'[database]\nurl = "{url}"\n\n[[load]]\nsource = "{data.path.name}"\ntable = "{TABLE}"\n')
    return (*bench.etl, "load", job.name, "--method", method, "--json", "--no-progress")


def sqlite_url(bench: Bench) -> str:
    return f"sqlite:///{bench.folder / 'bench.db'}"


def sqlite_table(bench: Bench) -> tuple[Callable[[], None], Callable[[], int]]:
    path = bench.folder / "bench.db"

    def prepare() -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        run_sqlite(path, SQLITE_DDL)

    return prepare, lambda: run_sqlite(path, f"SELECT count(*) FROM {TABLE}")


def run_sqlite(path: Path, statement: str) -> int:
    """Execute a statement and return its first value, if any, else 0."""
    connection = sqlite3.connect(path)
    try:
        row = connection.execute(statement).fetchone()
        connection.commit()
        return int(row[0]) if row else 0
    finally:
        connection.close()


def postgres_table(server: Server) -> tuple[Callable[[], None], Callable[[], int]]:
    def prepare() -> None:
        server.execute(f"DROP TABLE IF EXISTS {TABLE}", "DROP SCHEMA IF EXISTS etl CASCADE", POSTGRES_DDL, "CHECKPOINT")

    return prepare, lambda: server.count(TABLE)


def run_alternating(bench: Bench, contenders: list[Contender], outcome: Outcome, repeats: int | None = None) -> None:
    """Measure each contender in turn, several times round: what disturbs the machine disturbs all of them."""
    taken: dict[str, list[Measurement]] = {one.name: [] for one in contenders}
    failed: dict[str, str] = {}
    for turn in range(repeats or bench.repeats):
        for one in (one for one in contenders if one.name not in failed):
            one.prepare()
            measured = measure(one.command, bench.folder)
            bench.say(f"{outcome.name}: {one.name}, run {turn + 1}: {measured.seconds:.2f} s")
            if wrong := what_is_wrong(one, measured):
                failed[one.name] = wrong
            taken[one.name].append(measured)
    for one in contenders:
        wrong = failed.get(one.name)
        summary = None if wrong else summarise(taken[one.name])
        outcome.results.append(Result(one.name, one.data.rows, one.data.bytes, summary, wrong))


def what_is_wrong(contender: Contender, measured: Measurement) -> str | None:
    """A fast load that is wrong does not count: check exit code, counts, and the table itself."""
    data = contender.data
    allowed = (0, 3) if data.bad else (0,)
    if measured.exit_code not in allowed:
        text = (measured.stderr.strip() or measured.stdout.strip()).splitlines()
        return f"FAILED with exit code {measured.exit_code}: {text[-1] if text else 'no message'}"
    if contender.name.startswith("etl") and (wrong := wrong_counts(data, measured.stdout)):
        return f"FAILED: {wrong}"
    if (found := contender.count()) != data.good:
        return f"FAILED: {found:,} rows in the table, expected {data.good:,}"
    return None


def wrong_counts(data: Data, stdout: str) -> str | None:
    """What etl says it did, against what is in the file."""
    expected = (data.rows, data.good, data.duplicates, data.bad)
    try:
        counts = json.loads(stdout)
        found = tuple(counts[name] for name in ("read", "written", "duplicates", "rejected"))
    except (ValueError, KeyError, TypeError):
        return "standard output is not the JSON of `etl load --json`"
    if found != expected:
        return f"read, written, duplicates, rejected are {found}, expected {expected}"
    return None


def seconds_ratio(outcome: Outcome, name: str, peer: str) -> float | None:
    ours, theirs = outcome.result(name), outcome.result(peer)
    if not (ours and theirs and ours.summary and theirs.summary):
        return None
    return ours.summary.median_seconds / theirs.summary.median_seconds
