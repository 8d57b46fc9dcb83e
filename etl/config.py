"""A config file: TOML, validated by pydantic models, all errors told at once with the place and what is allowed.

``read_job`` is the way in. Everything it gives is frozen; paths are kept as the user wrote them, with the folder of
the config file beside them (``Job.folder``), so that messages speak the user's words.
"""

from __future__ import annotations

import codecs
import datetime as dt
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from etl.errors import ConfigError
from etl.showing import shown_argument, without_passwords

Method = Literal["auto", "copy", "bulk", "row"]
Format = Literal["csv", "parquet"]
Constant = bool | int | float | dt.datetime | dt.date | dt.time | str

RECORD_BYTES = 16_000_000  # of a record, at most, unless the config says otherwise
MOST_RECORD_BYTES = 500_000_000  # PostgreSQL takes no value of 1 GB, and one is held a few times over

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _as_tuple(value: object) -> object:
    """One string stands for a list of one."""
    return (value,) if isinstance(value, str) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class RejectLimit(_Model):
    """``max_rejects``: a number of records, or a share of the records read, exact as it was written."""

    number: int | None = None
    share: Decimal | None = None

    def __str__(self) -> str:
        return f"{(self.share * 100).normalize():f}%" if self.share is not None else str(self.number)

    def is_passed_by(self, rejected: int, read: int) -> bool:
        return rejected > (self.number or 0 if self.share is None else self.share * read)


def parse_limit(value: object) -> RejectLimit | None:
    """A value of ``max_rejects``; None means no limit. Raises ValueError, which says what is allowed."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return RejectLimit(number=value)
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", value)):
        percent = Decimal(match[1])
        if percent <= 100:
            return RejectLimit(share=(percent / 100).normalize())
    if value is None or isinstance(value, RejectLimit):
        return value
    raise ValueError('a number of records such as 100, or a share of those read such as "1%"')


def _parse_record_bytes(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_RECORD_BYTES:
        return value
    raise ValueError(f"a number of bytes such as 16_000_000, at most {MOST_RECORD_BYTES:_}")


def _parse_commit_every(value: object) -> object:
    if value in ("file", "run") or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError('a number of rows such as 100_000, "file" or "run"')


def _parse_column(value: object) -> object:
    """``column = "Source"`` is short for ``column = { from = "Source" }``."""
    if isinstance(value, str):
        return {"from": value}
    if isinstance(value, dict | ColumnSource):
        return value
    raise ValueError('the name of a source column, or a table such as { from = "Date", format = "%d/%m/%Y" }')


def _parse_constant(value: object) -> object:
    if isinstance(value, list | dict):
        raise ValueError("a string, a number, a boolean, a date or a time")
    return value


class Csv(_Model):
    """``[load.csv]``: the dialect of a CSV source."""

    delimiter: str = ","
    quote: str = '"'
    header: bool = True
    encoding: str = "utf-8"
    null: Strings = ("",)

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if len(value) != 1 or not value.isascii() or value in "\r\n\0":
            raise ValueError('one ASCII character such as "," or "\\t"')
        return value

    @field_validator("quote")
    @classmethod
    def _one_character_or_none(cls, value: str) -> str:
        if len(value) > 1 or not value.isascii() or value in ("\r", "\n", "\0"):
            raise ValueError('one ASCII character such as \'"\', or "" for none')
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            is_text = codecs.lookup(value)._is_text_encoding
        except LookupError:
            is_text = False
        if not is_text:
            raise ValueError('a text encoding that Python knows, such as "utf-8", "latin-1" or "cp1252"')
        return value

    @model_validator(mode="after")
    def _delimiter_is_not_quote(self) -> Self:
        if self.delimiter == self.quote:
            raise ValueError("delimiter and quote must not be the same character")
        return self


class ColumnSource(_Model):
    """Where a target column takes its values from: a source column, or a constant."""

    source: str | None = Field(default=None, alias="from")
    format: str | None = None
    value: Annotated[Constant | None, BeforeValidator(_parse_constant)] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.source is None) == (self.value is None):
            raise ValueError("give exactly one of from and value")
        if self.format is not None and self.source is None:
            raise ValueError("format goes with from")
        return self


class Child(_Model):
    """``[load.children.NAME]``: a column of lists, whose elements are rows of a table of their own."""

    source: str = Field(
        default="",
        description="the column of lists, or its path in a struct; if it is not given, that of the name NAME",
        examples=["lines"],
    )
    table: str | None = Field(
        default=None,
        description="the table of the elements; with `model` the relationship NAME of the class says it",
        examples=["order_lines"],
    )
    through: str | None = Field(
        default=None,
        description="the association table between both, for elements that many records may share",
        examples=["product_tags"],
    )
    key: Strings = Field(
        default=(),
        description="for shared elements: the columns by which one that is there already is found; "
        "if not given, the unique constraint all of whose columns the elements give",
        examples=["name"],
    )
    missing: Literal["create", "reject"] = Field(
        default="create",
        description='for shared elements: what becomes of one that is not there, `"create"` or `"reject"`',
        examples=["reject"],
    )
    position: str | None = Field(
        default=None,
        description="a column that takes the element's place in its list, from 1",
        examples=["line_no"],
    )
    orphans: Literal["refuse", "reject"] = Field(
        default="refuse",
        description='what a bad element costs: `"refuse"`, the whole record; `"reject"`, itself alone',
        examples=["reject"],
    )
    ignore_columns: Strings = Field(
        default=(),
        description='fields of the elements that no column takes; `"*"` for all',
        examples=[["note"]],
    )
    columns: Mapping[str, Annotated[ColumnSource, BeforeValidator(_parse_column)]] = Field(
        default_factory=dict,
        description="which field of the elements feeds which column, as in `[load.columns]`; "
        "an element that is no struct is called `element`",
        examples=[{"sku": "product.sku"}],
    )
    children: Mapping[str, Child] = Field(
        default_factory=dict,
        description="lists in the elements, in the same way",
        examples=[{"taxes": {"table": "line_taxes"}}],
    )

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.through is not None and self.position is not None:
            raise ValueError("position is not for elements that are shared through an association table")
        if self.through is not None and self.children:
            raise ValueError("elements that are shared through an association table have no children of their own")
        return self


class Load(_Model):
    """``[[load]]``: sources into one table."""

    source: Strings
    name: str = ""
    format: Format | None = None
    table: str | None = None
    model: str | None = None
    create: bool = False
    key: Strings = ()
    on_duplicate: Literal["skip", "update", "replace", "error"] = "skip"
    record_duplicates: bool = False
    max_rejects: Annotated[RejectLimit | None, BeforeValidator(parse_limit)] = None
    max_record_bytes: Annotated[int, BeforeValidator(_parse_record_bytes)] = RECORD_BYTES
    commit_every: Annotated[int | Literal["file", "run"], BeforeValidator(_parse_commit_every)] = 100_000
    method: Method = "auto"
    ignore_columns: Strings = ()
    csv: Csv = Csv()
    columns: Mapping[str, Annotated[ColumnSource, BeforeValidator(_parse_column)]] = Field(default_factory=dict)
    children: Mapping[str, Child] = Field(
        default_factory=dict,
        description="columns of lists, whose elements are rows of other tables ([nested records](nested.md))",
        examples=[{"lines": {"table": "order_lines", "position": "line_no"}}],
    )

    @field_validator("source")
    @classmethod
    def _some_source(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(value):
            raise ValueError("a path, a glob, a folder, or a list of these")
        if any("://" in source for source in value):
            raise ValueError('URLs are not there yet: fetch the file first, or pipe it in with "-"')
        return value

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if bool(self.table) == bool(self.model):
            raise ValueError('give exactly one of table and model, such as table = "orders"')
        return self

    @model_validator(mode="after")
    def _whole_records_are_replaced(self) -> Self:
        if self.children and self.on_duplicate == "update":
            raise ValueError('with [load.children] on_duplicate = "replace" takes the place of "update"')
        if not self.children and self.on_duplicate == "replace":
            raise ValueError('on_duplicate = "replace" is for loads with [load.children]')
        if self.model is None:
            _require_tables(self.children)
        return self

    @model_validator(mode="after")
    def _what_is_not_there_yet(self) -> Self:
        if self.create:
            raise ValueError("create = true is not there yet: create the table first and leave create out")
        if self.on_duplicate == "update":
            raise ValueError('on_duplicate = "update" is not there yet: "skip" and "error" are')
        return self


def _require_tables(children: Mapping[str, Child]) -> None:
    """Raise ValueError for a child without a table."""
    for name, child in children.items():
        if not child.table:
            raise ValueError(f'[load.children.{name}] needs a table, such as table = "order_lines"')
        _require_tables(child.children)


class Database(_Model):
    """``[database]``: where the tables and the ledger are."""

    url: str = Field(repr=False)  # it may hold a password
    isolation_level: Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] | None = None
    db_schema: str | None = Field(default=None, alias="schema")
    ledger_schema: str = "etl"

    @field_validator("url")
    @classmethod
    def _supported_url(cls, value: str) -> str:
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            # Not chained and not quoted: what could not be parsed may hold a password.
            url = URL.create("")
        if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"):
            raise ValueError("a database URL such as sqlite:///shop.db or postgresql://host/name") from None
        behind_user = value.partition("://")[2].partition(":")[2]
        if url.password is not None and behind_user.count("@") > 1:
            # What is behind the first @ of a password would be taken for the host, and shown as such.
            raise ValueError("a database URL that has an @ in the user name or password as %40")
        return value

    @field_validator("ledger_schema")
    @classmethod
    def _translatable_schema(cls, value: str) -> str:
        if not value or not {"[", "]", "\0"}.isdisjoint(value):
            raise ValueError("a schema's name without square brackets, which SQLAlchemy does not take there")
        return value

    @property
    def sqlalchemy_url(self) -> URL:
        return make_url(self.url)

    @property
    def ledger_place(self) -> str | None:
        """The schema of the ledger's tables; None on SQLite, which has no schemas."""
        return self.ledger_schema if self.sqlalchemy_url.get_backend_name() == "postgresql" else None


class Job(_Model):
    """A whole config file. ``name`` is the file's name: it identifies the job in the ledger."""

    name: str
    folder: Path
    database: Database
    loads: tuple[Load, ...]


def read_job(path: str | os.PathLike[str]) -> Job:
    """Read and validate the config file at ``path``.

    Raises ConfigError with one line for each thing that is wrong: file, table, key, the value seen, what is allowed.
    """
    file = Path(path)
    job = _validated(file, _expand(_parse(file), file))
    return job.model_copy(update={"database": _anchored(job.database, job.folder)})


def read_database(path_or_url: str) -> tuple[Database, str | None]:
    """The database that a command such as ``etl history`` is pointed at, and the job's name if it was by a config.

    ``${NAME}`` in it is taken from the environment, as in a config: an argument can be seen by every user of the
    machine. Raises ConfigError when it is neither a config file that can be read nor a database URL.
    """
    missing: list[str] = []
    text = str(_expand_into(path_or_url, ("database", "url"), missing))
    if missing:
        raise ConfigError(f"{missing[0].partition(': ')[2]}.", "Set it, or give a default as in ${NAME:-default}.")
    if "://" not in text:
        job = read_job(text)
        return job.database, job.name
    try:
        return Database(url=text), None
    except ValidationError as error:
        allowed = _allowed(error.errors()[0]).removeprefix("a database URL")
        raise ConfigError("The database URL cannot be used.", f"Give one{allowed}.") from None


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no config file {shown_argument(str(file))}.", "Give the path of a job's TOML file."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"The config file {shown_argument(str(file))} cannot be read: {error.strerror}.",
            "Give the path of a job's TOML file.",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start} is not UTF-8.", "Save the config as UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}.", "Correct it there.") from None


def _expand(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Put the environment's values in place of ``${NAME}`` and ``${NAME:-default}``, in every string."""
    missing: list[str] = []
    expanded: dict[str, Any] = _expand_into(content, (), missing)
    if missing:
        remedy = "Set it, or give a default as in ${NAME:-default}; nothing was started."
        raise ConfigError(_listed(file, missing), remedy if len(missing) == 1 else "")
    return expanded


def _expand_into(value: Any, location: tuple[str | int, ...], missing: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand_into(item, (*location, key), missing) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand_into(item, (*location, index), missing) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        default: str | None = match["default"]
        found = os.environ.get(match["name"], default)
        if found is None:
            missing.append(f"{_place(location).where}: ${{{match['name']}}} is not set in the environment")
            return ""
        return found

    return _VARIABLE.sub(replace, value)


class _ConfigFile(_Model):
    """The top level of the TOML file, with ``[defaults]`` already merged into each load."""

    database: Database
    load: tuple[Load, ...]
    defaults: dict[str, Any] = Field(default_factory=dict)

    @field_validator("load", mode="before")
    @classmethod
    def _some_loads(cls, value: object) -> object:
        if not isinstance(value, list) or not value:
            raise ValueError("one or more [[load]] tables, each under its double brackets")
        return value


def _validated(file: Path, content: dict[str, Any]) -> Job:
    errors = list(_default_errors(content.get("defaults", {})))
    try:
        parsed = _ConfigFile.model_validate(_with_defaults(content))
    except ValidationError as error:
        errors += [_sentence(item, content) for item in error.errors(include_url=False)]
    else:
        errors += _double_names(parsed.load)
    if errors:
        errors = list(dict.fromkeys(errors))
        raise ConfigError(_listed(file, errors), "Nothing was started." if len(errors) == 1 else "")
    loads = tuple(load.model_copy(update={"name": _name(load)}) for load in parsed.load)
    name = os.fsencode(file.name).decode("utf-8", "backslashreplace")  # the ledger takes text only
    return Job(name=name, folder=file.resolve().parent, database=parsed.database, loads=loads)


def _with_defaults(content: dict[str, Any]) -> dict[str, Any]:
    defaults, loads = content.get("defaults", {}), content.get("load", [])
    if not isinstance(defaults, dict) or not isinstance(loads, list):
        return content
    return content | {"load": [_merged(defaults, load) if isinstance(load, dict) else load for load in loads]}


def _merged(defaults: dict[str, Any], load: dict[str, Any]) -> dict[str, Any]:
    """A load's own key wins; ``csv`` and ``columns`` are merged key by key; a model stands in for a default table."""
    tables = {
        key: defaults[key] | load.get(key, {})
        for key in ("csv", "columns")
        if isinstance(defaults.get(key), dict) and isinstance(load.get(key, {}), dict)
    }
    others = {"table": "model", "model": "table"}
    known = _keys(Load)
    inherited = {key: value for key, value in defaults.items() if key in known and others.get(key) not in load}
    return inherited | load | tables


def _default_errors(defaults: object) -> Iterator[str]:
    """Keys that no load knows are told once, at [defaults], and not again for each load."""
    if isinstance(defaults, dict):
        allowed = _keys(Load)
        yield from (f"[defaults] {key}: unknown key{_hint(key, allowed)}" for key in defaults if key not in allowed)


def _double_names(loads: tuple[Load, ...]) -> list[str]:
    names = [_name(load) for load in loads]
    doubled = sorted({name for name in names if names.count(name) > 1})
    return [f'[[load]] name: "{name}" is used by {names.count(name)} loads; give each its own name' for name in doubled]


def _name(load: Load) -> str:
    return load.name or load.table or (load.model or "").rpartition(":")[2]


def _anchored(database: Database, folder: Path) -> Database:
    """A relative SQLite path is relative to the config file, like every other path in it."""
    url = database.sqlalchemy_url
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or name in ("", ":memory:") or name.startswith("file:"):
        return database
    anchored = url.set(database=os.path.normpath(folder / name))
    return database.model_copy(update={"url": anchored.render_as_string(hide_password=False)})


def _listed(file: Path, errors: list[str]) -> str:
    if len(errors) == 1:
        return f"{file}: {errors[0]}" + ("" if errors[0].endswith("?") else ".")
    lines = [f"{file} has {len(errors)} errors, nothing was started:", *(f"  {error}" for error in errors)]
    return "\n".join(lines)


# What pydantic calls an error of a wrong type, in the words of TOML.
_ALLOWED = {
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a string, or a list of strings",
    "dict_type": "a table",
    "mapping_type": "a table",
    "is_instance_of": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def _sentence(error: Mapping[str, Any], content: dict[str, Any]) -> str:
    place = _place(error["loc"], content)
    if error["type"] == "extra_forbidden":
        return f"{place.where}: unknown key{_hint(str(error['loc'][-1]), _keys(place.model))}"
    if error["type"] == "missing":
        return f"{place.where} is missing"
    allowed = _ALLOWED.get(error["type"]) or _allowed(error)
    seen = error["input"]
    if error["loc"] == ("database", "url"):
        return f"{place.where}: its value (not shown: it may hold a password) is not allowed; allowed: {allowed}"
    if isinstance(seen, BaseModel) or (isinstance(seen, dict) and error["type"] == "value_error"):
        return f"{place.where}: {allowed}"
    return f"{place.where}: {_shown(seen)} is not allowed; allowed: {allowed}"


def _allowed(error: Mapping[str, Any]) -> str:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace("'", '"')
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = without_passwords(text)
    return text if len(text) <= 60 else f"{text[:57]}…"


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the config file: words for its TOML table, the key in it, the model that knows the keys."""

    table: str
    key: str
    model: type[BaseModel]

    @property
    def where(self) -> str:
        return f"{self.table} {self.key}" if self.key else self.table.removesuffix(",")


def _place(location: tuple[str | int, ...], content: dict[str, Any] | None = None) -> _Place:
    """The place for pydantic's location of an error; what only ``[defaults]`` of ``content`` has is there."""
    first, *rest = location
    if first == "database":
        return _Place("[database]", ".".join(map(str, rest)), Database)
    if first == "defaults":
        return _load_place([str(part) for part in rest], "[defaults]", "[defaults.{}]")
    if first != "load" or not rest or not isinstance(rest[0], int):
        return _Place("[[load]]" if first == "load" else f"[{first}]", "", _ConfigFile)
    index, path = rest[0], [str(part) for part in rest[1:]]
    if content and not _has(content["load"][index], path) and _has(content.get("defaults"), path):
        return _load_place(path, "[defaults]", "[defaults.{}]")
    return _load_place(path, f"[[load]] number {index + 1},", f"[load.{{}}] of load {index + 1},")


def _load_place(path: list[str], table: str, subtable: str) -> _Place:
    if path[:1] == ["csv"]:
        return _Place(subtable.format("csv"), ".".join(path[1:2]), Csv)
    if path[:1] == ["columns"]:
        return _Place(subtable.format("columns"), ".".join(path[1:3]), ColumnSource)
    if path[:1] == ["children"] and path[1:]:
        return _child_place(path, subtable)
    return _Place(table, ".".join(path[:1]), Load)


def _child_place(path: list[str], subtable: str) -> _Place:
    above: list[str] = []
    while path[:1] == ["children"] and path[1:]:
        above, path = [*above, *path[:2]], path[2:]
    if path[:1] == ["columns"]:
        return _Place(subtable.format(".".join([*above, "columns"])), ".".join(path[1:3]), ColumnSource)
    return _Place(subtable.format(".".join(above)), ".".join(path[:1]), Child)


def _has(table: object, path: list[str]) -> bool:
    """Whether the keys of ``path``, the first two of them at most, lead to something in ``table``."""
    for key in path[:2] if path[:1] in (["csv"], ["columns"]) else path[:1]:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _hint(key: str, allowed: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key.rpartition(".")[2], allowed, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; allowed: {', '.join(allowed)}"
