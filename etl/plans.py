"""What is known of a job before its first row: targets, sources, mappings, methods. Shared by load and check.

Making the plans reads the catalog of the database and the header or footer of each source, and writes nothing: a
wrong name, a missing column or a file that is no Parquet file is told here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from sqlalchemy import Connection

from etl.config import Format, Job, Load, Method
from etl.database import (
    SKIPPED,
    Duplicates,
    Making,
    MissingFile,
    Target,
    duplicates_of,
    find_aggregates,
    find_targets,
    in_foreign_key_order,
    make,
)
from etl.errors import ConfigError, SourceError
from etl.mapping import AnyFeed, Plan, SourceFacts, Spelling, plan_records, plan_taking
from etl.readers import Source, Sources, find_sources, format_of, open_reader
from etl.records import Reader
from etl.user_code import import_by_name
from etl.writers import Choice, choose_writer

logger = logging.getLogger(__name__)


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
    """One load: where its rows go, who writes them and why, and its sources in order.

    ``making`` is what is to be made of the target first: until then ``target`` says what it will be.
    """

    load: Load
    target: Target
    choice: Choice
    sources: tuple[SourcePlan, ...]
    duplicates: Duplicates
    making: Making | None = None

    @property
    def feeds(self) -> dict[str, AnyFeed]:
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


def missing_file(loads: Sequence[Load], *, keeps_nothing: bool) -> MissingFile:
    """What becomes of a SQLite file that is missing: a load that makes its table makes the file, too."""
    if not any(load.create for load in loads):
        return "refused"
    return "replaced" if keeps_nothing else "made"


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
    makings = _makings(connection, job, loads, sources)
    found = find_aggregates(connection, job, [load for load in loads if load.name not in makings])
    connection.rollback()
    targets = found | {name: making.target(connection.dialect) for name, making in makings.items()}
    plans = [
        _plan(connection, job, load, targets[load.name], sources[load.name], method, makings.get(load.name))
        for load in in_foreign_key_order(loads, targets)
    ]
    connection.rollback()
    return plans


def _makings(
    connection: Connection, job: Job, loads: Sequence[Load], sources: Mapping[str, Sequence[Source]]
) -> dict[str, Making]:
    if not any(load.create or load.add_columns for load in loads):
        return {}
    from etl.makings import find_makings  # who makes nothing has no use for it

    return find_makings(connection, job, loads, lambda load: _as_mapped(load, job.folder, sources[load.name]))


def _as_mapped(load: Load, folder: Path, sources: Sequence[Source]) -> list[tuple[Format, Reader]]:
    """The sources opened, with the records and columns that their filter and transform leave."""
    transform = _transform(load, folder)
    opened = [(source, *_opened(load, source)) for source in sources]
    if transform is None and not load.filter:
        return [(format_, reader) for _, format_, reader in opened]
    from etl.mapping.taking import TakingReader  # only for who filters or transforms

    return [
        (format_, TakingReader(reader, plan_taking(reader.schema, load, _facts(load, source, format_, transform))))
        for source, format_, reader in opened
        if _has_columns(format_, reader.schema)
    ]


def made(connection: Connection, job: Job, plans: Sequence[LoadPlan]) -> list[LoadPlan]:
    """The plans, with what they lack made in the connection's transaction, and on the targets that there are then."""
    planned_makings = [plan.making for plan in plans if plan.making is not None]
    if not planned_makings:
        return list(plans)
    for making in dict.fromkeys(planned_makings):  # loads into one table make it together
        logger.info("%s.", making.words(connection.dialect))
        make(connection, making)
    targets = find_targets(connection, job, [plan.load for plan in plans if plan.making is not None])
    return [
        plan if plan.making is None else _on_target(connection, job, plan, targets[plan.load.name]) for plan in plans
    ]


def _on_target(connection: Connection, job: Job, plan: LoadPlan, target: Target) -> LoadPlan:
    """The plan by the same method."""
    transform = _transform(plan.load, job.folder)
    sources = tuple(
        replace(planned, mapping=_mapping(plan.load, target, planned.source, planned.schema, planned.format, transform))
        for planned in plan.sources
    )
    method = cast(Method, plan.choice.writer.method)
    duplicates, choice = _chosen(connection, plan.load, target, sources, method)
    return LoadPlan(plan.load, target, replace(choice, reason=plan.choice.reason), sources, duplicates)


def _plan(
    connection: Connection,
    job: Job,
    load: Load,
    target: Target,
    sources: Sequence[Source],
    method: Method | None,
    making: Making | None,
) -> LoadPlan:
    transform = _transform(load, job.folder)
    planned_sources = tuple(_plan_source(load, target, source, transform) for source in sources)
    is_there = making is None or making.existing is not None
    wanted = method or load.method
    duplicates, choice = _chosen(connection, load, target, planned_sources, wanted, is_there=is_there)
    return LoadPlan(load, target, choice, planned_sources, duplicates, making)


def _chosen(
    connection: Connection,
    load: Load,
    target: Target,
    sources: Sequence[SourcePlan],
    method: Method,
    *,
    is_there: bool = True,
) -> tuple[Duplicates, Choice]:
    """What becomes of duplicates, and who writes. Of a table that ``is_there`` not yet no key can be asked for."""
    given = _given(sources)
    duplicates = duplicates_of(connection, load, target, sorted(given)) if is_there else SKIPPED
    return duplicates, choose_writer(target, method, given, duplicates)


def _given(sources: Sequence[SourcePlan]) -> set[str]:
    """The columns that every source gives."""
    fed = [{feed.name for feed in source.mapping.columns} for source in sources if source.has_columns]
    return set.intersection(*fed) if fed else set()


def _transform(load: Load, folder: Path) -> Any:
    """The function that ``transform`` names; None where there is none."""
    if load.transform is None:
        return None
    remedy = 'Give "package.module:function" that Python can import.'
    function = import_by_name(load.name, "transform", load.transform, folder, remedy)
    if not callable(function):
        raise ConfigError(f'Load {load.name}: transform = "{load.transform}" is no function.', remedy)
    return function


def _opened(load: Load, source: Source) -> tuple[Format, Reader]:
    format_ = load.format or format_of(source.name, "standard input" if source.path == "-" else source.path)
    return format_, open_reader(source, load, format_)


def _plan_source(load: Load, target: Target, source: Source, transform: Any) -> SourcePlan:
    format_, reader = _opened(load, source)
    schema = reader.schema
    try:
        return SourcePlan(source, format_, schema, _mapping(load, target, source, schema, format_, transform))
    except SourceError as error:
        hint = _delimiter_hint(schema.names) if format_ == "csv" else ""
        raise SourceError(f"{source.path}: {error.problem}", f"{hint}{error.remedy}") from error


def _mapping(load: Load, target: Target, source: Source, schema: pa.Schema, format_: Format, transform: Any) -> Plan:
    if not _has_columns(format_, schema):
        return Plan((), schema)
    return plan_records(schema, target, load, _facts(load, source, format_, transform))


def _has_columns(format_: Format, schema: pa.Schema) -> bool:
    """A file of JSON lines of a day on which nothing happened has none."""
    return format_ != "jsonl" or bool(schema.names)


def _facts(load: Load, source: Source, format_: Format, transform: Any) -> SourceFacts:
    null_words = load.csv.null if format_ == "csv" else ()
    return SourceFacts(source.path, null_words, Spelling.of(load.csv, format_), transform, load.transform or "")


def _delimiter_hint(names: list[str]) -> str:
    """A header that is one name with a common delimiter in it was most likely split at another one."""
    found = [mark for mark in ";\t|," if len(names) == 1 and mark in names[0]]
    return f"Its header is one name: is {json.dumps(found[0])} the delimiter of [load.csv]? " if found else ""
