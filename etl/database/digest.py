"""The rows of a table as two numbers, to see whether two transactions have left the same ones there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table
from sqlalchemy.types import NullType

_ROWS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class RowsDigest:
    """How many rows there are, and the sum of their 64-bit hashes: the same for the same rows in any order."""

    rows: int
    hashes: int


def digest_rows(connection: Connection, table: Table, columns: Sequence[str]) -> RowsDigest:
    """The digest of all rows of ``table``, by the values of ``columns`` as they are stored: 1.0 is not 1.00.

    It reads the whole table, and holds little of it in memory. A sum, unlike XOR, does not lose two equal rows.
    """
    chosen = [table.columns[name] for name in columns]
    if connection.dialect.name == "postgresql":
        return _digest_on_the_server(connection, table, chosen)
    return _digest_of(connection, table, chosen)


def _digest_on_the_server(connection: Connection, table: Table, columns: Sequence[sa.Column[Any]]) -> RowsDigest:
    """A row is hashed as its text, which tells NULL from the empty string. A sum of bigint is numeric: no overflow."""
    row = sa.cast(sa.func.row(*columns), sa.Text).collate("C")
    rows, hashes = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.hashtextextended(row, 0)), 0)).select_from(
            table
        )
    ).one()
    return RowsDigest(rows, int(hashes))


def _digest_of(connection: Connection, table: Table, columns: Sequence[sa.Column[Any]]) -> RowsDigest:
    """SQLite has no hash. Text comes as its bytes, for what others have stored need not be UTF-8."""
    values = [sa.case((sa.func.typeof(column) == "text", sa.cast(column, sa.BLOB)), else_=column) for column in columns]
    as_stored = [sa.type_coerce(value, NullType()).label(f"value_{number}") for number, value in enumerate(values)]
    types = [sa.func.typeof(column) for column in columns]
    query = sa.select(sa.literal(0), *as_stored, *types).select_from(table)
    found = connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
    return _sum_of(tuple(row) for row in found)


def _sum_of(rows: Iterable[tuple[Any, ...]]) -> RowsDigest:
    count = hashes = 0
    for row in rows:
        hashed = hashlib.blake2b(repr(row).encode(), digest_size=8).digest()
        count, hashes = count + 1, hashes + int.from_bytes(hashed)
    return RowsDigest(count, hashes)
