"""What is known of a job before its first row: targets, sources, mappings, methods. Shared by load and check.

Making the plans reads the catalog of the database and the header or footer of each source, and writes nothing: a
wrong name, a missing column or a file that is no Parquet file is told here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyarrow as pa
from sqlalchemy import Connection

from etl.config import Format, Job, Load, Method
from etl.database import Target, find_targets, in_foreign_key_order
from etl.errors import ConfigError, SourceError
from etl.mapping import FromConstant, FromSource, Plan, plan_mapping
from etl.readers import Source, Sources, find_sources, format_of, open_reader
from etl.writers import Choice, choose_writer


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """One source of a load: its format, and how its columns, which are ``schema``, become the target's."""

    source: Source
    format: Format
    schema: pa.Schema
    mapping: Plan

    @property
    def has_columns(self) -> bool:
        """False for JSON lines without a record, whose columns nobody knows."""
        return bool(self.schema.names)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One load: where its rows go, who writes them and why, and its sources in order."""

    load: Load
    target: Target
    choice: Choice
    sources: tuple[SourcePlan, ...]

    @property
    def feeds(self) -> dict[str, FromSource | FromConstant]:
        """What feeds the target columns, by their names: that of the first source that has columns."""
        with_columns = [source for source in self.sources if source.has_columns]
        return {feed.name: feed for source in with_columns[:1] for feed in source.mapping.columns}

    @property
    def size(self) -> int:
        """Bytes of all sources."""
        return sum(planned.source.size for planned in self.sources)


def chosen_loads(job: Job, only: Sequence[str]) -> tuple[Load, ...]:
    """The loads named by ``only``, or all. Raises ConfigError for a name that no load has."""
    names = [load.name for load in job.loads]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ConfigError(f"{job.name} has no load named {', '.join(unknown)}.", f"It has {', '.join(names)}.")
    return tuple(load for load in job.loads if not only or load.name in only)


@contextmanager
def found_sources(job: Job, loads: Sequence[Load]) -> Iterator[dict[str, Sources]]:
    """The sources of each load, by its name; on leaving, what was kept of standard input is removed.

    Raises SourceError for one that is not there. No database is asked.
    """
    with ExitStack() as cleanup:
        yield {
            load.name: cleanup.enter_context(find_sources(load.source, job.folder, is_hive=load.hive)) for load in loads
        }


def planned(
    connection: Connection,
    job: Job,
    loads: Sequence[Load],
    sources: Mapping[str, Sequence[Source]],
    method: Method | None = None,
) -> list[LoadPlan]:
    """The plans of ``loads``, parents before children; ``sources`` are those of each load by its name.

    The transaction that the catalog was read in is over. Raises ConfigError, SourceError or TargetMismatch.
    """
    targets = find_targets(connection, job, loads)
    connection.rollback()
    return [
        _plan(load, targets[load.name], sources[load.name], method) for load in in_foreign_key_order(loads, targets)
    ]


def _plan(load: Load, target: Target, sources: Sequence[Source], method: Method | None) -> LoadPlan:
    planned_sources = tuple(_plan_source(load, target, source) for source in sources)
    fed = [{feed.name for feed in source.mapping.columns} for source in planned_sources if source.has_columns]
    given = set.intersection(*fed) if fed else set()
    return LoadPlan(load, target, choose_writer(target, method or load.method, given), planned_sources)


def _plan_source(load: Load, target: Target, source: Source) -> SourcePlan:
    format_ = load.format or format_of(source.name, "standard input" if source.path == "-" else source.path)
    schema = open_reader(source, load, format_).schema
    if format_ == "jsonl" and not schema.names:  # the file of a day on which nothing happened
        return SourcePlan(source, format_, schema, Plan(()))
    try:
        return SourcePlan(source, format_, schema, plan_mapping(schema, target.columns, load))
    except SourceError as error:
        hint = _delimiter_hint(schema.names) if format_ == "csv" else ""
        raise SourceError(f"{source.path}: {error.problem}", f"{hint}{error.remedy}") from error


def _delimiter_hint(names: list[str]) -> str:
    """A header that is one name with a common delimiter in it was most likely split at another one."""
    found = [mark for mark in ";\t|," if len(names) == 1 and mark in names[0]]
    return f"Its header is one name: is {json.dumps(found[0])} the delimiter of [load.csv]? " if found else ""
