"""``etl check``: all that a load depends on, looked at without writing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from etl.comparing import REFERENCE, Comparison, comparison_as_dict, comparison_lines
from etl.config import Database, Job
from etl.database import Target, connected, declared_type, session_factory, why_not_make
from etl.ledger import ledger_version
from etl.mapping import Plan
from etl.plans import LoadPlan, chosen_loads, found_sources, missing_file, planned
from etl.preview import Preview, preview_as_dict, preview_lines, preview_of
from etl.records import Column, ColumnType
from etl.showing import shown_url, visible


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """A target column: its type and where its values come from; None: it keeps its default."""

    name: str
    type: str
    source: str | None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load will do. ``constraints`` are sentences such as "primary key (id)"."""

    name: str
    table: str
    method: str
    reason: str
    sources: tuple[str, ...]
    size: int
    columns: tuple[ColumnReport, ...]
    constraints: tuple[str, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    makes: str | None  # what it makes of the table first: "a table" or "columns"
    made_columns: tuple[ColumnReport, ...]
    preview: Preview | None = None  # of its first source
    filter: tuple[str, ...] = ()  # what a record has to meet to be loaded
    transform: str | None = None
    children: tuple[str, ...] = ()
    comparison: Comparison | None = None  # of its method with `row`, where that was asked for and can differ
    duplicates: str | None = None  # which rows are, and what becomes of them, where the config says it


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What ``etl check`` has found, the loads in the order in which they run."""

    job: str
    database: str
    server: str
    ledger: str | None
    loads: tuple[LoadReport, ...]
    is_verified: bool = False

    @property
    def problems(self) -> list[str]:
        """What would make the load fail."""
        return [problem for load in self.loads for problem in load.problems]

    @property
    def has_differences(self) -> bool:
        """Whether a method does not do what `row` does."""
        return any(load.comparison is not None and not load.comparison.is_same for load in self.loads)


def check_job(job: Job) -> CheckReport:
    """Look at config, connection, tables, columns and sources; nothing is written.

    Raises the EtlError that a load would raise before its first row.
    """
    loads = chosen_loads(job, ())
    with (
        found_sources(job, loads) as sources,
        connected(job.database, read_only=True, missing_file=missing_file(loads, keeps_nothing=True)) as connection,
    ):
        return report_on(connection, job, planned(connection, job, loads, sources))


def report_on(connection: Connection, job: Job, plans: Sequence[LoadPlan]) -> CheckReport:
    """The same, of plans that are made. Leaves a transaction open in which nothing was written."""
    return CheckReport(
        job=job.name,
        database=shown_url(job.database.sqlalchemy_url),
        server=_server(connection),
        ledger=ledger_version(connection, job.database.ledger_place),
        loads=tuple(_load_report(connection, plan) for plan in plans),
    )


@contextmanager
def read_ledger(database: Database) -> Iterator[Session | None]:
    """A session to read the ledger with; None where no run has made one yet."""
    with connected(database, read_only=True) as connection:
        if ledger_version(connection, database.ledger_place) is None:
            yield None
            return
        connection.rollback()
        with session_factory(connection)() as session:
            yield session


def _server(connection: Connection) -> str:
    names = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
    version = ".".join(str(part) for part in connection.dialect.server_version_info or ())
    return f"{names[connection.dialect.name]} {version}"


def _load_report(connection: Connection, plan: LoadPlan) -> LoadReport:
    target = plan.target
    return LoadReport(
        name=plan.load.name,
        table=target.name,
        method=plan.choice.writer.method,
        reason=plan.choice.reason,
        sources=tuple(source.source.path for source in plan.sources),
        size=plan.size,
        columns=tuple(
            ColumnReport(column.name, _type_words(column.type), _fed_by(plan, column)) for column in target.columns
        ),
        constraints=tuple(_constraints(target)),
        warnings=tuple(_warnings(plan)),
        problems=tuple(_problems(connection, plan)),
        makes=None if plan.making is None else "table" if plan.making.existing is None else "columns",
        made_columns=tuple(_made_columns(connection, plan)),
        preview=_preview(plan),
        filter=_filter_words(plan),
        transform=plan.load.transform,
        children=tuple(_children(plan)),
        duplicates=_duplicate_words(plan),
    )


def _preview(plan: LoadPlan) -> Preview | None:
    for first in plan.sources[:1]:
        return preview_of(first.source, plan.load, first.format, first.mapping.source_columns)
    return None


def _made_columns(connection: Connection, plan: LoadPlan) -> Iterator[ColumnReport]:
    """With the types that the database will be told."""
    for column in plan.making.columns if plan.making is not None else ():
        yield ColumnReport(column.name, declared_type(column.type, connection.dialect), None)


def _duplicate_words(plan: LoadPlan) -> str | None:
    duplicates = plan.duplicates
    if duplicates.key is None:
        return None
    key = f"by {', '.join(duplicates.key.columns)} ({duplicates.key.name})"
    if not duplicates.is_updating:
        return f"{key}: {plan.load.on_duplicate}"
    given = list(plan.feeds)
    newer = f", where {duplicates.newer_by} is newer" if duplicates.newer_by else ""
    return f"{key}: update {', '.join(duplicates.changed(given)) or 'nothing'}{newer}"


def _children(plan: LoadPlan) -> Iterator[str]:
    """A sentence for each list: where its elements go, and what feeds which column."""
    for source in [source for source in plan.sources if source.has_columns][:1]:
        yield from _lists(plan.target, source.mapping)


def _lists(target: Target, mapping: Plan, above: str = "") -> Iterator[str]:
    for child, plan in zip(target.children, mapping.children, strict=True):
        fed = [f"{column} from the record" for column in child.link]
        fed += [f"{child.position} from the place in the list"] if child.position else []
        fed += [f"{feed.name} from {feed.words}" for feed in plan.mapping.columns]
        where = f"{child.target.name} through {child.through}" if child.through else child.target.name
        cost = "itself" if child.is_lenient else "its record"
        yield f'{above}{child.name}: "{plan.path.name}" into {where}: {", ".join(fed)}; a bad one costs {cost}'
        yield from _lists(child.target, plan.mapping, f"{above}{child.name}.")


def _fed_by(plan: LoadPlan, column: Column) -> str | None:
    feed = plan.feeds.get(column.name)
    return None if feed is None else feed.words


def _filter_words(plan: LoadPlan) -> tuple[str, ...]:
    filters = (source.mapping.filter for source in plan.sources[:1])
    return tuple(words for record_filter in filters if record_filter is not None for words in record_filter.words)


def _type_words(type_: ColumnType) -> str:
    limits = [type_.length] if type_.length is not None else [type_.precision, type_.scale]
    given = ",".join(str(limit) for limit in limits if limit is not None)
    return f"{type_.kind.value}({given})" if given else type_.kind.value


def _constraints(target: Target) -> Iterator[str]:
    for columns, name in target.unique.items():
        kind = "primary key" if columns == target.primary_key else "unique"
        yield f"{kind} ({', '.join(columns)}): {name}"
    for key in target.foreign_keys:
        parents = ", ".join(key.parent_columns)
        yield f"foreign key ({', '.join(key.columns)}) to {key.parent.fullname} ({parents}): {key.name}"
    required = [column.name for column in target.columns if not column.nullable]
    if required:
        yield f"not null: {', '.join(required)}"
    if target.triggers:
        yield f"triggers: {', '.join(target.triggers)}"


def _warnings(plan: LoadPlan) -> Iterator[str]:
    if plan.making is not None and plan.making.existing is None and not plan.making.key:
        yield "the table is made without a key: nothing keeps a record that comes twice from being written twice"
    if not plan.feeds:  # no source has a record
        return
    for column in plan.target.columns:
        if column.name not in plan.feeds and not (column.nullable or column.has_default or column.is_generated):
            yield f"{column.name} is NOT NULL, has no default, and no source column feeds it: every row will be refused"


def _problems(connection: Connection, plan: LoadPlan) -> Iterator[str]:
    target, making = plan.target, plan.making
    if making is not None and (obstacle := why_not_make(connection, making)) is not None:
        yield obstacle
    if making is not None and making.existing is None:
        return
    for member in target.members:
        yield from _not_allowed(connection, member, _rights(plan) if member is target else {"INSERT": "INSERT into"})


def _rights(plan: LoadPlan) -> dict[str, str]:
    """What the role has to be allowed on the table, and the words for it."""
    rights = {"INSERT": "INSERT into"}
    if plan.duplicates.is_updating:
        rights |= {"UPDATE": "UPDATE", "SELECT": "SELECT from"}
    if plan.duplicates.is_replacing:
        rights |= {"DELETE": "DELETE from", "SELECT": "SELECT from"}
    return rights


def _not_allowed(connection: Connection, target: Target, rights: Mapping[str, str]) -> Iterator[str]:
    for right, words in rights.items():
        if target.catalog is not None and not _may(connection, target.catalog.oid, right):
            role = connection.scalar(sa.text("SELECT current_user"))
            what = f"{words} {target.name}"
            yield f"the role {role} may not {what}: GRANT {right} ON {target.name} TO it"


def _may(connection: Connection, table: int, right: str) -> bool:
    """Of the whole table, or of some of its columns, which there are no rights to delete."""
    function = "has_table_privilege" if right == "DELETE" else "has_any_column_privilege"
    asked = sa.text(f"SELECT {function}(CAST(:oid AS oid), :right)")
    return bool(connection.scalar(asked, {"oid": table, "right": right}))


def report_as_text(report: CheckReport, width: int = 100) -> str:
    """What a person reads, on a terminal with so many columns."""
    ledger = f"version {report.ledger}" if report.ledger else "none yet: the first run makes it"
    lines = [
        f"job       {report.job}",
        f"database  {report.database}  ({report.server})",
        f"ledger    {ledger}",
    ]
    for load in report.loads:
        lines += ["", *_load_lines(load, width), *(_comparison_lines(load) if report.is_verified else ())]
    return "\n".join([*map(visible, lines), "", _conclusion(report)])


def _conclusion(report: CheckReport) -> str:
    if report.problems:
        return f"{len(report.problems)} problems."
    if report.has_differences:
        return (
            "Not the same. Unless something else wrote to these tables meanwhile, or a trigger asks a clock or a\n"
            'sequence, this is a bug of etl: please report it with this output, and use method = "row" until then.'
        )
    return "Ready: `etl load` can run this job."


def _load_lines(load: LoadReport, width: int) -> Iterator[str]:
    yield f"load {load.name} into {load.table}"
    yield f"  method      {load.method}: {load.reason}"
    yield f"  sources     {len(load.sources):,} with {load.size:,} bytes: {_some(load.sources)}"
    yield from _making_lines(load)
    for number, condition in enumerate(load.filter):
        yield f"  {'' if number else 'filter':<11} {condition}"
    if load.transform is not None:
        yield f"  transform   {load.transform}"
    names = max(len(column.name) for column in load.columns)
    kinds = max(len(column.type) for column in load.columns)
    for number, column in enumerate(load.columns):
        label = "" if number else "columns"
        fed = f"from {column.source}" if column.source is not None else "keeps its default"
        yield f"  {label:<10}  {column.name:<{names}}  {column.type:<{kinds}}  {fed}"
    if load.duplicates:
        yield f"  duplicates  {load.duplicates}"
    for number, constraint in enumerate(load.constraints):
        yield f"  {'' if number else 'constraints':<11} {constraint}"
    for number, line in enumerate(preview_lines(load.preview, width - 14) if load.preview is not None else ()):
        yield f"  {'' if number else 'reads':<11} {line}"
    for number, child in enumerate(load.children):
        yield f"  {'' if number else 'children':<11} {child}"
    yield from (f"  warning     {warning}" for warning in load.warnings)
    yield from (f"  problem     {problem}" for problem in load.problems)


def _making_lines(load: LoadReport) -> Iterator[str]:
    if load.makes is None:
        return
    what = "is not there: a load makes it with" if load.makes == "table" else "lacks columns: a load adds"
    yield f"  makes       the table {what}"
    width = max(len(column.name) for column in load.made_columns)
    yield from (f"  {'':<10}  {column.name:<{width}}  {column.type}" for column in load.made_columns)


def _comparison_lines(load: LoadReport) -> Iterator[str]:
    nothing = [f"nothing to compare: the method is {REFERENCE}"]
    for number, line in enumerate(nothing if load.comparison is None else comparison_lines(load.comparison)):
        yield f"  {'' if number else 'verify':<11} {line}"


def _some(sources: tuple[str, ...]) -> str:
    return ", ".join(sources) if len(sources) <= 3 else f"{sources[0]}, {sources[1]}, … {sources[-1]}"


def report_as_dict(report: CheckReport) -> dict[str, object]:
    """The same for programs: what ``etl check --json`` prints."""
    return {
        "job": report.job,
        "database": report.database,
        "server": report.server,
        "ledger": report.ledger,
        "loads": [_load_as_dict(load) | {"verify": _verify_as_dict(report, load)} for load in report.loads],
    }


def _verify_as_dict(report: CheckReport, load: LoadReport) -> dict[str, object] | None:
    """None where it was not asked for; what was not compared is neither the same nor not."""
    if not report.is_verified:
        return None
    return {"same": None, "method": load.method} if load.comparison is None else comparison_as_dict(load.comparison)


def _load_as_dict(load: LoadReport) -> dict[str, object]:
    return {
        "name": load.name,
        "table": load.table,
        "method": load.method,
        "reason": load.reason,
        "sources": list(load.sources),
        "bytes": load.size,
        "columns": [{"name": column.name, "type": column.type, "source": column.source} for column in load.columns],
        "constraints": list(load.constraints),
        "preview": None if load.preview is None else preview_as_dict(load.preview),
        "warnings": list(load.warnings),
        "problems": list(load.problems),
        "makes": load.makes,
        "made_columns": [{"name": column.name, "type": column.type} for column in load.made_columns],
        "filter": list(load.filter),
        "transform": load.transform,
        **({"children": list(load.children)} if load.children else {}),
    }
