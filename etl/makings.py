"""What loads with ``create`` or ``add_columns`` have to make: the columns of their mapping, typed by their sources.

The whole of each source is read for it, a record batch at a time, before the first row is written.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import reduce

import pyarrow as pa
from sqlalchemy import Connection

from etl.config import ColumnSource, Csv, Format, Job, Load
from etl.database import Making, NewColumn, Target, check_names, find_targets, missing_tables
from etl.errors import ConfigError, SourceError, TargetMismatch
from etl.json_cells import are_json_cells
from etl.mapping.arrow_types import type_of_arrow
from etl.mapping.epochs import EPOCHS
from etl.mapping.found_types import TEXT, TypeFinder, joined_type
from etl.mapping.paths import SourcePath, find_path
from etl.mapping.plan import computed_type
from etl.mapping.spelling import Spelling
from etl.mapping.unquoting import has_documents, texts_of_json
from etl.records import ColumnType, Kind, Position, Reader

Opened = Sequence[tuple[Format, Reader]]  # the sources of a load


def find_makings(
    connection: Connection, job: Job, loads: Sequence[Load], open_sources: Callable[[Load], Opened]
) -> dict[str, Making]:
    """What has to be made for each load, by its name; nothing for one whose table has what it needs.

    No transaction is open while the sources are read. Raises SourceError for one that cannot be read, TargetMismatch
    for columns that the database cannot have, ConfigError for a key that is none of them.
    """
    missing = missing_tables(connection, job, loads)
    growing = [load for load in loads if load.add_columns and load.name not in missing]
    targets = find_targets(connection, job, growing)
    connection.rollback()
    makings = _tables(connection, loads, missing, open_sources)
    for load in growing:
        if (making := _new_columns(load, targets[load.name], open_sources(load), connection)) is not None:
            makings[load.name] = making
    return makings


def _tables(
    connection: Connection,
    loads: Sequence[Load],
    missing: Mapping[str, tuple[str | None, str]],
    open_sources: Callable[[Load], Opened],
) -> dict[str, Making]:
    """All loads into a table make it together."""
    makings: dict[str, Making] = {}
    for schema, name in dict.fromkeys(missing.values()):
        together = [load for load in loads if missing.get(load.name) == (schema, name)]
        if any(load.create for load in together):
            columns = _columns(together, open_sources, connection.dialect.name)
            making = Making(together[0], name, schema, columns, _key(together, columns))
            check_names(making, connection.dialect)
            makings |= dict.fromkeys((load.name for load in together), making)
    return makings


def _columns(loads: Sequence[Load], open_sources: Callable[[Load], Opened], dialect: str) -> tuple[NewColumn, ...]:
    found: dict[str, ColumnType] = {}
    for load in loads:
        opened = open_sources(load)
        for column in _found_columns(load, opened, _wanted(load, opened), dialect):
            known = found.get(column.name, column.type)
            found[column.name] = joined_type(known, column.type)
    if not found:
        raise SourceError(
            f"Load {loads[0].name}: there is no column to make the table {loads[0].table} of.",
            'Name them under [load.columns], or leave out ignore_columns = "*".',
        )
    return tuple(NewColumn(name, type_) for name, type_ in found.items())


def _key(loads: Sequence[Load], columns: Sequence[NewColumn]) -> tuple[str, ...]:
    keys = dict.fromkeys(load.key for load in loads if load.key)
    if len(keys) > 1:
        raise ConfigError(
            f"The table {loads[0].table} is made by loads with different keys.", "Give them the same key."
        )
    key = next(iter(keys), ())
    names = [column.name for column in columns]
    unknown = [name for name in key if name not in names]
    if unknown:
        raise ConfigError(
            f"Load {loads[0].name}: key names {', '.join(unknown)}, which the table {loads[0].table} would not have.",
            f"It would have {', '.join(names)}.",
        )
    return key


def _new_columns(load: Load, target: Target, opened: Opened, connection: Connection) -> Making | None:
    """A name that differs in upper and lower case alone is a slip of the mapping, which will tell it."""
    known = {column.name.casefold() for column in target.columns}
    wanted = {name: entry for name, entry in _wanted(load, opened).items() if name.casefold() not in known}
    if not wanted:
        return None
    if target.is_view:
        raise TargetMismatch(
            f"Load {load.name}: {target.name} is a view, to which no columns can be added.",
            f"It lacks {', '.join(wanted)}: add them to ignore_columns.",
        )
    columns = tuple(_found_columns(load, opened, wanted, connection.dialect.name))
    making = Making(load, str(target.table.name), target.table.schema, columns, existing=target)
    check_names(making, connection.dialect)
    return making


def _wanted(load: Load, opened: Opened) -> dict[str, ColumnSource]:
    """The target columns that the mapping feeds, in the order of the sources' columns, constants last."""
    entries: dict[str, ColumnSource] = dict(load.columns)
    paths = _paths(opened, {name for entry in entries.values() for name in entry.source_columns})
    used = {path.column for found in paths.values() for path in found}
    ignores_rest = "*" in load.ignore_columns
    wanted: dict[str, ColumnSource] = {}
    for source in dict.fromkeys(name for _, reader in opened for name in reader.schema.names):
        wanted |= {
            target: entry
            for target, entry in entries.items()
            if entry.source is not None and any(path.column == source for path in paths[entry.source])
        }
        is_left_over = source not in used and source not in entries and source not in load.ignore_columns
        if is_left_over and not ignores_rest:
            wanted[source] = ColumnSource.model_validate({"from": source})
    return wanted | {target: entry for target, entry in entries.items() if entry.source is None}


def _paths(opened: Opened, names: Collection[str]) -> dict[str, list[SourcePath]]:
    """What each of ``names`` is in the sources: a column, or a field in one."""
    found = {name: [find_path(reader.schema, name) for _, reader in opened] for name in names}
    return {name: [path for path in paths if path is not None] for name, paths in found.items()}


def _found_columns(load: Load, opened: Opened, wanted: Mapping[str, ColumnSource], dialect: str) -> Iterator[NewColumn]:
    needed = {entry.source for entry in wanted.values() if entry.source is not None and not entry.format}
    try:
        types = _source_types(opened, needed, load.csv, dialect)
        for name, entry in wanted.items():
            if entry.compute is None:
                found = types.get(entry.source or "", TEXT)  # texts that are joined are one
            else:
                found = _type_of_computed(name, entry, entry.compute, opened, dialect)
            yield NewColumn(name, _type_of(entry, found))
    except (ConfigError, TargetMismatch) as error:
        raise type(error)(f"Load {load.name}: {error.problem}.", error.remedy) from None


def _type_of(entry: ColumnSource, found: ColumnType) -> ColumnType:
    """The type of a target column; ``found`` is that of its source column, or of what is made of several."""
    if entry.value is not None:
        return _type_of_constant(entry.value)
    if entry.record or entry.line:
        return ColumnType(Kind.BIGINT)
    if entry.read_as is None:  # else format and timezone are for what is computed with
        found = _type_of_formats(entry.format) if entry.format else found
        if entry.timezone is not None and found.kind is Kind.TIMESTAMP:
            found = ColumnType(Kind.TIMESTAMPTZ)
    return found if entry.default is None else joined_type(found, _type_of_constant(entry.default))


def _type_of_computed(name: str, entry: ColumnSource, function: str, opened: Opened, dialect: str) -> ColumnType:
    """Of what the function gives for the columns of each source that has them; a text that it gives stays one."""
    schemas = [reader.schema for _, reader in opened]
    able = [schema for schema in schemas if all(find_path(schema, column) for column in entry.source_columns)]
    if not able:
        names = ", ".join(entry.source_columns)
        raise ConfigError(f"{name} is computed of {names}, which no source has", "Correct its args")
    types = (type_of_arrow(name, computed_type(schema, entry, function), dialect) for schema in able)
    return reduce(joined_type, types)


def _source_types(opened: Opened, needed: Collection[str], csv: Csv, dialect: str) -> dict[str, ColumnType]:
    types: dict[str, ColumnType] = {}
    finders: dict[str, TypeFinder] = {}
    documents: set[str] = set()
    for format_, reader in opened:
        paths = [path for found in _paths([(format_, reader)], needed).values() for path in found]
        untyped = [path for path in paths if format_ in ("csv", "jsonl") and _is_text(path.type)]
        spelling = Spelling.of(csv, format_)
        documents |= _find_types(
            reader, [(path, finders.setdefault(path.name, TypeFinder(spelling))) for path in untyped]
        )
        for path in paths:
            if path not in untyped:
                type_ = type_of_arrow(path.name, path.type, dialect)
                types[path.name] = joined_type(types.get(path.name, type_), type_)
    for name, finder in finders.items():
        types[name] = joined_type(types.get(name, finder.found(dialect)), finder.found(dialect))
    return types | dict.fromkeys(documents, ColumnType(Kind.JSON))


def _is_text(type_: pa.DataType) -> bool:
    """Whether its values say what they are; a transform may have given other columns types of their own."""
    return bool(are_json_cells(type_) or pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _find_types(reader: Reader, looked_at: Sequence[tuple[SourcePath, TypeFinder]]) -> set[str]:
    """Have the finders look at all records of a source whose values are texts; the names of objects and lists."""
    documents: set[str] = set()
    if not looked_at:
        return documents
    for records in reader.batches(Position(), list(dict.fromkeys(path.column for path, _ in looked_at))):
        for path, finder in looked_at:
            cells = path.cells(records.columns).values
            if are_json_cells(cells.type):
                documents |= {path.name} if has_documents(cells) else set()
                cells = texts_of_json(cells).values
            finder.add(cells)
    return documents


def _type_of_formats(formats: Sequence[str]) -> ColumnType:
    return reduce(joined_type, (ColumnType(_kind_of_format(format_)) for format_ in formats))


def _kind_of_format(format_: str) -> Kind:
    """By what it reads: ``%d/%m/%Y`` is a date, ``%H:%M`` a time, both a timestamp, an epoch a moment."""
    has_date = any(directive in format_ for directive in ("%Y", "%y", "%d", "%j", "%x", "%c", "%G"))
    has_time = any(directive in format_ for directive in ("%H", "%I", "%X", "%c"))
    if "%z" in format_ or format_ in EPOCHS:
        return Kind.TIMESTAMPTZ
    return Kind.TIMESTAMP if has_date and has_time else Kind.TIME if has_time else Kind.DATE


def _type_of_constant(value: object) -> ColumnType:
    if isinstance(value, dt.datetime):
        return ColumnType(Kind.TIMESTAMP if value.tzinfo is None else Kind.TIMESTAMPTZ)
    kinds = {bool: Kind.BOOLEAN, int: Kind.BIGINT, float: Kind.DOUBLE, dt.date: Kind.DATE, dt.time: Kind.TIME}
    return ColumnType(kinds.get(type(value), Kind.TEXT))
