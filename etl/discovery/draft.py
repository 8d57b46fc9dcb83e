"""``etl init``: a config for files, with what was found in them as comments, ready to be loaded by."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection, make_url

from etl.config import Csv, Database, Format, Job, Load, read_database
from etl.database import Target, connected, find_targets
from etl.discovery.dialects import CODE_PAGES, find_dialect
from etl.discovery.profiles import ColumnProfile, Distinct, Profile, ProfiledTable
from etl.errors import ConfigError, SourceError
from etl.readers import Source, find_sources, format_of
from etl.records import ColumnType, Kind
from etl.showing import shown_argument

_WIDTH = 42  # of what stands before a comment
_MOST_NAME = 63  # characters: PostgreSQL keeps so many bytes of a name
_GENERIC = frozenset({"id", "code", "key", "name", "no", "number", "nr"})
_TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

HEAD = """\
# Made by `etl init` from what is in the files: look it through, then
#
#   etl check {config}
#   etl load {config}
"""


@dataclass(frozen=True, slots=True)
class _ForeignKey:
    """A column whose values all are keys of another table."""

    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True, slots=True)
class _Table:
    """What was found for one of the files, or a folder of them; ``columns`` gives each source column its target's."""

    load: Load
    table: ProfiledTable
    profile: Profile
    columns: dict[str, str]
    target: Target | None
    foreign_keys: tuple[_ForeignKey, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """As target columns, of a table that is to be made."""
        return () if self.target is not None else tuple(self.columns[name] for name in self.profile.key)


def initial_config(files: Sequence[str], database_url: str | None, config: Path | None) -> str:
    """The text of a config that loads each of ``files``, which may be folders, into a table of its own.

    ``config`` is where it will be; paths in it are relative to its folder (None: the working directory). Raises
    ConfigError and SourceError for files that cannot be loaded, TargetError where the database cannot be asked.
    """
    folder = (config.parent if config is not None else Path()).resolve()
    url = database_url or f"sqlite:///{folder / (config.stem if config is not None else 'etl')}.db"
    database, _ = read_database(url)
    with ExitStack() as resources:
        connection = resources.enter_context(connected(database, read_only=True, missing_file="replaced"))
        tables = _found_tables(connection, database, files, folder)
        connection.rollback()
    tables = [replace(table, foreign_keys=tuple(_foreign_keys(table, tables))) for table in tables]
    name = shown_argument(str(config)) if config is not None else "job.toml"
    lines = [HEAD.format(config=name), "[database]", *_database_lines(url, folder, is_given=database_url is not None)]
    for table in _parents_first(tables):
        lines += ["", *_load_lines(table)]
    return "\n".join(lines) + "\n"


# What is found


def _found_tables(connection: Connection, database: Database, files: Sequence[str], folder: Path) -> list[_Table]:
    inspector = sa.inspect(connection)
    there = [*inspector.get_table_names(database.db_schema), *inspector.get_view_names(database.db_schema)]
    connection.rollback()
    tables: list[_Table] = []
    for file in files:
        load, sources = _load_of(file, folder, there, [table.load.table for table in tables])
        target = _target(connection, database, folder, load) if load.table in there else None
        connection.rollback()
        table = ProfiledTable(load, sources, connection.dialect.name)
        profile = table.profile()
        tables.append(_Table(load, table, profile, _target_columns(profile, target, connection), target))
    return tables


def _load_of(
    file: str, folder: Path, there: Sequence[str], taken: Collection[str | None]
) -> tuple[Load, list[tuple[Source, Format]]]:
    if file == "-":
        raise ConfigError("Standard input cannot be read more than once.", "Give `etl init` the name of a file.")
    sources = [(source, _format_of(source)) for source in find_sources([file], Path())]
    text = next((source for source, format_ in sources if format_ == "csv"), None)
    path = os.path.relpath(Path(file).resolve(), folder)
    stem = Path(file).resolve().name.partition(".")[0]
    names = {name.casefold(): name for name in there}
    table = names.get(stem.casefold()) or names.get(snake_case(stem)) or _unique(snake_case(stem) or "data", taken)
    return Load(source=(path,), table=table, name=table, csv=find_dialect(text) if text else Csv()), sources


def _format_of(source: Source) -> Format:
    try:
        return format_of(source.path)
    except ConfigError:
        return "csv"


def _target(connection: Connection, database: Database, folder: Path, load: Load) -> Target:
    job = Job(name="init", folder=folder, database=database, loads=(load,))
    return find_targets(connection, job, job.loads)[load.name]


def _target_columns(profile: Profile, target: Target | None, connection: Connection) -> dict[str, str]:
    """By source column: of a table that is there those with the same name or one that reads the same."""
    columns: dict[str, str] = {}
    if target is None:
        for column in profile.columns:
            by_place = re.sub(r"\Af([0-9]+)\Z", r"column_\1", column.name)
            columns[column.name] = _unique(snake_case(by_place) or "column", columns.values())
        return columns
    names = [column.name for column in target.columns if not column.is_generated]
    by_words = {snake_case(name): name for name in reversed(names)}
    for column in profile.columns:
        found = column.name if column.name in names else by_words.get(snake_case(column.name))
        if found is not None and found not in columns.values():
            columns[column.name] = found
    if not columns:
        raise SourceError(
            f"The table {target.name} has none of the columns of {profile.columns[0].name}, … by name.",
            f"It has {', '.join(names)}: write the config by hand, or rename the file.",
        )
    return columns


def snake_case(name: str) -> str:
    """``Order ID`` and ``OrderID`` as ``order_id``."""
    return "_".join(re.findall(r"\w+", _WORDS.sub("_", name))).strip("_").lower()[:_MOST_NAME]


def _unique(name: str, taken: Collection[str | None]) -> str:
    number = 1
    unique = name
    while unique in taken:
        number += 1
        unique = f"{name[: _MOST_NAME - 4]}_{number}"
    return unique


def _foreign_keys(child: _Table, tables: Sequence[_Table]) -> Iterator[_ForeignKey]:
    """Of columns whose name says which key they may be, those whose values all are."""
    for parent in tables:
        if parent is child or len(parent.profile.key) != 1:
            continue
        key = parent.profile.column(parent.profile.key[0])
        columns = [column for column in child.profile.columns if _may_refer(child, column, parent, key)]
        if not columns:
            continue
        keys = Distinct()
        for hashes in parent.table.hashes(parent.profile, key.name, key.type):
            keys.add(hashes)
        for column in columns:
            found = child.table.hashes(child.profile, column.name, key.type)
            if all(keys.has_all(hashes) for hashes in found):
                parent_column = parent.columns.get(key.name, key.name)
                yield _ForeignKey(child.columns.get(column.name, column.name), parent.load.name, parent_column)


def _may_refer(child: _Table, column: ColumnProfile, parent: _Table, key: ColumnProfile) -> bool:
    rows = child.profile.records - child.profile.unreadable
    if column.type.kind is not key.type.kind or column.nulls == rows:
        return False
    name, key_name, table = snake_case(column.name), snake_case(key.name), parent.load.name
    one = {table, table.removesuffix("s"), table.removesuffix("es"), re.sub(r"ies\Z", "y", table)}
    if child.profile.key == (column.name,):  # a part of it, such as territory_id of territories
        return name.startswith(tuple(f"{single}_" for single in one))
    if name in {f"{single}_{key_name}" for single in one} | one:
        return True
    return key_name not in _GENERIC and (name == key_name or name.endswith(f"_{key_name}"))


def _parents_first(tables: Sequence[_Table]) -> list[_Table]:
    """As far as they do not refer to each other in a circle."""
    ordered: list[_Table] = []
    left = list(tables)
    while left:
        names = {table.load.name for table in left}
        free = [table for table in left if not names & {key.parent for key in table.foreign_keys}] or left
        ordered += free
        left = [table for table in left if table not in free]
    return ordered


# What is written


def _database_lines(url: str, folder: Path, *, is_given: bool) -> Iterator[str]:
    """As it was given: with ``${NAME}``, without a password, and a relative path from the config's folder."""
    if "${" in url:
        yield f"url = {_text(url)}"
        return
    parsed = make_url(url)
    if parsed.password is not None:
        yield "# The password is left out: put it into ~/.pgpass, a service file or the environment, as ${NAME}."
        parsed = parsed._replace(password=None)  # set(password=None) would leave it there
    name = parsed.database or ""
    is_file = parsed.get_backend_name() == "sqlite" and name and not name.startswith((":", "file:"))
    if is_file and not (is_given and Path(name).is_absolute()):
        parsed = parsed.set(database=os.path.relpath(Path(name).resolve(), folder))
    yield f"url = {_text(parsed.render_as_string(hide_password=False))}"


def _load_lines(table: _Table) -> Iterator[str]:
    load, profile = table.load, table.profile
    yield "[[load]]"
    yield f"# {_counted(profile)}"
    yield f"source = {_text(load.source[0])}"
    if not _says_format(load.source[0]):
        yield 'format = "csv"'
    yield f"table = {_text(load.table or '')}"
    if table.target is None:
        yield _with_comment("create = true", "the table is not there: the first load makes it")
        yield from _key_lines(table)
    if ignored := [column.name for column in profile.columns if column.name not in table.columns]:
        comment = "the table has no such column"
        yield _with_comment(f"ignore_columns = [{', '.join(map(_text, ignored))}]", comment)
    for key in table.foreign_keys:
        yield (
            f"# foreign key: every {key.column} that is not NULL is found as {key.parent_column} in {key.parent}"
            f"{'; create makes none' if table.target is None else ''}"
        )
    yield from _csv_lines(load.csv)
    yield from _column_lines(table)


def _says_format(source: str) -> bool:
    """A folder has files that do."""
    try:
        format_of(source)
    except ConfigError:
        return Path(source).suffix == ""
    return True


def _counted(profile: Profile) -> str:
    records = f"{profile.records:,} record{'' if profile.records == 1 else 's'}"
    if not profile.unreadable:
        return records
    return f"{records}, {profile.unreadable:,} of which cannot be read: a load lists them as rejects"


def _key_lines(table: _Table) -> Iterator[str]:
    if table.key:
        keys = ", ".join(map(_text, table.key))
        yield _with_comment(f"key = [{keys}]", "different in every record, and never NULL")
    else:
        yield "# no key: no column and no pair of columns was found different in every record and never NULL"


def _csv_lines(csv: Csv) -> Iterator[str]:
    usual = Csv()
    found = {
        "delimiter": _text(csv.delimiter) if csv.delimiter != usual.delimiter else None,
        "quote": _text(csv.quote) if csv.quote != usual.quote else None,
        "header": "false" if not csv.header else None,
        "encoding": _text(csv.encoding) if csv.encoding != usual.encoding else None,
        "decimal": _text(csv.decimal) if csv.decimal != usual.decimal else None,
        "thousands": _text(csv.thousands) if csv.thousands != usual.thousands else None,
    }
    if any(found.values()):
        yield ""
        yield "[load.csv]"
        for key, value in found.items():
            if value is not None:
                is_guess = key == "encoding" and csv.encoding in CODE_PAGES
                line = f"{key} = {value}"
                yield _with_comment(line, "a guess: it is no UTF-8") if is_guess else line


def _column_lines(table: _Table) -> Iterator[str]:
    yield ""
    yield _with_comment("[load.columns]", "target column = source column")
    targets = {column.name: column for column in table.target.columns} if table.target is not None else {}
    for column in table.profile.columns:
        if (name := table.columns.get(column.name)) is None:
            continue
        target = targets.get(name)
        kept = target.type if target is not None else column.type
        line = f"{_bare(name)} = {_feed(column, kept)}"
        yield _with_comment(line, _words_of(column, kept, table.profile))
    fed = set(table.columns.values())
    for name, target in targets.items():
        if name not in fed:
            is_required = not (target.nullable or target.has_default or target.is_generated)
            yield f"# {name}: not in the file" + (", and NOT NULL without a default" if is_required else "")


def _feed(column: ColumnProfile, type_: ColumnType) -> str:
    if column.format is None or type_.kind not in _TIMES:
        return _text(column.name)
    return f"{{ from = {_text(column.name)}, format = {_text(column.format)} }}"


def _words_of(column: ColumnProfile, kept: ColumnType, profile: Profile) -> str:
    words = _type_words(kept)
    if kept.kind is not column.type.kind:
        words += f" in the table, {_type_words(column.type)} in the file"
    rows = profile.records - profile.unreadable
    if column.nulls:
        words += ", always NULL" if column.nulls == rows else f", {column.nulls:,} NULL"
    return words


def _type_words(type_: ColumnType) -> str:
    limits = [limit for limit in (type_.length, type_.precision, type_.scale) if limit is not None]
    return f"{type_.kind.value}({','.join(map(str, limits))})" if limits else type_.kind.value


def _with_comment(line: str, comment: str) -> str:
    return f"{line:<{_WIDTH}}  # {comment}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _bare(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)
