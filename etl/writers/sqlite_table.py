"""A SQLite table as its driver sees it: the INSERTs for it, its only unique key, and the rows that repeat a key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from sqlalchemy.sql.compiler import IdentifierPreparer

from etl.database import Target
from etl.writers.upsert import NO_TALLY, OLD, Tally
from etl.writers.values import FlatRows
from etl.writers.windows import most_of, window_of

ASKED_AT_ONCE = 200  # values of keys in one SELECT

PlacedError = tuple[int, sqlite3.Error]
_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SqliteTable:
    """The target's table on the driver's own connection, inside the open transaction.

    ``ending`` is what each INSERT ends with, and ``tally`` counts the updates that it makes.
    """

    connection: sqlite3.Connection
    target: Target
    quoter: IdentifierPreparer
    ending: str = ""
    tally: Tally = NO_TALLY

    def insert_statement(self, names: Sequence[str], rows: int, ending: str = "") -> str:
        """An INSERT of ``rows`` rows at once."""
        columns = ", ".join(map(self.quoter.quote_identifier, names))
        row = f"({', '.join('?' * len(names))})"
        table = self.quoter.format_table(self.target.table)
        return f"INSERT INTO {table} AS {OLD} ({columns}) VALUES {', '.join([row] * rows)} {ending}".rstrip()

    def only_key(self) -> tuple[str, ...]:
        """The columns of the one unique key that the table has; nothing where it has none, or more than one.

        Nothing also where equal columns need be no conflict, or others may be one: an index of a part of the rows, of
        an expression, or by a collation.
        """
        indexes = self.connection.execute(
            'SELECT name, origin, partial FROM pragma_index_list(?) WHERE "unique"', (self.target.table.name,)
        ).fetchall()
        keys = [() if partial else self._plain_columns(name) for name, _, partial in indexes]
        if self.target.primary_key and all(origin != "pk" for _, origin, _ in indexes):
            keys.append(self.target.primary_key)  # INTEGER PRIMARY KEY: the rowid, which has no index
        return keys[0] if len(keys) == 1 else ()

    def _plain_columns(self, index: str) -> tuple[str, ...]:
        members = self.connection.execute(
            "SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (index,)
        ).fetchall()
        is_plain = all(name is not None and collation == "BINARY" for name, collation in members)
        return tuple(name for name, _ in members) if is_plain else ()

    def known(self, names: Sequence[str], keys: Sequence[_Key]) -> Iterator[int]:
        """The places of those ``keys`` that a row of the table has, by the table's own equality.

        Where they are whole numbers, the table's own from where they mostly lie are read in one look along the index.
        """
        near = self._near(names[0], [key[0] for key in keys]) if len(names) == 1 and keys else None
        places, asked = ([], range(len(keys))) if near is None else near
        yield from places
        size = max(1, ASKED_AT_ONCE // len(names))
        for start in range(0, len(asked), size):
            some = asked[start : start + size]
            question = self._question(names, len(some))
            found = self.connection.execute(question, list(chain.from_iterable(keys[place] for place in some)))
            yield from (some[at] for (at,) in found)

    def _near(self, name: str, numbers: Sequence[Any]) -> tuple[list[int], Sequence[int]] | None:
        """The places of the numbers that were read, and those still to be asked about; None where that is no help."""
        if any(type(number) is not int for number in numbers):
            return None
        low, high = window_of(np.array(numbers, dtype=np.int64))
        column, table = self.quoter.quote_identifier(name), self.quoter.format_table(self.target.table)
        most = most_of(len(numbers))
        between = f"SELECT {column} FROM {table} WHERE {column} BETWEEN ? AND ? LIMIT ?"
        held = {number for (number,) in self.connection.execute(between, (low, high, most))}
        if len(held) == most:
            return None
        elsewhere = [place for place, number in enumerate(numbers) if not low <= number <= high]
        return [place for place, number in enumerate(numbers) if number in held], elsewhere

    def _question(self, names: Sequence[str], count: int) -> str:
        marks = ", ".join("?" * len(names))
        asked = ", ".join(f"({number}, {marks})" for number in range(count))
        columns = enumerate(map(self.quoter.quote_identifier, names), start=2)
        equal = " AND ".join(f"t.{column} = k.column{at}" for at, column in columns)
        table = self.quoter.format_table(self.target.table)
        return f"SELECT k.column1 FROM (VALUES {asked}) AS k WHERE EXISTS (SELECT 1 FROM {table} AS t WHERE {equal})"


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows whose key is in the table, or in an earlier row of the piece, its holder; both in file order."""

    places: list[int]
    holders: frozenset[int]


def repeats_in(rows: FlatRows, table: SqliteTable) -> Repeats:
    """The rows that repeat a key; none where the table has not just one, or the rows do not give it."""
    names = table.only_key()
    if not names or not set(names) <= set(rows.names):
        return Repeats([], frozenset())
    keys = list(zip(*rows.columns(names), strict=True))
    known = set(table.known(names, keys))
    first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
    holders = {
        place: holder
        for place, holder in enumerate(map(first.__getitem__, keys))
        # NULL is equal to nothing, and may be in a key as often as it likes.
        if place != holder and place not in known and None not in keys[place]
    }
    return Repeats(sorted(known.union(holders)), frozenset(holders.values()))
