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
from etl.database import Target, find_aggregates, in_foreign_key_order
from etl.errors import ConfigError, SourceError
from etl.mapping import Plan, plan_records
from etl.readers import Source, Sources, find_sources, format_of, open_reader
from etl.writers import Choice, choose_writer


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """One source of a load: its format, and how its columns, which are ``schema``, become the target's."""

    source: Source
    format: Format
    schema: pa.Schema
    mapping: Plan


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One load: where its rows go, who writes them and why, and its sources in order."""

    load: Load
    target: Target
    choice: Choice
    sources: tuple[SourcePlan, ...]

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
        yield {load.name: cleanup.enter_context(find_sources(load.source, job.folder)) for load in loads}


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
    targets = find_aggregates(connection, job, loads)
    connection.rollback()
    return [
        _plan(load, targets[load.name], sources[load.name], method) for load in in_foreign_key_order(loads, targets)
    ]


def _plan(load: Load, target: Target, sources: Sequence[Source], method: Method | None) -> LoadPlan:
    planned_sources = tuple(_plan_source(load, target, source) for source in sources)
    given = set.intersection(*({column.name for column in source.mapping.columns} for source in planned_sources))
    _require_replacing_key(load, target, given)
    return LoadPlan(load, target, choose_writer(target, method or load.method, given), planned_sources)


def _require_replacing_key(load: Load, target: Target, given: set[str]) -> None:
    lacking = [name for name in target.replaced_by if name not in given]
    if lacking:
        raise ConfigError(
            f'Load {load.name}: on_duplicate = "replace" finds what is there by {", ".join(target.replaced_by)}, '
            f"and no source column feeds {', '.join(lacking)}.",
            "Map it under [load.columns], or name another unique constraint of the table by key.",
        )


def _plan_source(load: Load, target: Target, source: Source) -> SourcePlan:
    format_ = load.format or format_of(source.location if source.path != "-" else "standard input")
    schema = open_reader(source, load, format_).schema
    try:
        return SourcePlan(source, format_, schema, plan_records(schema, target, load))
    except SourceError as error:
        hint = _delimiter_hint(schema.names) if format_ == "csv" else ""
        raise SourceError(f"{source.path}: {error.problem}", f"{hint}{error.remedy}") from error


def _delimiter_hint(names: list[str]) -> str:
    """A header that is one name with a common delimiter in it was most likely split at another one."""
    found = [mark for mark in ";\t|," if len(names) == 1 and mark in names[0]]
    return f"Its header is one name: is {json.dumps(found[0])} the delimiter of [load.csv]? " if found else ""
