"""The table that is loaded, on a PostgreSQL server and in an SQLite file: made anew, filled, and looked at."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg

from bench.servers import Server

TABLE = "bench_rows"
PARENTS = "bench_products"
PARENT_ROWS = 10_000  # as many as bench/data.py refers to

COLUMNS = """id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(40) NOT NULL, city TEXT NOT NULL, note TEXT,
    amount NUMERIC(12, 2) NOT NULL, {sixth}, created_at TIMESTAMP NOT NULL, day DATE NOT NULL"""
PLAIN = COLUMNS.format(sixth="quantity INTEGER NOT NULL CHECK (quantity > 0)")
CHILD = COLUMNS.format(sixth=f"product_id INTEGER NOT NULL REFERENCES {PARENTS} (id)")
STATE = "SELECT count(*), CAST(coalesce(sum(round(amount * 100)), 0) AS BIGINT) FROM {table}"


@dataclass(frozen=True, slots=True)
class State:
    """What is in a table: its rows and the sum of their amounts, in cents, which says which rows they are."""

    rows: int
    cents: int

    def __str__(self) -> str:
        return f"{self.rows:,} rows with amounts of {self.cents / 100:,.2f}"


class Target(Protocol):
    """A database with the table in it."""

    @property
    def url(self) -> str:
        """As etl wants it."""

    def prepare(self, there: Path | None = None) -> None:
        """Make the table anew, with the rows of a CSV file in it, and forget what etl knows of earlier runs."""

    def state(self) -> State:
        """What is in the table now."""

    def dead_rows(self) -> int | None:
        """How many dead rows the table holds; None where the database keeps none."""


class PostgresTable:
    """The table on a server. Autovacuum leaves it alone: it could hide dead rows, and would disturb the figures."""

    def __init__(self, server: Server, *, with_parents: bool = False) -> None:
        self._server, self._with_parents = server, with_parents

    @property
    def url(self) -> str:
        return self._server.url

    def prepare(self, there: Path | None = None) -> None:
        self._server.execute(
            f"DROP TABLE IF EXISTS {TABLE}, {PARENTS}", "DROP SCHEMA IF EXISTS etl CASCADE", *self._definitions()
        )
        if there:
            self._fill(there)
        self.settle_down()

    def settle_down(self) -> None:
        """Leave the server as it is some time after a load: statistics made, nothing to write out."""
        self._server.execute(f"VACUUM (ANALYZE) {TABLE}", "CHECKPOINT")

    def state(self) -> State:
        return State(*self._server.row(STATE.format(table=TABLE)))

    def dead_rows(self) -> int:
        """Counted where the extension pgstattuple is to be had, else what the statistics say."""
        try:
            self._server.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
        except psycopg.Error:
            query = f"SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = '{TABLE}'"
        else:
            query = f"SELECT dead_tuple_count FROM pgstattuple('{TABLE}')"
        return int(self._server.row(query)[0])

    def _definitions(self) -> list[str]:
        storage = "WITH (autovacuum_enabled = off)"
        if not self._with_parents:
            return [f"CREATE TABLE {TABLE} ({PLAIN}) {storage}"]
        return [
            f"CREATE TABLE {PARENTS} (id INTEGER NOT NULL PRIMARY KEY, title TEXT NOT NULL) {storage}",
            f"INSERT INTO {PARENTS} SELECT i, 'Product ' || i FROM generate_series(1, {PARENT_ROWS}) AS i",
            f"VACUUM (ANALYZE) {PARENTS}",
            f"CREATE TABLE {TABLE} ({CHILD}) {storage}",
        ]

    def _fill(self, there: Path) -> None:
        with psycopg.connect(self.url) as connection, there.open("rb") as file:
            copy = connection.cursor().copy(f"COPY {TABLE} FROM STDIN WITH (FORMAT csv, HEADER)".encode())
            with copy as sink:
                shutil.copyfileobj(file, sink, 1 << 18)


class SqliteTable:
    """The table in a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def prepare(self, there: Path | None = None) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(f"CREATE TABLE {TABLE} ({PLAIN})")
            if there:
                self._fill(connection, there)
        connection.close()

    def state(self) -> State:
        connection = sqlite3.connect(self.path)
        try:
            return State(*connection.execute(STATE.format(table=TABLE)).fetchone())
        finally:
            connection.close()

    def dead_rows(self) -> None:
        """SQLite keeps none."""

    def _fill(self, connection: sqlite3.Connection, there: Path) -> None:
        with there.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            marks = ", ".join("?" * len(next(rows)))
            values = ([value or None for value in row] for row in rows)
            connection.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", values)
