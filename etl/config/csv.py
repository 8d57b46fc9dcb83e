"""``[load.csv]``: the dialect of a CSV source."""

from __future__ import annotations

import codecs
import difflib
import itertools
from encodings.aliases import aliases
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from etl.config.values import Model, Strings, is_number


def _parse_header(value: object) -> object:
    if isinstance(value, list) and len(value) == 1:
        return _parse_header(value[0])
    if isinstance(value, list | tuple):
        if value and all(is_number(line, 1) for line in value) and sorted(set(value)) == list(value):
            return tuple(value)
    elif isinstance(value, bool) or is_number(value, 1):
        return value
    raise ValueError("true, false, the number of a line such as 3, or several in their order such as [3, 4]")


_HeaderAsWritten = bool | Annotated[int, Field(gt=0)] | list[Annotated[int, Field(gt=0)]]


def _parse_skip_lines(value: object) -> object:
    if is_number(value, 0):
        return value
    raise ValueError("a number of lines such as 2")


_LinesAsWritten = Annotated[int, Field(ge=0)]


def _encoding_hint(name: str) -> str:
    names = {alias for alias, codec in aliases.items() if not codec.endswith("_codec") and codec != "rot_13"}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), names | {"utf_8_sig"}, n=1)
    return f'; did you mean "{close[0].replace("_", "-")}"?' if close else ""


class Csv(Model):
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
