"""The ledger's tables, ``etl_run``, ``etl_file`` and ``etl_reject``, as mapped classes.

The schema name ``ledger`` stands for ``ledger_schema`` of the config (none on SQLite). A change of a table is a new
step in ``migrations/versions``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ForeignKey, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from etl.records import ChildCounts, Counts, Position, summed

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite generates values for INTEGER PRIMARY KEY only


class UtcTime(sa.types.TypeDecorator[dt.datetime]):
    """A moment: ``timestamptz`` on PostgreSQL, UTC without a zone on SQLite, always aware in Python."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(DeclarativeBase):
    # Names of indexes as the migrations have them: without the schema, which is the config's to choose.
    metadata = MetaData(schema="ledger", naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s"})


class Run(Base):
    """One run of a job; resuming it goes on with the same row."""

    __tablename__ = "etl_run"

    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    job: Mapped[str] = mapped_column(sa.Text)
    status: Mapped[str] = mapped_column(sa.String(16))  # running, completed, failed, stopped
    is_rerun: Mapped[bool] = mapped_column(sa.Boolean)
    executions: Mapped[int] = mapped_column(sa.Integer)
    started_at: Mapped[dt.datetime] = mapped_column(UtcTime)
    finished_at: Mapped[dt.datetime | None] = mapped_column(UtcTime)
    error: Mapped[str | None] = mapped_column(sa.Text)

    files: Mapped[list[File]] = relationship(
        back_populates="run", cascade="all, delete-orphan", passive_deletes=True, order_by="File.id"
    )


class File(Base):
    """How far a source has been loaded in a run: its checkpoint and its counts, committed with the rows."""

    __tablename__ = "etl_file"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("ledger.etl_run.id", ondelete="CASCADE"), index=True)
    job: Mapped[str] = mapped_column(sa.Text)
    load: Mapped[str] = mapped_column("load_name", sa.Text)
    table: Mapped[str] = mapped_column("table_name", sa.Text)
    method: Mapped[str] = mapped_column(sa.String(16))
    path: Mapped[str] = mapped_column(sa.Text)
    size: Mapped[int] = mapped_column(sa.BigInteger)
    sha256: Mapped[str] = mapped_column(sa.String(64), index=True)
    status: Mapped[str] = mapped_column(sa.String(16))  # partial, loaded
    record: Mapped[int] = mapped_column("position_record", sa.BigInteger)
    offset: Mapped[int] = mapped_column("position_offset", sa.BigInteger)
    line: Mapped[int] = mapped_column("position_line", sa.BigInteger)
    read: Mapped[int] = mapped_column("read_count", sa.BigInteger, default=0)
    written: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    updated: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    unchanged: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    duplicates: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    filtered: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    child_counts: Mapped[dict[str, dict[str, int]] | None] = mapped_column(
        sa.JSON(none_as_null=True),
        deferred=True,  # an older ledger, which is only read, need not have it
    )
    seconds: Mapped[float] = mapped_column(sa.Float, default=0.0)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcTime)

    run: Mapped[Run] = relationship(back_populates="files")
    rejects: Mapped[list[RejectedRecord]] = relationship(
        back_populates="file", cascade="all, delete-orphan", passive_deletes=True
    )

    @property
    def position(self) -> Position:
        return Position(self.record, self.offset, self.line)

    @position.setter
    def position(self, position: Position) -> None:
        self.record, self.offset, self.line = position.record, position.offset, position.line

    @property
    def counts(self) -> Counts:
        return Counts(
            self.read,
            self.written,
            self.updated,
            self.unchanged,
            self.duplicates,
            self.rejected,
            self.filtered,
        )

    @counts.setter
    def counts(self, counts: Counts) -> None:
        self.read, self.written, self.updated, self.unchanged = (
            counts.read,
            counts.written,
            counts.updated,
            counts.unchanged,
        )
        self.duplicates, self.rejected, self.filtered = counts.duplicates, counts.rejected, counts.filtered

    @property
    def children(self) -> dict[str, ChildCounts]:
        """The counts of the children by their name."""
        return {name: ChildCounts(**counts) for name, counts in (self.child_counts or {}).items()}

    def add_children(self, counts: Mapping[str, ChildCounts]) -> None:
        total = summed([self.children, counts])
        self.child_counts = {name: asdict(each) for name, each in total.items()}


class RejectedRecord(Base):
    """A reject, with the record's place, the reason, and the source's own values."""

    __tablename__ = "etl_reject"

    id: Mapped[int] = mapped_column(_BIG, primary_key=True)
    file_id: Mapped[int] = mapped_column(_BIG, ForeignKey("ledger.etl_file.id", ondelete="CASCADE"), index=True)
    record: Mapped[int] = mapped_column(sa.BigInteger)
    line: Mapped[int | None] = mapped_column(sa.BigInteger)
    phase: Mapped[str] = mapped_column(sa.String(16))
    reason: Mapped[str] = mapped_column(sa.String(32))
    sqlstate: Mapped[str | None] = mapped_column(sa.String(5))
    constraint: Mapped[str | None] = mapped_column("constraint_name", sa.Text)
    column: Mapped[str | None] = mapped_column("column_name", sa.Text)
    message: Mapped[str] = mapped_column(sa.Text)
    values: Mapped[dict[str, Any] | None] = mapped_column("source_values", sa.JSON(none_as_null=True))
    raw: Mapped[str | None] = mapped_column(sa.Text)

    file: Mapped[File] = relationship(back_populates="rejects")
