"""Asking the database, before a piece is sent, which of its rows a constraint under suspicion will refuse.

A constraint comes under suspicion when it has refused a row, and is let go when it finds nothing any more. A screen
saves COPY from failing, and the table from dead tuples; what it says is taken for a verdict in one case only: a key
that is there already, by the database's own equality. All other suspects are tried, and their refusal is the verdict.

Each value is asked about once in a piece, however many rows hold it. Keys that are whole numbers mostly lie close
together in a piece: then the table's own keys from among them are read, in one look along the index, and only what lies
elsewhere is asked about: in the same question, where these are few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import Cursor, sql
from sqlalchemy.orm import Session

from etl.database import CatalogEntry, Check, Fate, Fault, ParentKey, Target, UniqueKey, fault_of
from etl.database.copying import copy_in, cursor_of, emptied, quoted
from etl.records import Cause, Reason, Refused
from etl.writers.windows import most_of, window_of

PATIENCE = 8  # pieces without a find, after which a constraint is no longer screened

Screenable = UniqueKey | Check | ParentKey
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

NO_KEY = -1
FEW = 1_000  # keys that are asked about in the question itself


@dataclass(frozen=True, slots=True)
class Keyed:
    """The rows of a piece by their key: rows of one class have the same; ``NO_KEY`` where a NULL is in it."""

    constraint: str
    classes: Places


@dataclass(frozen=True, slots=True)
class Screened:
    """What is to be expected of the rows of a piece.

    ``there``: the key is in the table, no row twice. ``suspects``: others, which a CHECK, NOT NULL or foreign key will
    refuse. ``keyed``: which rows have the same key, for each unique key that was asked about.
    """

    there: tuple[Refused, ...]
    suspects: Mask
    keyed: tuple[Keyed, ...]

    def are_there(self) -> Mask:
        return marked(len(self.suspects), self.there)

    def repeats(self) -> tuple[Refused, ...]:
        """The rows whose key an earlier row of the piece holds, if all that is not refused or repeated is written.

        In order, since a row that is refused for one key holds none of its others: a later one may have them.
        """
        is_out = self.suspects | self.are_there()
        held: list[set[int]] = [set() for _ in self.keyed]
        found: list[list[int]] = [[] for _ in self.keyed]
        for place, *classes in self._rows_that_share_a_key(is_out):
            refusing = next((n for n, class_ in enumerate(classes) if class_ != NO_KEY and class_ in held[n]), None)
            if refusing is not None:
                found[refusing].append(place)
                continue
            for holders, class_ in zip(held, classes, strict=True):
                holders.add(class_)
        return tuple(
            Refused(np.array(places, dtype=np.int64), duplicate(key.constraint))
            for key, places in zip(self.keyed, found, strict=True)
            if places
        )

    def _rows_that_share_a_key(self, is_out: Mask) -> list[tuple[int, ...]]:
        """The place and the classes of each row that is not out and has a key in common with another such row."""
        sharing = np.zeros(len(is_out), dtype=np.bool_)
        for key in self.keyed:
            counted = (key.classes != NO_KEY) & ~is_out
            sizes = np.bincount(key.classes[counted], minlength=1)
            sharing[counted] |= sizes[key.classes[counted]] > 1
        places = np.flatnonzero(sharing)
        return list(zip(places.tolist(), *(key.classes[places].tolist() for key in self.keyed), strict=True))


def marked(rows: int, groups: Sequence[Refused]) -> Mask:
    """A mask of the refused among so many rows."""
    mask = np.zeros(rows, dtype=np.bool_)
    for group in groups:
        mask[group.places] = True
    return mask


def duplicate(constraint: str) -> Cause:
    """Why a row is refused whose key is held by another one, in PostgreSQL's words."""
    message = f'duplicate key value violates unique constraint "{constraint}"'
    return Cause(Reason.UNIQUE, message, "23505", constraint)


@dataclass(frozen=True, slots=True)
class Distinct:
    """The distinct values among some columns of a piece: ``codes`` has the value of each row, ``firsts`` of each
    value the first row with it.

    Values are told apart by their bits. So two that are the same here are the same to the database, but not the
    reverse; and floats are not told apart at all, since 0.0 and -0.0 are one value to Arrow.
    """

    codes: Places
    firsts: Places

    @classmethod
    def of(cls, columns: Sequence[pa.Array]) -> Self:
        rows = len(columns[0])
        if len(columns) == 1 and pa.types.is_integer(columns[0].type) and not columns[0].null_count:
            return cls._of_numbers(columns[0].to_numpy())
        if any(pa.types.is_floating(column.type) for column in columns):
            return cls(np.arange(rows), np.arange(rows))
        codes, *others = map(_codes, columns)
        for more in others:
            codes = _codes(pa.array(codes * (int(more.max(initial=0)) + 1) + more))
        firsts = np.empty(int(codes.max(initial=-1)) + 1, dtype=np.int64)
        firsts[codes[::-1]] = np.arange(rows - 1, -1, -1)  # what is assigned last stays: the first row
        return cls(codes, firsts)

    @classmethod
    def _of_numbers(cls, numbers: Places) -> Self:
        """By sorting, with the sort that takes next to no time where they are in order: keys mostly are."""
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        is_first = np.concatenate(([True], ordered[1:] != ordered[:-1]))
        codes = np.empty(len(numbers), dtype=np.int64)
        codes[order] = np.cumsum(is_first) - 1
        return cls(codes, order[is_first])


def _codes(column: pa.Array) -> Places:
    """For each cell the number of its value, from 0, in the order in which they come; NULL is a value here."""
    codes: Places = column.dictionary_encode(null_encoding="encode").indices.to_numpy().astype(np.int64)
    return codes


@dataclass
class Screen:
    """Screens pieces of ``target`` for the constraints that were seen to fail.

    Where rows are updated, a row whose key is there may be refused all the same, and is a suspect then.
    """

    target: Target
    catalog: CatalogEntry
    is_updating: bool = False
    _idle: dict[str, int] = field(default_factory=dict)  # by constraint under suspicion: pieces since its last find
    _silent: set[str] = field(default_factory=set)  # constraints that could not be asked about
    _scattered: dict[str, int] = field(default_factory=dict)  # by key: pieces for which the table's are not read

    def suspect(self, fault: Fault, columns: Sequence[str]) -> bool:
        """Ask from now on about the constraint that has failed for rows with ``columns``.

        False where that is no help: it is asked about already, or cannot be.
        """
        known = next((one for one in self.catalog.screenable if one.name == fault.constraint), None)
        if known is None or known.name in self._idle or known.name in self._silent:
            return False
        if not set(known.columns) <= set(columns):
            return False
        self._idle[known.name] = 0
        return True

    def watch(self, constraint: str) -> None:
        """Ask about a constraint that has not failed yet."""
        self._idle[constraint] = 0

    def screen(self, session: Session, rows: pa.RecordBatch) -> Screened:
        """What is to be expected of ``rows``: NULLs where none may be, and what the suspected constraints say."""
        suspects = self._nulls(rows)
        is_there = np.zeros(rows.num_rows, dtype=np.bool_)
        there: list[Refused] = []
        keyed: list[Keyed] = []
        for known in self._under_suspicion(rows.schema.names):
            answer = self._asked(session, rows, known)
            if isinstance(answer, KeyAnswer):
                places = np.flatnonzero(answer.is_there & ~is_there)
                there += [Refused(places, duplicate(known.name))] if len(places) else []
                is_there |= answer.is_there
                keyed.append(Keyed(known.name, answer.classes))
            elif answer is not None:
                suspects |= answer
        if self.is_updating:
            there = [Refused(group.places[~suspects[group.places]], group.cause) for group in there]
            return Screened(tuple(there), suspects, tuple(keyed))
        return Screened(tuple(there), suspects & ~is_there, tuple(keyed))

    def _under_suspicion(self, columns: Sequence[str]) -> list[Screenable]:
        return [
            known
            for known in self.catalog.screenable
            if known.name in self._idle and set(known.columns) <= set(columns)
        ]

    def _nulls(self, rows: pa.RecordBatch) -> Mask:
        """NULLs where the catalog says NOT NULL need no question."""
        found = np.zeros(rows.num_rows, dtype=np.bool_)
        for name in self.catalog.required & set(rows.schema.names):
            values = rows.column(name)
            if values.null_count:
                found |= values.is_null().to_numpy(zero_copy_only=False)
        return found

    def _asked(self, session: Session, rows: pa.RecordBatch, known: Screenable) -> KeyAnswer | Mask | None:
        """The answer about one constraint; None where asking failed, which says nothing about the rows.

        A CHECK may divide by zero, collations may not be comparable: then it is not asked about any more. Nor is it
        by the next attempt, where a limit on time has ended the question.
        """
        try:
            with session.begin_nested():
                answer = self._answer(_Question(cursor_of(session), self.target, self.catalog, rows, known), known)
        except psycopg.Error as error:
            del self._idle[known.name]
            self._silent.add(known.name)
            if fault_of(error).fate is Fate.RETRY:
                raise
            return None
        self._idle[known.name] = 0 if answer.any() else self._idle[known.name] + 1
        if self._idle[known.name] >= PATIENCE:
            del self._idle[known.name]
        return answer

    def _answer(self, question: _Question, known: Screenable) -> KeyAnswer | Mask:
        """Where the table has too many keys among those of a piece, they are not read for some pieces."""
        waiting = self._scattered.get(known.name, 0)
        answer = question.answer(may_read=not waiting)
        if isinstance(answer, KeyAnswer):
            self._scattered[known.name] = waiting - 1 if waiting else 0 if answer.was_read else PATIENCE
        return answer


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """Which rows have a key that is in the table, and the class of each row by its key.

    ``was_read``: the table's keys were read, so that not all of the rows had to be asked about.
    """

    is_there: Mask
    classes: Places
    was_read: bool

    def any(self) -> bool:
        """Whether anything was found: a key that is there, or two rows with the same one."""
        held = self.classes[self.classes != NO_KEY]
        return bool(self.is_there.any()) or bool((np.bincount(held, minlength=1) > 1).any())


class _Question:
    """One constraint, asked about the distinct values that a piece holds in its columns."""

    def __init__(
        self, cursor: Cursor[Any], target: Target, catalog: CatalogEntry, rows: pa.RecordBatch, known: Screenable
    ) -> None:
        self._cursor = cursor
        self._target = target
        self._catalog = catalog
        self._known = known
        columns = [rows.column(name) for name in known.columns]
        self._distinct = Distinct.of(columns)
        firsts = pa.array(self._distinct.firsts)
        self._values = pa.RecordBatch.from_arrays([column.take(firsts) for column in columns], list(known.columns))

    def answer(self, *, may_read: bool) -> KeyAnswer | Mask:
        """For a unique key its holders and its classes; for another constraint which rows it will refuse.

        ``may_read`` says that keys may be read from the table, should they lie close together.
        """
        known = self._known
        if isinstance(known, UniqueKey):
            return self._key_answer(known, may_read)
        stage = self._staged(np.arange(self._values.num_rows))
        found = self._codes_found(_broken_check(stage, known) if isinstance(known, Check) else _orphans(stage, known))
        return self._rows_with(found)

    def _key_answer(self, key: UniqueKey, may_read: bool) -> KeyAnswer:
        given = np.ones(self._values.num_rows, dtype=np.bool_)
        for column in self._values.columns:
            given &= column.is_valid().to_numpy(zero_copy_only=False)
        is_loose = not self._catalog.loose.isdisjoint(key.columns)
        near = self._near(key, given) if may_read and not is_loose else None
        there, asked = (np.zeros(len(given), dtype=np.bool_), given) if near is None else near
        classes = np.where(given, np.arange(len(given)), NO_KEY)
        if asked.any():
            stage = self._staged(np.flatnonzero(asked))
            there |= self._codes_found(_there(stage, quoted(self._target.table), key))
            for code, first in self._cursor.execute(_equal(stage, key)) if is_loose else ():
                classes[code] = first
        return KeyAnswer(self._rows_with(there), classes[self._distinct.codes], near is not None)

    def _near(self, key: UniqueKey, given: Mask) -> tuple[Mask, Mask] | None:
        """Which values are in the table, and which are still to be asked about; None where the table has too many.

        By the first column of the key: where it is the only one, a number that was read is a key that is there.
        """
        column = self._values.column(0)
        if not pa.types.is_integer(column.type) or not given.any():
            return None
        numbers = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
        low, high = window_of(numbers[given])
        is_elsewhere = given & ((numbers < low) | (numbers > high))
        is_whole = len(key.columns) == 1
        strays = numbers[is_elsewhere] if is_whole and is_elsewhere.sum() <= FEW else numbers[:0]
        most = most_of(len(numbers))
        near, straying = self._read_keys(key, (low, high), most, strays)
        if len(near) == most:
            return None
        is_held = given & _are_among(numbers, np.concatenate([near, straying]))
        if is_whole:
            return is_held, is_elsewhere if not len(strays) else np.zeros_like(given)
        return np.zeros_like(given), is_held | is_elsewhere

    def _read_keys(self, key: UniqueKey, window: tuple[int, int], most: int, strays: Places) -> tuple[Places, Places]:
        """The table's values of the key's first column in ``window``, ``most`` at the most, and those among
        ``strays``.

        Along the index, whatever the planner believes of a table that has never been analyzed; the rollback gives it
        back its freedom.
        """
        query = _held(quoted(self._target.table), key, window, most, strays)
        self._cursor.execute(_ALONG_THE_INDEX)
        row = self._cursor.execute(query, binary=True).fetchone()
        self._cursor.execute("ROLLBACK TO etl_near; RELEASE etl_near")
        assert row is not None
        near, straying = (np.frombuffer(value or b"", ">i8").astype(np.int64) for value in row)
        return near, straying

    def _codes_found(self, query: sql.Composed) -> Mask:
        found = np.zeros(self._values.num_rows, dtype=np.bool_)
        found[[code for (code,) in self._cursor.execute(query)]] = True
        return found

    def _rows_with(self, codes: Mask) -> Mask:
        mask: Mask = codes[self._distinct.codes]
        return mask

    def _staged(self, codes: Places) -> sql.Identifier:
        """Those values in a temporary table, with their own types and collations: these say what is equal."""
        names = self._values.schema.names
        digest = hashlib.sha256(repr((self._catalog.oid, *names)).encode()).hexdigest()[:16]
        stage = sql.Identifier("pg_temp", f"etl_screen_{digest}")
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        if not emptied(self._cursor, stage):
            made = "CREATE TEMP TABLE {} AS SELECT 0 AS etl_code, {} FROM {} WITH NO DATA"
            self._cursor.execute(sql.SQL(made).format(stage, columns, quoted(self._target.table)))
        chosen = self._values if len(codes) == self._values.num_rows else self._values.take(pa.array(codes))
        staged = pa.RecordBatch.from_arrays(
            [pa.array(codes.astype(np.int32)), *chosen.columns], names=["etl_code", *names]
        )
        copy_in(self._cursor, stage, staged, ["integer", *(self._catalog.types[name] for name in names)])
        return stage


def _are_among(numbers: Places, keys: Places) -> Mask:
    """As ``np.isin``, which sorts both together; numbers that are in order are found in a tenth of its time."""
    if not len(keys):
        return np.zeros(len(numbers), dtype=np.bool_)
    ordered = np.sort(keys)
    nearest = ordered[np.minimum(np.searchsorted(ordered, numbers), len(ordered) - 1)]
    is_among: Mask = nearest == numbers
    return is_among


def _there(stage: sql.Identifier, target: sql.Identifier, key: UniqueKey) -> sql.Composed:
    """ONLY: a unique index knows nothing of the tables that inherit from its own."""
    there = _matching(sql.SQL("ONLY {}").format(target), key.columns, key.columns)
    return sql.SQL("SELECT s.etl_code FROM {} s, LATERAL ({}) there").format(stage, there)


_ALONG_THE_INDEX = (
    "SAVEPOINT etl_near; SET LOCAL enable_seqscan TO off; SET LOCAL enable_bitmapscan TO off"  # one message
)


def _held(target: sql.Identifier, key: UniqueKey, window: tuple[int, int], most: int, strays: Places) -> sql.Composed:
    """Each list of keys as one value, of eight bytes for each key: a row for each would take ten times as long to
    receive."""
    return sql.SQL(
        "SELECT (SELECT string_agg(int8send(key), '') FROM"
        " (SELECT {0}::bigint AS key FROM ONLY {1} WHERE {0} BETWEEN {2} AND {3} LIMIT {4}) near),"
        " (SELECT string_agg(int8send({0}::bigint), '') FROM ONLY {1} WHERE {0} = ANY ({5}::bigint[]))"
    ).format(sql.Identifier(key.columns[0]), target, *window, most, sql.Literal(strays.tolist()))


def _equal(stage: sql.Identifier, key: UniqueKey) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, key.columns))
    return sql.SQL("SELECT etl_code, min(etl_code) OVER (PARTITION BY {}) FROM {}").format(columns, stage)


def _broken_check(stage: sql.Identifier, check: Check) -> sql.Composed:
    return sql.SQL("SELECT etl_code FROM {} WHERE NOT ({})").format(stage, sql.SQL(check.expression))


def _orphans(stage: sql.Identifier, key: ParentKey) -> sql.Composed:
    given = sql.SQL(" AND ").join(sql.SQL("s.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns)
    parent = _matching(sql.Identifier(key.parent_schema, key.parent), key.parent_columns, key.columns)
    return sql.SQL("SELECT s.etl_code FROM {} s LEFT JOIN LATERAL ({}) p ON true WHERE {} AND p.found IS NULL").format(
        stage, parent, given
    )


def _matching(table: sql.Composable, columns: Sequence[str], staged: Sequence[str]) -> sql.Composed:
    """One row of ``table`` with the staged values.

    LIMIT 1 keeps the planner at the index: it knows nothing of a temporary table's size, and would read all of the
    target for it.
    """
    equal = sql.SQL(" AND ").join(
        sql.SQL("t.{} = s.{}").format(sql.Identifier(column), sql.Identifier(name))
        for column, name in zip(columns, staged, strict=True)
    )
    return sql.SQL("SELECT 1 AS found FROM {} t WHERE {} LIMIT 1").format(table, equal)
