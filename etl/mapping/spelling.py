"""How a source writes numbers and booleans: the decimal point, the separator of thousands, the words.

A number that is spelled otherwise is put into the usual spelling first, and then judged like any other. What is not
spelled as the load says is refused, and never read in another way: with a decimal comma and points for thousands,
``1.234`` is 1234, ``1.5`` and ``0.123`` are no numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from etl.config import Csv, Format
from etl.errors import ConfigError
from etl.mapping.conversion import Refused, TextConversion, keep_matching
from etl.records import Kind, Reason

NUMBERS = frozenset((Kind.SMALLINT, Kind.INTEGER, Kind.BIGINT, Kind.NUMERIC, Kind.REAL, Kind.DOUBLE))

_NAMES = re.compile(r"[+-]?(?:inf|infinity)|nan", re.IGNORECASE)
_NOT_A_WORD = Refused(Reason.TYPE, "not a boolean: none of true_words and false_words")


@dataclass(frozen=True, slots=True)
class Spelling:
    """``decimal`` is the point, ``thousands`` the separator, "" for none; without words PostgreSQL's are taken."""

    decimal: str = "."
    thousands: str = ""
    true_words: tuple[str, ...] = ()
    false_words: tuple[str, ...] = ()

    @classmethod
    def of(cls, csv: Csv, format_: Format) -> Spelling:
        """That of a source of this format: the usual one, but for CSV."""
        return cls(csv.decimal, csv.thousands, csv.true_words, csv.false_words) if format_ == "csv" else USUAL

    @property
    def has_usual_numbers(self) -> bool:
        return self.decimal == "." and not self.thousands

    def usual_numbers(self, texts: pa.Array) -> pa.Array | None:
        """The texts in the usual spelling, if all of them are numbers in this one."""
        if self.has_usual_numbers:
            return texts
        is_number = pc.match_substring_regex(texts, rf"\A(?:{_pattern(self)})\z")
        return _usual(texts, self) if pc.all(is_number).as_py() else None

    def respelled(self, kind: Kind, conversion: TextConversion) -> TextConversion:
        """Return the conversion for a target of this kind that reads texts in this spelling."""
        if kind in NUMBERS and not self.has_usual_numbers:
            return _respelled_numbers(conversion, self)
        if kind is Kind.BOOLEAN and (self.true_words or self.false_words):
            return _booleans_of(self)
        return conversion


USUAL = Spelling()


def _respelled_numbers(conversion: TextConversion, spelling: Spelling) -> TextConversion:
    refused = Refused(Reason.TYPE, _what_is_expected(spelling))
    fast = partial(_fast_numbers, fast=conversion.fast, spelling=spelling)
    exact = partial(_exact_number, exact=conversion.exact, spelling=spelling, refused=refused)
    return TextConversion(conversion.type, fast, exact, conversion.trims)


def _what_is_expected(spelling: Spelling) -> str:
    groups = f", {spelling.thousands!r} between all groups of three digits or none" if spelling.thousands else ""
    return f"not a number as [load.csv] says they are written: {spelling.decimal!r} before the decimals{groups}"


def _fast_numbers(texts: pa.Array, fast: Callable[[pa.Array], pa.Array], spelling: Spelling) -> pa.Array:
    if _needs_a_look(texts, spelling):
        texts = keep_matching(texts, _pattern(spelling))
    return fast(_usual(texts, spelling))


def _needs_a_look(texts: pa.Array, spelling: Spelling) -> bool:
    """Whether a text has what the usual spelling would let pass: a separator, or a point that is none."""
    marks = {".", spelling.thousands} - {spelling.decimal, ""}
    return any(pc.any(pc.match_substring(texts, mark)).as_py() for mark in marks)


def _usual(texts: pa.Array, spelling: Spelling) -> pa.Array:
    if spelling.thousands:
        texts = pc.replace_substring(texts, spelling.thousands, "")
    return texts if spelling.decimal == "." else pc.replace_substring(texts, spelling.decimal, ".")


def _exact_number(text: str, exact: Callable[[str], object], spelling: Spelling, refused: Refused) -> object:
    if re.fullmatch(_pattern(spelling), text):
        text = text.replace(spelling.thousands, "") if spelling.thousands else text
        return exact(text.replace(spelling.decimal, "."))
    # NaN and the infinities have no spelling; what else has neither point nor separator is told of as usual.
    marks = {".", spelling.decimal, spelling.thousands or spelling.decimal}
    return exact(text) if _NAMES.fullmatch(text) or marks.isdisjoint(text) else refused


def _pattern(spelling: Spelling) -> str:
    """A number, for Python's and for RE2's regular expressions: no writer groups a number that begins with 0."""
    decimal, thousands = re.escape(spelling.decimal), re.escape(spelling.thousands)
    grouped = rf"[1-9][0-9]{{0,2}}(?:{thousands}[0-9]{{3}})+|" if thousands else ""
    return rf"[+-]?(?:(?:{grouped}[0-9]+)(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?"


def _booleans_of(spelling: Spelling) -> TextConversion:
    words = {**dict.fromkeys(spelling.true_words, True), **dict.fromkeys(spelling.false_words, False)}
    if not spelling.true_words or not spelling.false_words:
        raise ConfigError("true_words and false_words must be given together", "Give both.")
    texts, values = pa.array(words.keys(), pa.string()), pa.array(words.values(), pa.bool_())
    fast = partial(_fast_words, texts=texts, values=values)
    return TextConversion(pa.bool_(), fast, lambda text: words.get(text, _NOT_A_WORD))


def _fast_words(cells: pa.Array, texts: pa.Array, values: pa.Array) -> pa.Array:
    return values.take(pc.index_in(cells, value_set=texts))
