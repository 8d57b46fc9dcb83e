"""One example loaded by each method, the whole way from its files to what is committed, and compared.

The tables are looked at over a connection of their own.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, event, make_url

import etl
import etl.database.engine
from etl.config import Database, Job, Load, Method
from etl.database.engine import database_engine
from etl.records import Counts
from etl.writers.bulk import HalvingBulkWriter, SqliteBulkWriter
from etl.writers.copy import CopyWriter
from etl.writers.row import CoreRowWriter, RowWriter, UpdatingRowWriter
from tests.files import write_csv
from tests.tables import SCHEMA, Cells, Example, literal, quoted

METHODS: tuple[Method, ...] = ("row", "bulk", "copy")  # the first is the reference
WRITERS = (RowWriter, CoreRowWriter, UpdatingRowWriter, HalvingBulkWriter, SqliteBulkWriter, CopyWriter)

Place = tuple[str, int]  # a file and the number of a record in it


class Verdict(NamedTuple):
    """Where a record is and what is said of it, as the ledger has it."""

    line: int | None
    phase: str
    reason: str
    sqlstate: str | None
    constraint: str | None
    column: str | None


@dataclass(frozen=True)
class Loaded:
    """All that must be the same whatever the method."""

    ended: str
    tables: list[list[str]]
    read: int
    written: int
    updated: int
    unchanged: int
    refused: int
    verdicts: dict[Place, Verdict]


class Laboratory(Protocol):
    """A database in which an example's tables are made again and again."""

    methods: tuple[Method, ...]

    def make(self, example: Example) -> None:
        """The tables of the example as if nothing had been loaded, and an empty ledger."""

    def database(self, example: Example) -> Database:
        """What etl connects to."""

    def fetch(self, query: str) -> list[tuple[Any, ...]]: ...

    def ledger(self, example: Example) -> str:
        """What stands before the name of a ledger table."""

    def breaks(self, example: Example, before: list[Cells], cells: Cells, verdict: Verdict) -> bool:
        """Whether a record, behind those ``before`` it, breaks the constraint that the verdict names."""


# PostgreSQL


@dataclass
class Postgresql:
    """One connection of an owner, and the URLs of roles that may less."""

    admin: psycopg.Connection[Any]
    urls: dict[str, str]
    methods: tuple[Method, ...] = METHODS

    def make(self, example: Example) -> None:
        self.admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")
        # As one transaction: a deferred constraint would refuse at its end what the loop refuses at once.
        self.admin.execute("; ".join(["SET CONSTRAINTS ALL IMMEDIATE", *example.table.ddl, self._present(example)]))
        if example.table.role != "owner":
            role = make_url(self.urls[example.table.role]).username
            rights = "INSERT" if example.table.role == "blind" else "ALL"
            self.admin.execute(
                f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}; GRANT {rights} ON ALL TABLES IN SCHEMA {SCHEMA} TO {role};"
                f" GRANT ALL ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {role}"
            )

    def _present(self, example: Example) -> str:
        blocks = [f"BEGIN {insert}; EXCEPTION WHEN OTHERS THEN NULL; END;" for insert in example.table.present]
        return f"DO $present$ BEGIN {' '.join(blocks)} END $present$"

    def database(self, example: Example) -> Database:
        return Database(url=self.urls[example.table.role], ledger_schema=f"etl_{example.table.role}")

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        return self.admin.execute(query).fetchall()

    def ledger(self, example: Example) -> str:
        return f"etl_{example.table.role}."

    def breaks(self, example: Example, before: list[Cells], cells: Cells, verdict: Verdict) -> bool:
        """By an INSERT into the table without its other constraints, filled by a loop of the driver's own."""
        self.make(example)
        self.admin.execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE")
        try:
            for earlier in before:
                with contextlib.suppress(psycopg.Error), self.admin.transaction():
                    self._insert(example, dict(zip(example.table.given, earlier, strict=True)))
            own_columns = self._own_columns(example, verdict)
            for drop in self._other_constraints(example, verdict):
                self.admin.execute(drop)
            row = dict(zip(example.table.given, cells, strict=True))
            own = {name: cell for name, cell in row.items() if name in own_columns}
            # A value of another column may be none of its type, and be in the way.
            return any(self._refusal(example, values) == verdict[3:] for values in (row, own) if values)
        finally:
            self.admin.execute("ROLLBACK")

    def _insert(self, example: Example, row: dict[str, str | None]) -> None:
        columns, values = ", ".join(map(quoted, row)), ", ".join(map(literal, row.values()))
        self.admin.execute(f"INSERT INTO {quoted(example.table.name)} ({columns}) VALUES ({values})")

    def _refusal(self, example: Example, row: dict[str, str | None]) -> tuple[str | None, ...]:
        """SQLSTATE, constraint and column."""
        try:
            with self.admin.transaction(force_rollback=True):
                self._insert(example, row)
        except psycopg.Error as error:
            return error.sqlstate, error.diag.constraint_name, error.diag.column_name
        return ()

    def _own_columns(self, example: Example, verdict: Verdict) -> set[str]:
        """The columns of the constraint that is named."""
        found = self.fetch(
            "SELECT attname FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)"
            f" WHERE conrelid = {literal(quoted(example.table.name))}::regclass"
            f" AND conname = {literal(verdict.constraint or '')}"
        )
        return {name for (name,) in found} | {verdict.column or ""}

    def _other_constraints(self, example: Example, verdict: Verdict) -> list[str]:
        """What takes away all constraints but the one that is named; foreign keys first, for the keys they need."""
        table, named = literal(quoted(example.table.name)), literal(verdict.constraint or "")
        kept = "('n', 'c')" if verdict.reason == "data" else "('n')"  # a CHECK that divides by zero is not named
        drops = [
            f"SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname)"
            f" FROM pg_constraint WHERE conrelid = {table}::regclass AND conname <> {named} AND contype NOT IN {kept}"
            " AND conparentid = 0 ORDER BY contype <> 'f'",
            f"SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index JOIN pg_class ON oid = indexrelid"
            f" WHERE indrelid = {table}::regclass AND indisunique AND relname <> {named}"
            " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
            f"SELECT format('ALTER TABLE %s ALTER %I DROP NOT NULL', attrelid::regclass, attname) FROM pg_attribute"
            f" WHERE attrelid = {table}::regclass AND attnum > 0 AND attnotnull AND attidentity = ''"
            f" AND attname <> {literal(verdict.column or '')} AND NOT EXISTS (SELECT FROM pg_constraint"
            f" WHERE conrelid = attrelid AND contype = 'p' AND conname = {named} AND attnum = ANY (conkey))",
            "SELECT format('ALTER DOMAIN %s DROP CONSTRAINT %I', contypid::regtype, conname) FROM pg_constraint"
            f" WHERE contypid <> 0 AND contype NOT IN {kept} AND connamespace = '{SCHEMA}'::regnamespace"
            f" AND conname <> {named}",
        ]
        if verdict.sqlstate != "23502" or verdict.column is not None:  # of a domain, neither name is told
            drops.append(
                "SELECT format('ALTER DOMAIN %s DROP NOT NULL', oid::regtype) FROM pg_type"
                f" WHERE typnotnull AND typnamespace = '{SCHEMA}'::regnamespace"
            )
        return [statement for query in drops for (statement,) in self.fetch(query)]


# SQLite


@dataclass
class Sqlite:
    """A file that is made anew for each load."""

    path: Path
    methods: tuple[Method, ...] = METHODS[:2]

    def make(self, example: Example) -> None:
        self.path.unlink(missing_ok=True)
        with self._connection() as connection:
            for statement in example.table.ddl:
                connection.execute(statement)
            for insert in example.table.present:
                with contextlib.suppress(sqlite3.IntegrityError):
                    connection.execute(insert)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            yield connection

    def database(self, example: Example) -> Database:
        return Database(url=f"sqlite:///{self.path}")

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(query).fetchall()

    def ledger(self, example: Example) -> str:
        return ""

    def breaks(self, example: Example, before: list[Cells], cells: Cells, verdict: Verdict) -> bool:
        """Both methods insert row by row what is refused, so that both name the same."""
        return False


# Loading


_jobs = itertools.count()


def load_by(laboratory: Laboratory, example: Example, method: Method, folder: Path) -> Loaded:
    laboratory.make(example)
    files = write_files(example, folder)
    load = Load(
        source=tuple(files),
        name="load",
        table=example.table.name,
        commit_every=example.commit_every,
        record_duplicates=example.record_duplicates,
        method=method,
        **example.load,
    )
    job = Job(name=f"job {next(_jobs)}", folder=folder, database=laboratory.database(example), loads=(load,))
    result, ended = None, "completed"
    with in_pieces_of(example.piece), engines_kept():
        try:
            result = etl.load(job)
        except etl.EtlError as error:
            ended = type(error).__name__
    if ended in ("ConfigError", "TargetMismatch"):  # before anything, the ledger among it, was made
        return Loaded(ended, [], 0, 0, 0, 0, 0, {})
    return _looked_up(laboratory, example, job.name, ended, result)


def _looked_up(laboratory: Laboratory, example: Example, job: str, ended: str, result: etl.RunResult | None) -> Loaded:
    ledger = laboratory.ledger(example)
    of_job = f"FROM {ledger}etl_file f JOIN {ledger}etl_run r ON r.id = f.run_id WHERE r.job = {literal(job)}"
    (counts,) = laboratory.fetch(
        "SELECT coalesce(sum(read_count), 0), coalesce(sum(f.written), 0), coalesce(sum(f.updated), 0),"
        f" coalesce(sum(f.unchanged), 0), coalesce(sum(f.duplicates), 0), coalesce(sum(f.rejected), 0) {of_job}"
    )
    read, written, updated, unchanged, duplicates, rejected = map(int, counts)
    if result is not None:
        told = Counts(read, written, updated, unchanged, duplicates, rejected)
        assert result.counts == told
    verdicts = laboratory.fetch(
        "SELECT f.path, j.record, j.line, j.phase, j.reason, j.sqlstate, j.constraint_name, j.column_name"
        f" FROM {ledger}etl_reject j JOIN {ledger}etl_file f ON f.id = j.file_id JOIN {ledger}etl_run r"
        f" ON r.id = f.run_id WHERE r.job = {literal(job)}"
    )
    return Loaded(
        ended,
        [sorted(map(repr, laboratory.fetch(query))) for query in example.table.looked_at],
        read,
        written,
        updated,
        unchanged,
        duplicates + rejected,
        {(path, record): Verdict(*told) for path, record, *told in verdicts},
    )


def write_files(example: Example, folder: Path) -> list[str]:
    cut = len(example.records) if example.second is None else example.second
    parts = [example.records[:cut], *([example.records[cut:]] if example.second is not None else [])]
    names = [f"{number}.{example.format}" for number in range(len(parts))]
    for name, records in zip(names, parts, strict=True):
        path = folder / name
        _write_parquet(path, example, records) if example.format == "parquet" else _write_csv(path, example, records)
    return names


def _write_csv(path: Path, example: Example, records: tuple[Cells | bytes, ...]) -> None:
    """Each record by itself, so that the lines that are none can stand among them."""
    header = write_csv(path, example.table.given, []).read_bytes()
    lines = [record if isinstance(record, bytes) else write_csv(path, record, []).read_bytes() for record in records]
    path.write_bytes(b"".join([header, *lines]))


def _write_parquet(path: Path, example: Example, records: tuple[Cells | bytes, ...]) -> None:
    columns = zip(*records, strict=True) if records else [() for _ in example.table.given]
    arrays = [_parquet_column(cells) for cells in columns]
    pq.write_table(pa.table(arrays, names=list(example.table.given)), path)


def _parquet_column(cells: Sequence[str | None]) -> pa.Array:
    """Integers as such, all else as texts."""
    texts = pa.array(cells, pa.string())
    is_whole = all(cell is None or re.fullmatch(r"[1-9]\d{0,17}|0", cell) for cell in cells)
    return texts.cast(pa.int64()) if is_whole else texts


@contextlib.contextmanager
def in_pieces_of(rows: int) -> Iterator[None]:
    """Have the writers take no more than so many rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        for writer in WRITERS:
            patch.setattr(writer, "piece_rows", rows)
        yield


@contextlib.contextmanager
def engines_kept() -> Iterator[None]:
    """Have etl make one engine for each database, and keep the SQL that it has compiled: half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(etl.database.engine, "database_engine", _engine)
        yield


@functools.cache
def _engine(database: Database, *, read_only: bool) -> Engine:
    engine = database_engine(database, read_only=read_only)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _without_waiting_for_the_disk)
    return engine


def _without_waiting_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


# Comparing


def require_equal_methods(laboratory: Laboratory, example: Example, folder: Path) -> None:
    reference, *others = (load_by(laboratory, example, method, folder) for method in laboratory.methods)
    for method, loaded in zip(laboratory.methods[1:], others, strict=True):
        told = _judged(laboratory, example, reference, loaded)
        differences = list(_differences(reference, replace(loaded, verdicts=told)))
        assert not differences, "\n".join([f"{method} differs from row:", *differences])


def _differences(reference: Loaded, loaded: Loaded) -> Iterator[str]:
    for name in ("ended", "read", "written", "updated", "unchanged", "refused"):
        if getattr(reference, name) != getattr(loaded, name):
            yield f"{name}: {getattr(reference, name)} by row, {getattr(loaded, name)}"
    for before, after in zip(reference.tables, loaded.tables, strict=True):
        if before != after:
            yield f"rows: {before} by row,\n      {after}"
    for place in sorted(reference.verdicts.keys() | loaded.verdicts.keys()):
        expected, found = reference.verdicts.get(place), loaded.verdicts.get(place)
        if expected != found:
            yield f"record {place}: {expected} by row, {found}"


def _judged(laboratory: Laboratory, example: Example, reference: Loaded, loaded: Loaded) -> dict[Place, Verdict]:
    """The verdicts, those of the reference where another broken constraint of the record is named as truly."""
    told = dict(loaded.verdicts)
    for place in reference.verdicts.keys() | told.keys():
        expected, found = reference.verdicts.get(place), told.get(place)
        if expected == found or not {verdict.phase for verdict in (expected, found) if verdict} <= {
            "write",
            "duplicate",
        }:
            continue
        if _names_another(laboratory, example, reference, place, expected, found):
            told.pop(place, None)
            told |= {place: expected} if expected else {}
    return told


def _names_another(
    laboratory: Laboratory,
    example: Example,
    reference: Loaded,
    place: Place,
    expected: Verdict | None,
    found: Verdict | None,
) -> bool:
    """Whether both are right. A duplicate that is not recorded is found out by its absence."""
    if example.record_duplicates and (expected is None or found is None):
        return False
    if example.load.get("on_duplicate") == "update":  # a plain INSERT does not show what an update breaks
        return expected is not None and found is not None
    before, cells = _in_order(example, reference, place)
    return all(verdict is None or laboratory.breaks(example, before, cells, verdict) for verdict in (expected, found))


def _in_order(example: Example, reference: Loaded, place: Place) -> tuple[list[Cells], Cells]:
    """The records that reached the database before the one at ``place``, and that one's cells."""
    cut = len(example.records) if example.second is None else example.second
    before: list[Cells] = []
    for name, records in (("0", example.records[:cut]), ("1", example.records[cut:])):
        path = f"{name}.{example.format}"
        for number, cells in enumerate((record for record in records if record != b"\n"), start=1):
            if (path, number) == place:
                assert not isinstance(cells, bytes)
                return before, cells
            told = reference.verdicts.get((path, number))
            if not isinstance(cells, bytes) and (told is None or told.phase in ("write", "duplicate")):
                before.append(cells)
    raise AssertionError(f"there is no record at {place}")
