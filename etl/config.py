"""A config file: TOML, validated by pydantic models, all errors told at once with the place and what is allowed.

``read_job`` is the way in. Everything it gives is frozen; paths are kept as the user wrote them, with the folder of
the config file beside them (``Job.folder``), so that messages speak the user's words.
"""

from __future__ import annotations

import codecs
import datetime as dt
import difflib
import itertools
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from encodings.aliases import aliases
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from etl.addresses import STORES, WEB, scheme_of
from etl.errors import ConfigError
from etl.showing import shown_argument, without_passwords
from etl.zones import is_time_zone

Method = Literal["auto", "copy", "bulk", "row"]
Format = Literal["csv", "jsonl", "parquet", "arrow"]
Constant = bool | int | float | dt.datetime | dt.date | dt.time | str

RECORD_BYTES = 16_000_000  # of a record, at most, unless the config says otherwise
MOST_RECORD_BYTES = 500_000_000  # PostgreSQL takes no value of 1 GB, and one is held a few times over

_QUERY_VALUE = re.compile(r"(?<==)[^=&\s\"']+")
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _as_tuple(value: object) -> object:
    """One string stands for a list of one."""
    return (value,) if isinstance(value, str) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_as_tuple, json_schema_input_type=str | list[str])]


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


def _is_number(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _parse_header(value: object) -> object:
    if isinstance(value, list) and len(value) == 1:
        return _parse_header(value[0])
    if isinstance(value, list | tuple):
        if value and all(_is_number(line, 1) for line in value) and sorted(set(value)) == list(value):
            return tuple(value)
    elif isinstance(value, bool) or _is_number(value, 1):
        return value
    raise ValueError("true, false, the number of a line such as 3, or several in their order such as [3, 4]")


def _parse_skip_lines(value: object) -> object:
    if _is_number(value, 0):
        return value
    raise ValueError("a number of lines such as 2")


def _parse_constant(value: object) -> object:
    if isinstance(value, list | dict):
        raise ValueError("a string, a number, a boolean, a date or a time")
    return value


def _encoding_hint(name: str) -> str:
    names = {alias for alias, codec in aliases.items() if not codec.endswith("_codec") and codec != "rot_13"}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), names | {"utf_8_sig"}, n=1)
    return f'; did you mean "{close[0].replace("_", "-")}"?' if close else ""


# What may be written in the file, where that is more than the type of what is made of it.
_Share = Annotated[str, Field(pattern=r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$")]
_LimitAsWritten = Annotated[int, Field(ge=0)] | _Share
_BytesAsWritten = Annotated[int, Field(gt=0, le=MOST_RECORD_BYTES)]
_LinesAsWritten = Annotated[int, Field(ge=0)]
_HeaderAsWritten = bool | Annotated[int, Field(gt=0)] | list[Annotated[int, Field(gt=0)]]
_IntervalAsWritten = Annotated[int, Field(gt=0)] | Literal["file", "run"]


def _parse_constants(value: object) -> object:
    if not isinstance(value, list | tuple) or not value or any(isinstance(item, list | dict) for item in value):
        raise ValueError('a list of strings, numbers, booleans, dates or times, such as ["paid", "sent"]')
    return tuple(value)


def _parse_args(value: object) -> object:
    """One column stands for a list of one."""
    args = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(arg, str | Argument) or _is_constant(arg) for arg in args):
        raise ValueError('a list of source columns and constants, such as ["price", { value = 100 }]')
    return tuple(args)


def _is_constant(arg: object) -> bool:
    return isinstance(arg, dict) and list(arg) == ["value"] and not isinstance(arg["value"], list | dict)


def _parse_conditions(value: object) -> object:
    """One condition stands for a list of one."""
    if isinstance(value, dict | Condition):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(item, dict | Condition) for item in value):
        return tuple(value)
    raise ValueError('a list of conditions, such as [{ column = "status", equals = "paid" }]')


_AnyConstant = Annotated[Constant | None, BeforeValidator(_parse_constant)]
_Constants = Annotated[tuple[Constant, ...] | None, BeforeValidator(_parse_constants)]


class Csv(_Model):
    """``[load.csv]``: the dialect of a CSV source."""

    delimiter: str = Field(default=",", description="one ASCII character", examples=["\t"])
    quote: str = Field(
        default='"',
        description='one ASCII character, doubled inside quotes; `""` for files without quoting',
        examples=["'"],
    )
    header: Annotated[
        bool | int | tuple[int, ...], BeforeValidator(_parse_header, json_schema_input_type=_HeaderAsWritten)
    ] = Field(
        default=True,
        description="`false`: the names come from `[load.columns]`, in its order, or are `f1`, `f2`, …; a number: the "
        "line of the file that is the header, the lines before it are skipped; a list: these lines, their names "
        "[put together](csv.md#header)",
        examples=[3],
    )
    encoding: str = Field(
        default="utf-8",
        description="any text encoding that Python knows; a byte order mark is removed",
        examples=["cp1252"],
    )
    null: Strings = Field(
        default=("",),
        description="unquoted texts that mean NULL; in quotes they are themselves",
        examples=[["", "NULL"]],
    )
    escape: str = Field(
        default="",
        description="one ASCII character: a quote, delimiter, line end or escape behind it is data, in quotes and "
        "outside of them. [Before anything else](csv.md#escapes) it costs the record; with `null = ['\\N']` a field "
        "`\\N` is NULL",
        examples=["\\"],
    )
    doubled_quotes: bool = Field(
        default=True,
        description="`false`: a doubled quote in quotes is no quote, and costs the record; for files that write "
        "`escape` before it",
        examples=[False],
    )
    strict_quotes: bool = Field(
        default=True,
        description='`false`: a quote in a field that does not begin with one is data, as in `5" pipe`. Text behind a '
        "closing quote is refused either way",
        examples=[False],
    )
    comment: str = Field(
        default="",
        description="lines that begin with this text are no records; inside quotes they are data",
        examples=["#"],
    )
    skip_lines: Annotated[int, BeforeValidator(_parse_skip_lines, json_schema_input_type=_LinesAsWritten)] = Field(
        default=0,
        description="so many lines at the start of the file are not looked at, whatever is in them; the header, if "
        "there is one, is the first line behind them that is neither blank nor a comment",
        examples=[2],
    )
    decimal: Literal[".", ","] = Field(
        default=".", description="the decimal point of numbers, for target columns that are numbers", examples=[","]
    )
    thousands: str = Field(
        default="",
        description="one character between groups of three digits, for target columns that are numbers; a number "
        "may have all of them or none, and is [refused](csv.md#numbers-and-words) where one is at another place",
        examples=["'"],
    )
    true_words: Strings = Field(
        default=(),
        description="texts that mean true, for target columns that are booleans, as they are written; given together "
        "with `false_words`, and then no other words count. Default: PostgreSQL's, in [types](types.md)",
        examples=[["1"]],
    )
    false_words: Strings = Field(default=(), description="the same for false", examples=[["0"]])

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if len(value) == 2 and value[0] == "\\":
            raise ValueError(f'one character; TOML takes no escapes in single quotes, so use double ones: "{value}"')
        if len(value) > 1:
            raise ValueError('one ASCII character such as "," or "\\t": delimiters of several characters are not read')
        if len(value) != 1 or not value.isascii() or value in "\r\n\0":
            raise ValueError('one ASCII character such as "," or "\\t"')
        return value

    @field_validator("quote", "escape")
    @classmethod
    def _one_character_or_none(cls, value: str, info: ValidationInfo) -> str:
        if len(value) > 1 or not value.isascii() or value in ("\r", "\n", "\0"):
            usual = "'\"'" if info.field_name == "quote" else "'\\'"
            raise ValueError(f'one ASCII character such as {usual}, or "" for none')
        return value

    @field_validator("comment")
    @classmethod
    def _begins_a_line(cls, value: str) -> str:
        if not {"\r", "\n", "\0"}.isdisjoint(value):
            raise ValueError('what lines of comment begin with, such as "#", or "" for none')
        return value

    @field_validator("thousands")
    @classmethod
    def _separates_digits(cls, value: str) -> str:
        if len(value) > 1 or value in ("+", "-", "\r", "\n", "\0") or (value not in ("", "_") and value.isalnum()):
            raise ValueError('one character that is no letter, digit or sign, such as "." or " ", or "" for none')
        return value

    @field_validator("true_words", "false_words")
    @classmethod
    def _whole_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word or word != word.strip() for word in value):
            raise ValueError("texts that are not empty, without white space around them")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            is_text = codecs.lookup(value)._is_text_encoding
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            known = 'a text encoding that Python knows, such as "utf-8", "latin-1" or "cp1252"'
            raise ValueError(f"{known}{_encoding_hint(value)}")
        return value

    @model_validator(mode="after")
    def _marks_are_different(self) -> Self:
        marks = {"delimiter": self.delimiter, "quote": self.quote, "escape": self.escape, "comment": self.comment[:1]}
        given = [(name, mark) for name, mark in marks.items() if mark]
        for (name, mark), (other, other_mark) in itertools.combinations(given, 2):
            if mark == other_mark == self.quote and other == "escape":
                raise ValueError("quote and escape are the same character: a quote is doubled anyway, leave escape out")
            if mark == other_mark:
                raise ValueError(
                    f"{name} and {other} must not {'begin with' if other == 'comment' else 'be'} the same character"
                )
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands must not be the same character")
        return self

    @model_validator(mode="after")
    def _header_is_not_skipped(self) -> Self:
        lines = self.header if isinstance(self.header, tuple) else (self.header,)
        if not isinstance(self.header, bool) and lines[0] <= self.skip_lines:
            raise ValueError(f"header is line {lines[0]}, but skip_lines skips {self.skip_lines}: leave it out")
        return self

    @model_validator(mode="after")
    def _words_for_both(self) -> Self:
        if bool(self.true_words) != bool(self.false_words):
            raise ValueError("true_words and false_words must be given together")
        doubled = set(self.true_words) & set(self.false_words)
        if doubled:
            raise ValueError(f"true_words and false_words both have {', '.join(map(repr, sorted(doubled)))}")
        return self


class Argument(_Model):
    """A constant among the arguments of ``compute``."""

    value: Annotated[Constant, BeforeValidator(_parse_constant)] = Field(
        description="the same value for every record", examples=[100]
    )


class ColumnSource(_Model):
    """Where a target column takes its values from: exactly one of ``ORIGINS``, and how they are read."""

    ORIGINS: ClassVar = ("from", "value", "file", "record", "line", "concat", "compute")

    source: str | None = Field(default=None, alias="from", description="the source column", examples=["Date"])
    format: Strings = Field(
        default=(),
        description="how dates and times are written, in the terms of Python's `strptime`, or `epoch` or `epoch_ms` "
        "for seconds or milliseconds since 1970 in UTC; of a list the first that reads the text "
        "([mapping](mapping.md#dates-and-times)). By default ISO 8601",
        examples=["%d/%m/%Y"],
    )
    value: _AnyConstant = Field(default=None, description="the same value in every row", examples=["PT"])
    timezone: str | None = Field(
        default=None,
        description="the IANA name of the zone that a timestamp without an offset is in, by default UTC; "
        "for columns with time zone ([mapping](mapping.md#time-zones))",
        examples=["Europe/Lisbon"],
    )
    trim: bool = Field(default=False, description="cut white space off both ends of the text", examples=[True])
    case: Literal["upper", "lower"] | None = Field(
        default=None, description="`upper` or `lower`: the text in that case", examples=["upper"]
    )
    empty_as_null: bool | None = Field(
        default=None,
        description="`true`: the empty text is NULL, also in quotes, and what `trim` leaves empty; `false`: a bare "
        "empty field is the empty text, and not NULL",
        examples=[True],
    )
    default: _AnyConstant = Field(
        default=None,
        description="the value in place of NULL, and where the source has no such column",
        examples=["unknown"],
    )
    file: Literal[True] | None = Field(
        default=None, description="the path of the source, as it is shown", examples=[True]
    )
    record: Literal[True] | None = Field(default=None, description="the number of the record", examples=[True])
    line: Literal[True] | None = Field(
        default=None, description="the line where the record begins; NULL for Parquet", examples=[True]
    )
    concat: Strings = Field(
        default=(),
        description="source columns whose texts are joined; NULLs are left out",
        examples=[["first", "last"]],
    )
    separator: str | None = Field(
        default=None, description="what stands between the texts of `concat`, by default nothing", examples=[" "]
    )
    compute: str | None = Field(
        default=None,
        description="a function of pyarrow's `compute` that makes the value ([list](mapping.md#expressions))",
        examples=["utf8_reverse"],
    )
    args: Annotated[
        tuple[str | Argument, ...],
        BeforeValidator(_parse_args, json_schema_input_type=str | Argument | list[str | Argument]),
    ] = Field(
        default=(),
        description="the arguments of `compute`: source columns, and constants as `{ value = 100 }`",
        examples=[["price", {"value": 100}]],
    )
    options: Mapping[str, Any] = Field(
        default_factory=dict, description="the options of `compute`", examples=[{"start": 0, "stop": 3}]
    )
    read_as: str | None = Field(
        default=None,
        alias="as",
        description="the type that the arguments of `compute` are read in, such as `integer` or `numeric(12,2)`; "
        "by default their own, which is text in a CSV file",
        examples=["numeric(12,2)"],
    )

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Every source column that is named, each once."""
        named = (self.source, *self.concat, *(arg for arg in self.args if isinstance(arg, str)))
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def reads_texts(self) -> bool:
        """Whether anything is to be done to a text before it is converted."""
        return self.trim or self.case is not None or self.empty_as_null is not None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = (self.source, self.value, self.file, self.record, self.line, self.concat or None, self.compute)
        if sum(origin is not None for origin in given) != 1:
            raise ValueError(f"give exactly one of {', '.join(self.ORIGINS[:-1])} and {self.ORIGINS[-1]}")
        return self

    @model_validator(mode="after")
    def _companions(self) -> Self:
        """What goes with some origins only."""
        has_texts = self.source is not None or bool(self.concat) or self.compute is not None
        goes_with: dict[str, tuple[dict[str, object], bool]] = {
            "compute": (
                {"args": self.args, "options": self.options, "as": self.read_as is not None},
                self.compute is not None,
            ),
            "concat": ({"separator": self.separator is not None}, bool(self.concat)),
            "from, concat or compute": (
                {
                    "format": self.format,
                    "timezone": self.timezone,
                    "trim": self.trim,
                    "case": self.case,
                    "empty_as_null": self.empty_as_null is not None,
                    "default": self.default is not None,
                },
                has_texts,
            ),
        }
        for origin, (keys, is_given) in goes_with.items():
            stray = [key for key, is_set in keys.items() if is_set and not is_given]
            if stray:
                raise ValueError(f"{stray[0]} goes with {origin}")
        if self.compute is not None and not self.args:
            raise ValueError("compute needs args, the source columns that it computes with")
        return self

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and not is_time_zone(value):
            raise ValueError('the IANA name of a time zone that the system knows, such as "Europe/Lisbon"')
        return value


class Condition(_Model):
    """One condition of ``filter``: a source column and one comparison, or ``any`` of several conditions."""

    COMPARISONS: ClassVar = (
        *("equals", "not_equals", "in", "not_in", "less", "less_equal", "greater", "greater_equal"),
        *("matches", "is_null"),
    )

    column: str | None = Field(default=None, description="the source column", examples=["status"])
    equals: _AnyConstant = Field(default=None, description="is this value", examples=["paid"])
    not_equals: _AnyConstant = Field(default=None, description="is another value, or NULL", examples=["void"])
    is_in: _Constants = Field(default=None, alias="in", description="is one of these", examples=[["paid", "sent"]])
    not_in: _Constants = Field(default=None, description="is none of these, or NULL", examples=[["void", "test"]])
    less: _AnyConstant = Field(default=None, description="is less", examples=[100])
    less_equal: _AnyConstant = Field(default=None, description="is less or equal", examples=[100])
    greater: _AnyConstant = Field(default=None, description="is greater", examples=[0])
    greater_equal: _AnyConstant = Field(default=None, description="is greater or equal", examples=[0])
    matches: str | None = Field(
        default=None, description="has a match of this regular expression (RE2)", examples=["^PT"]
    )
    is_null: bool | None = Field(default=None, description="is NULL, or is not", examples=[False])
    format: Strings = Field(
        default=(), description="how dates and times are written, as for a column", examples=["%d/%m/%Y"]
    )
    any: Annotated[tuple[Condition, ...], BeforeValidator(_parse_conditions)] = Field(
        default=(),
        description="at least one of these conditions holds",
        examples=[[{"column": "status", "equals": "paid"}, {"column": "total", "equals": 0}]],
    )

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Every source column that is named."""
        inner = [name for condition in self.any for name in condition.source_columns]
        return (*(() if self.column is None else (self.column,)), *inner)

    @property
    def comparison(self) -> tuple[str, object]:
        """The name of the comparison, and the value that is compared with."""
        return self._comparisons[0]

    @property
    def _comparisons(self) -> list[tuple[str, object]]:
        given = {name: getattr(self, "is_in" if name == "in" else name) for name in self.COMPARISONS}
        return [(name, value) for name, value in given.items() if value is not None]

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        if self.any and (self.column is not None or self._comparisons):
            raise ValueError("any stands alone, without column and comparison")
        if not self.any and (self.column is None or len(self._comparisons) != 1):
            words = f"{', '.join(self.COMPARISONS[:-1])} and {self.COMPARISONS[-1]}"
            raise ValueError(f"give column and exactly one of {words}")
        return self


class Child(_Model):
    """``[load.children.NAME]``: a column of lists, whose elements are rows of a table of their own."""

    source: str = Field(
        default="",
        description="the column of lists, or its path in a struct",
        examples=["lines"],
        json_schema_extra={"x-unset": "the name NAME"},
    )
    table: str | None = Field(
        default=None,
        description="the table of the elements; with `model` the relationship NAME of the class says it",
        examples=["order_lines"],
        json_schema_extra={"x-unset": "required without `model`"},
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
    columns: Mapping[
        str, Annotated[ColumnSource, BeforeValidator(_parse_column, json_schema_input_type=str | ColumnSource)]
    ] = Field(
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

    source: Strings = Field(
        description="path, glob, folder, `.zip` archive, or `-` for standard input ([sources](sources.md)). Files are "
        "loaded in natural order: `orders-2` before `orders-10`. What becomes of files that change meanwhile: "
        "[results](results.md#sources-that-change)",
        examples=[["a.csv", "b/*.csv.gz"]],
    )
    name: str = Field(
        default="",
        description="what messages, `--only` and the ledger call the load",
        examples=["orders"],
        json_schema_extra={"x-unset": "the table's name"},
    )
    format: Format | None = Field(
        default=None,
        description="`csv`, `parquet`, `jsonl` or `arrow` ([sources](sources.md)); the suffix is looked up through "
        "`.gz`, `.zst`, `.bz2` and `.lz4`",
        examples=["csv"],
        json_schema_extra={"x-unset": "from the suffix"},
    )
    hive: bool = Field(
        default=False,
        description="`true`: a folder stands for the files in its folders too, and each folder `key=value` in the path "
        "of a source is a column `key` of it, whose text is `value` ([sources](sources.md#hive-partitions))",
        examples=[True],
    )
    table: str | None = Field(
        default=None,
        description="the target table, or `schema.table`",
        examples=["orders"],
        json_schema_extra={"x-unset": "this or `model`"},
    )
    model: str | None = Field(
        default=None,
        description="a mapped class of SQLAlchemy in place of a table; its module is imported, looked for beside the "
        "config too",
        examples=["shop.models:Order"],
        json_schema_extra={"x-unset": "this or `table`"},
    )
    create: bool = Field(
        default=False,
        description="make the table if it is missing, with the columns of the mapping and the types of the file's "
        "values: see [schemas](schemas.md)",
        examples=[True],
    )
    add_columns: bool = Field(
        default=False,
        description="add the file's columns that the table lacks, as columns that may be NULL: see "
        "[schemas](schemas.md)",
        examples=[True],
    )
    key: Strings = Field(
        default=(),
        description="the columns of the unique constraint that says which rows are duplicates; a row that repeats "
        "another unique constraint is a reject then. By default each of them is meant, and for an update the primary "
        "key. Of a table that `create` makes it is the primary key",
        examples=[["order_id"]],
    )
    on_duplicate: Literal["skip", "update", "replace", "error"] = Field(
        default="skip",
        description=(
            "what happens to a row whose key is already there: `skip` counts it and goes on, `update` gives its values "
            "to the row that is there ([exactly](results.md#updates)), `replace` is that for a record with `children` "
            "([exactly](nested.md#replacing)), `error` ends the run"
        ),
        examples=["error"],
    )
    update_columns: Strings = Field(
        default=(),
        description=(
            'with `on_duplicate = "update"`: the columns that an existing row takes from the source; the others keep '
            "their values. By default all that the load feeds, but for the key"
        ),
        examples=[["price"]],
    )
    newer_by: str | None = Field(
        default=None,
        description=(
            'with `on_duplicate = "update"`: a row is updated only if the value of this column is greater than the '
            "one it has; an older record is `unchanged`. A NULL in the table is older than any value, a NULL in the "
            "source is never newer"
        ),
        examples=["updated_at"],
    )
    record_duplicates: bool = Field(
        default=False, description="list duplicates in `etl rejects` too, in the phase `duplicate`", examples=[True]
    )
    max_rejects: Annotated[RejectLimit | None, BeforeValidator(parse_limit, json_schema_input_type=_LimitAsWritten)] = (
        Field(
            default=None,
            description="more rejects of the load than this end the run with exit code 4, before the open transaction "
            "is committed: a number, or a share of the records read so far (judged from 1,000 records on, and at the "
            "end of the load). `etl load --max-rejects` overrides it",
            examples=["1%"],
            json_schema_extra={"x-unset": "no limit"},
        )
    )
    max_record_bytes: Annotated[int, BeforeValidator(_parse_record_bytes, json_schema_input_type=_BytesAsWritten)] = (
        Field(
            default=RECORD_BYTES,
            description="a record longer than this is a reject (`too_long`), at most `500_000_000`. In a CSV file the "
            "bytes of the record as text in UTF-8, in a Parquet file those of the values that are read. The memory "
            "that a load takes grows with it: see [limits](#limits)",
            examples=[1_000_000],
        )
    )
    commit_every: Annotated[
        int | Literal["file", "run"], BeforeValidator(_parse_commit_every, json_schema_input_type=_IntervalAsWritten)
    ] = Field(
        default=100_000,
        description='rows in a transaction, `"file"` or `"run"`. A run that dies goes on after the last commit',
        examples=["file"],
    )
    method: Method = Field(
        default="auto",
        description="`auto`, `copy` (PostgreSQL), `bulk` or `row`; the verdicts are the same. `etl check` says which "
        "one is taken and why",
        examples=["bulk"],
    )
    ignore_columns: Strings = Field(
        default=(),
        description='source columns that no target column takes; `"*"` for all. One that is not named is an error',
        examples=[["Exported by"]],
    )
    csv: Csv = Field(default=Csv(), description="how the CSV files are written", examples=[{"delimiter": ";"}])
    columns: Mapping[
        str, Annotated[ColumnSource, BeforeValidator(_parse_column, json_schema_input_type=str | ColumnSource)]
    ] = Field(
        default_factory=dict,
        description="which source column feeds which target column",
        examples=[{"order_id": "Order ID"}],
        json_schema_extra={"x-unset": "same names"},
    )
    filter: Annotated[tuple[Condition, ...], BeforeValidator(_parse_conditions)] = Field(
        default=(),
        description="conditions that a record has to meet, all of them; the others are left out and counted as "
        "`filtered` ([mapping](mapping.md#filter))",
        examples=[[{"column": "status", "equals": "paid"}]],
    )
    transform: str | None = Field(
        default=None,
        description="a function of the user's, `module:function`, that gets and returns the records as Arrow record "
        "batches; its module is imported, looked for beside the config too ([mapping](mapping.md#transform))",
        examples=["shop.cleaning:clean_orders"],
    )
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
        if any((scheme := scheme_of(source)) is not None and scheme not in (*WEB, *STORES) for source in value):
            raise ValueError("a URL that begins with http, https, s3, gs, abfs or abfss, or a path without ://")
        return value

    @field_validator("transform")
    @classmethod
    def _names_function(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^:\s]+:[^:\s]+", value):
            raise ValueError('"module:function", such as "shop.cleaning:clean_orders"')
        return value

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if bool(self.table) == bool(self.model):
            raise ValueError('give exactly one of table and model, such as table = "orders"')
        return self

    @model_validator(mode="after")
    def _making_goes_with_table(self) -> Self:
        if not (self.create or self.add_columns):
            return self
        key = "create" if self.create else "add_columns"
        if self.model:
            raise ValueError(f"{key} goes with table: what a mapped class needs is made by its metadata.create_all")
        if self.transform:
            raise ValueError(
                f"{key} goes without transform: the types are found in the sources, not in what it returns"
            )
        if self.children:
            raise ValueError(
                f"{key} goes without [load.children]: make their tables first, with the foreign keys that join them"
            )
        return self

    @model_validator(mode="after")
    def _updates_make_sense(self) -> Self:
        if kept := [name for name in self.key if name in (*self.update_columns, self.newer_by)]:
            raise ValueError(f"{kept[0]} is in key, whose columns keep their values: leave it out of the others")
        if self.newer_by is not None and self.update_columns and self.newer_by not in self.update_columns:
            raise ValueError("update_columns has to name the column of newer_by too: what is newer is told by it")
        return self

    @model_validator(mode="after")
    def _whole_records_are_replaced(self) -> Self:
        if self.children and self.on_duplicate == "update":
            raise ValueError('with [load.children] on_duplicate = "replace" takes the place of "update"')
        if not self.children and self.on_duplicate == "replace":
            raise ValueError('on_duplicate = "replace" is for loads with [load.children]; "update" is for flat tables')
        if self.model is None:
            _require_tables(self.children)
        return self


def _require_tables(children: Mapping[str, Child]) -> None:
    """Raise ValueError for a child without a table."""
    for name, child in children.items():
        if not child.table:
            raise ValueError(f'[load.children.{name}] needs a table, such as table = "order_lines"')
        _require_tables(child.children)


class Database(_Model):
    """``[database]``: where the tables and the ledger are."""

    url: str = Field(
        repr=False,  # it may hold a password
        description="SQLAlchemy URL of a SQLite file or a PostgreSQL database; `postgresql://` means the driver "
        "psycopg 3. A SQLite file has to be there; `?timeout=SECONDS` is how long another writer is waited for (30). "
        "What libpq takes may be added, such as `?sslmode=verify-full` ([TLS](permissions.md#tls)) or "
        "`?options=-c%20lock_timeout%3D10s`; `connect_timeout` is 10 s, a silent connection is given up after a "
        "minute. Passwords are better kept in the environment, in `~/.pgpass` or in a service file "
        "([how](permissions.md#passwords)), and an `@` in one is `%40`",
        examples=["postgresql://db.example/shop"],
    )
    isolation_level: Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] | None = Field(
        default=None,
        description="`READ COMMITTED`, `REPEATABLE READ` or `SERIALIZABLE`, whose serialization failures are retried; "
        "PostgreSQL only",
        examples=["READ COMMITTED"],
        json_schema_extra={"x-unset": "the server's"},
    )
    db_schema: str | None = Field(
        default=None,
        alias="schema",
        description="where tables named without a schema are; PostgreSQL only",
        examples=["public"],
        json_schema_extra={"x-unset": "the search path"},
    )
    ledger_schema: str = Field(
        default="etl",
        description="where runs, files, checkpoints and rejects are kept, by a name without square brackets; it is "
        "made by the first run. SQLite has no schemas: there the tables `etl_run`, `etl_file` and `etl_reject` are "
        "beside the others",
        examples=["etl"],
    )

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


class ConfigFile(_Model):
    """The top level of the TOML file, with ``[defaults]`` already merged into each load."""

    database: Database = Field(description="where the tables and the ledger are")
    load: tuple[Load, ...] = Field(description="sources into one table")
    defaults: dict[str, Any] = Field(default_factory=dict, description="any key of `[[load]]`, for all loads")

    @field_validator("load", mode="before")
    @classmethod
    def _some_loads(cls, value: object) -> object:
        if not isinstance(value, list) or not value:
            raise ValueError("one or more [[load]] tables, each under its double brackets")
        return value


def _validated(file: Path, content: dict[str, Any]) -> Job:
    errors = list(_default_errors(content.get("defaults", {})))
    try:
        parsed = ConfigFile.model_validate(_with_defaults(content))
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
        return str(error["ctx"]["expected"]).replace("'", '"').replace("True", "true")
    return str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = without_passwords(text)
    if "://" in text:
        text = _QUERY_VALUE.sub("***", text)  # of a URL that is signed
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
        return _Place("[[load]]" if first == "load" else f"[{first}]", "", ConfigFile)
    index, path = rest[0], [str(part) for part in rest[1:]]
    if content and not _has(content["load"][index], path) and _has(content.get("defaults"), path):
        return _load_place(path, "[defaults]", "[defaults.{}]")
    return _load_place(path, f"[[load]] number {index + 1},", f"[load.{{}}] of load {index + 1},")


def _load_place(path: list[str], table: str, subtable: str) -> _Place:
    if path[:1] == ["csv"]:
        return _Place(subtable.format("csv"), ".".join(path[1:2]), Csv)
    if path[:1] == ["columns"]:
        return _Place(subtable.format("columns"), ".".join(path[1:3]), ColumnSource)
    if path[:1] == ["filter"] and len(path) > 1:
        return _Place(table, f"filter.{int(path[1]) + 1}" + "".join(f".{key}" for key in path[2:3]), Condition)
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
