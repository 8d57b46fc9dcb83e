"""What tests do with a database beside etl: run SQL, look from a second connection, and call one writer alone."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import Connection, make_url
from sqlalchemy.orm import Session

from etl.config import Database, Job, Load, Method
from etl.database import Target, connected, find_targets, session_factory
from etl.mapping import plan_mapping
from etl.records import Position, RecordBatch, Refusal
from etl.writers import Writer, choose_writer

METHODS: tuple[Method, ...] = ("row", "bulk", "copy")  # the first is the reference

Row = Mapping[str, object]


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


@contextlib.contextmanager
def plain_connection(url: str) -> Iterator[Any]:
    """A connection by the driver alone, in autocommit mode; SQLite's checks no foreign keys."""
    if is_sqlite(url):
        connection: Any = sqlite3.connect(make_url(url).database or "", isolation_level=None, timeout=10)
        connection.execute("PRAGMA synchronous = OFF")  # nothing here has to survive a crash of the machine
    else:
        connection = psycopg.connect(url, autocommit=True)
    with contextlib.closing(connection):
        yield connection


def run_sql(url: str, *statements: str) -> None:
    """Run statements, each committed by itself."""
    with plain_connection(url) as connection:
        for statement in statements:
            connection.execute(statement)


def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, seen by a connection of its own: committed ones only."""
    with plain_connection(url) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return rows


def ledger(url: str) -> str:
    """What stands before the name of a ledger table: PostgreSQL has it in a schema of its own."""
    return "" if is_sqlite(url) else "etl."


def has_table(url: str, name: str) -> bool:
    if is_sqlite(url):
        return bool(fetch(url, f"SELECT 1 FROM sqlite_master WHERE name = '{name}'"))
    return bool(fetch(url, f"SELECT 1 FROM pg_class WHERE relname = '{name}'"))


# One writer alone


@dataclass(frozen=True)
class Written:
    """What a writer did: for each row ``written``, or reason and constraint (or column)."""

    verdicts: list[str]
    refusals: dict[int, Refusal]


def job_for(url: str, table: str = "t", folder: Path = Path(), **load: Any) -> Job:
    """A job with one load, not read from a file."""
    what = load if "model" in load else {"table": table} | load
    loads = (Load(source=("-",), name=table, **what),)
    return Job(name="job.toml", folder=folder, database=Database(url=url), loads=loads)


@contextlib.contextmanager
def opened_target(
    url: str, table: str = "t", folder: Path = Path(), **load: Any
) -> Iterator[tuple[Connection, Target]]:
    """The target as etl finds it, and etl's own connection to it."""
    job = job_for(url, table, folder, **load)
    with connected(job.database) as connection:
        target = find_targets(connection, job, job.loads)[table]
        connection.rollback()
        yield connection, target


def mapped_batch(target: Target, rows: Sequence[Row], columns: Sequence[str] | None = None) -> pa.RecordBatch:
    """Rows for a writer: the texts of a source that has ``columns``, mapped; none of them may be a reject."""
    names = list(columns or rows[0])
    texts = [pa.array([_text(row.get(name)) for row in rows], pa.string()) for name in names]
    source = pa.RecordBatch.from_arrays(texts, names=names)
    plan = plan_mapping(source.schema, target.columns, Load(source=("-",), table="t", name="t"))
    records = RecordBatch(source, np.arange(1, len(rows) + 1), None, (), Position(len(rows)), 0)
    converted = [column.convert(records) for column in plan.columns]
    assert not any(column.refused for column in converted), "the mapper refuses what the test gives"
    return pa.RecordBatch.from_arrays([column.values for column in converted], schema=plan.schema)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def write_rows(
    url: str,
    rows: Sequence[Row],
    table: str = "t",
    folder: Path = Path(),
    size: int | None = None,
    methods: Sequence[Method] = METHODS,
    **load: Any,
) -> Written:
    """Write ``rows``, ``size`` at a time (None: all at once), by the writer of each method on the same start.

    They must agree in all that a verdict says and in the rows; what the last of them wrote is committed.
    """
    with opened_target(url, table, folder, **load) as (connection, target):
        names = [target.table.columns[name] for name in rows[0]]
        done: list[tuple[Written, list[str]]] = []
        for method in methods_on(target, methods):
            with session_factory(connection)() as session:
                written = write_batches(session, choose_writer(target, method).writer, target, rows, size)
                table_now = sorted(map(str, session.execute(sa.select(*names))))
                done.append((written, table_now))
                if method == methods_on(target, methods)[-1]:
                    session.commit()
        for written, table_now in done:
            assert (written.verdicts, table_now) == (done[0][0].verdicts, done[0][1]), "the methods differ"
            assert _facts(written) == _facts(done[0][0]), "the methods differ"
    return done[-1][0]


def methods_on(target: Target, methods: Sequence[Method] = METHODS) -> list[Method]:
    """Those of ``methods`` that there are for the target's database."""
    return [method for method in methods if method != "copy" or target.dialect == "postgresql"]


def _facts(written: Written) -> dict[int, tuple[object, ...]]:
    return {
        index: (refusal.verdict, refusal.reason, refusal.sqlstate, refusal.constraint, refusal.column)
        for index, refusal in written.refusals.items()
    }


def write_batches(
    session: Session, writer: Writer, target: Target, rows: Sequence[Row], size: int | None = None
) -> Written:
    """The same in a session that is there already; nothing is committed."""
    refusals: dict[int, Refusal] = {}
    for start in range(0, len(rows), size or len(rows)):
        part = rows[start : start + (size or len(rows))]
        outcome = writer.write(session, mapped_batch(target, part, list(rows[0])))
        assert outcome.rows == len(part)
        for refusal in outcome.refusals:
            assert 0 <= refusal.index < len(part)
            assert start + refusal.index not in refusals, "two verdicts for one row"
            refusals[start + refusal.index] = refusal
    verdicts = [_verdict(refusals[index]) if index in refusals else "written" for index in range(len(rows))]
    return Written(verdicts, refusals)


def _verdict(refusal: Refusal) -> str:
    return f"{refusal.reason} {refusal.constraint or refusal.column or '?'}"
