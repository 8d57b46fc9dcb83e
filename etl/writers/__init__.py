"""Putting rows into the target, and saying what became of each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from sqlalchemy.orm import Session

from etl.config import Method
from etl.database import SKIPPED, CatalogEntry, Duplicates, Target
from etl.errors import ConfigError
from etl.records import Encoded, Outcome
from etl.writers.bulk import HalvingBulkWriter, SqliteBulkWriter
from etl.writers.keyed import KeyedWriter
from etl.writers.row import CoreRowWriter, MergingRowWriter, RowWriter, UpdatingRowWriter

__all__ = ["Choice", "Writer", "choose_writer"]


class Writer(Protocol):
    """Writes rows in file order inside the session's transaction. It never commits, and never rolls back but to a
    savepoint of its own."""

    @property
    def method(self) -> str: ...

    @property
    def piece_rows(self) -> int:
        """The most rows that it is to be given at once."""

    def encode(self, rows: pa.RecordBatch) -> Encoded | None:
        """What can be done for ``rows`` without the database, so on any thread; None where there is nothing."""

    def write(self, session: Session, rows: pa.RecordBatch, encoded: Encoded | None = None) -> Outcome:
        """Say what became of ``rows``. ``encoded`` is what ``encode`` has made of them, if it was asked before."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A writer, and why it is the right one."""

    writer: Writer
    reason: str


def choose_writer(
    target: Target, method: Method, given: Collection[str] | None = None, duplicates: Duplicates = SKIPPED
) -> Choice:
    """The writer for ``target``: the fastest that is exact where ``method`` is ``auto``.

    ``given`` are the columns that every source gives (None: all), for the reason. Where the method that is asked for
    would not be exact another one is taken, and the reason says so. Raises ConfigError for COPY into SQLite.
    """
    choice = _choice(target, method, given, duplicates)
    return Choice(KeyedWriter(choice.writer, duplicates), choice.reason) if duplicates.key else choice


def _choice(target: Target, method: Method, given: Collection[str] | None, duplicates: Duplicates) -> Choice:
    if target.children:
        from etl.writers.graph import GraphWriter  # only for nested records

        return Choice(GraphWriter(target, duplicates), _why_graphs(target))
    if method == "row":
        return Choice(_row_writer(target, duplicates), "the method is given")
    if target.is_users_model:
        reason = "the validators, defaults and events of the mapped class run for each row"
        return Choice(_row_writer(target, duplicates), reason)
    if method == "bulk":
        return Choice(_bulk_writer(target, duplicates), "the method is given")
    if target.catalog is not None:
        return _copy_choice(target, target.catalog, given, duplicates)
    if method == "copy":
        problem = f'Method "copy" is for PostgreSQL, and {target.name} is in a SQLite database.'
        raise ConfigError(problem, 'Use "auto" or "bulk".')
    if target.triggers:
        reason = f"a piece that fails is settled by halves: triggers ({', '.join(target.triggers)})"
        return Choice(_bulk_writer(target, duplicates), reason)
    return Choice(_bulk_writer(target, duplicates), "many rows under one savepoint, settled when one is refused")


def _why_graphs(target: Target) -> str:
    return f"a record and its children ({', '.join(child.name for child in target.children)}) share one savepoint"


def _copy_choice(
    target: Target, catalog: CatalogEntry, given: Collection[str] | None, duplicates: Duplicates
) -> Choice:
    # Imported here: the driver of PostgreSQL and the encoder take 0.1 s, which a load into SQLite has no use for.
    from etl.writers.copy import CopyWriter
    from etl.writers.screening import Screen
    from etl.writers.settling import ServerSettler
    from etl.writers.updating import Updater, for_updates

    updater = None
    if duplicates.is_updating:
        names = [column.name for column in target.columns] if given is None else list(given)
        catalog = for_updates(catalog, duplicates, names)
        updater = Updater(target, catalog, duplicates)
    screen = Screen(target, catalog, is_updating=duplicates.is_updating)
    for known in catalog.screenable[:1] if updater else ():  # the key, if it can be asked about
        screen.watch(known.name)
    settler = ServerSettler(target, catalog, duplicates)
    unjudged = sorted(catalog.unjudged.difference(catalog.unjudged if given is None else given))
    judged = [f"an INSERT judges the NULL in {name} by its domain, and COPY does not" for name in unjudged]
    writer = CopyWriter(target, catalog, settler, screen, updater)
    if obstacles := [*catalog.obstacles, *judged]:
        return Choice(writer, f"each piece is settled on the server, because {'; '.join(obstacles)}")
    updates = f", an UPDATE of those whose {duplicates.key.name} is there" if updater and duplicates.key else ""
    return Choice(writer, f"COPY in a savepoint{updates}, settled on the server when something is refused")


def _row_writer(target: Target, duplicates: Duplicates) -> Writer:
    if duplicates.is_updating:
        writer = MergingRowWriter if target.is_users_model else UpdatingRowWriter
        return writer(target, duplicates)
    is_alone = not target.triggers and (target.catalog is None or target.catalog.may_return)
    return RowWriter(target) if target.is_users_model or (target.entity and is_alone) else CoreRowWriter(target)


def _bulk_writer(target: Target, duplicates: Duplicates) -> Writer:
    is_plain = not (target.triggers or target.is_view)
    if target.dialect == "sqlite" and is_plain:
        return SqliteBulkWriter(target, duplicates)
    return HalvingBulkWriter(target, duplicates)
