"""The type that the texts of a CSV column have, found by looking at every one of them.

A type is found only if it keeps what the texts say: a number with a leading zero or a plus is a text, and so is one
with white space around it, since a code, a telephone number or a padded field would come back as another one. It is as
wide as the database allows, so that the next file fits too, and it is one whose conversion, which is the mapper's own,
refuses none of the texts. Where that cannot be had the type is TEXT.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapping.column_bytes import ColumnBytes
from etl.mapping.conversion import cast_or_none
from etl.mapping.kinds import conversion_of_texts
from etl.mapping.spelling import USUAL, Spelling
from etl.records import ColumnType, Kind

PRECISION = 38  # the widest NUMERIC that Arrow, and so a load, takes without going by texts
TEXT = ColumnType(Kind.TEXT)

_SAMPLE = 64  # texts that are looked at before all of a batch
_MOST_DIGITS = 1_000
_EXACT_DIGITS = 15  # so many survive in an 8-byte float, in which SQLite keeps a NUMERIC
_FLOAT_DIGITS = 17  # so many name each 8-byte float
_NUMBER = r"\A-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\z"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_OFFSET = r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
_UUID = r"\A[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\z"
_BOOLEANS = pa.array(["true", "false"])


class TypeFinder:
    """The type of one column, whose texts are spelled so; ``add`` is called for each record batch, and nothing of it is
    kept."""

    def __init__(self, spelling: Spelling = USUAL) -> None:
        self._candidates: list[_Candidate] = [_Numbers(spelling), _Moments(), _Booleans(spelling), _Uuids()]
        self._has_values = False

    def add(self, texts: pa.Array) -> None:
        """Look at a ``string`` column."""
        texts = texts.drop_null()
        if not self._candidates or not len(texts):
            return
        self._has_values = True
        sample = texts.slice(0, _SAMPLE)
        self._candidates = [
            candidate for candidate in self._candidates if candidate.takes(sample) and candidate.takes(texts)
        ]

    def found(self, dialect: str) -> ColumnType:
        """The type of all that was seen, for a database by SQLAlchemy's name of it; TEXT if all of it was NULL."""
        if not self._has_values or not self._candidates:
            return TEXT
        return self._candidates[0].type_on(dialect)


class _Candidate(Protocol):
    """A family of types."""

    def takes(self, texts: pa.Array) -> bool:
        """Whether all of these texts are of the family, and all that were taken before go with them."""

    def type_on(self, dialect: str) -> ColumnType: ...


class _Numbers:
    """Whole numbers, decimal numbers, and floats where an exponent is written."""

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = spelling
        self._most_before = 0  # digits before the point
        self._most_after = 0
        self._most_digits = 0  # of one number
        self._has_point = False
        self._has_exponent = False
        self._is_large = False  # some whole number has more than 64 bits

    def takes(self, texts: pa.Array) -> bool:
        texts = self._spelling.usual_numbers(texts)
        if texts is None:
            return False
        column = ColumnBytes.of(texts)
        if column.longest > _MOST_DIGITS:
            return False
        if self._takes_whole(texts, column):
            return True
        if not pc.all(pc.match_substring_regex(texts, _NUMBER)).as_py():
            return False
        has_exponent = pc.match_substring(texts, "e", ignore_case=True)
        self._measure(texts.filter(pc.invert(has_exponent)))
        floats = texts.filter(has_exponent)
        return not len(floats) or self._takes_floats(floats)

    def _takes_whole(self, texts: pa.Array, column: ColumnBytes) -> bool:
        """The fast way for columns of whole numbers of 64 bits."""
        if not column.all_within("-", "9") or cast_or_none(texts, pa.int64()) is None:
            return False
        lengths, signs = column.lengths, column.at(0) == ord("-")
        digits = lengths - signs
        longer = digits > 1
        first = column.data[(column.starts + signs)[longer]]
        if bool((first == ord("0")).any()):
            return False
        self._count(int(digits.max()), 0, int(digits.max()))
        return True

    def _measure(self, texts: pa.Array) -> None:
        """Numbers without an exponent."""
        if not len(texts):
            return
        lengths = pc.binary_length(texts).to_numpy()
        points = pc.find_substring(texts, ".").to_numpy()
        signs = pc.starts_with(texts, "-").to_numpy(zero_copy_only=False).astype(np.int32)
        has_point = points >= 0
        before = np.where(has_point, points, lengths) - signs
        after = np.where(has_point, lengths - points - 1, 0)
        self._count(int(before.max()), int(after.max()), int((before + after).max()))
        self._has_point |= bool(has_point.any())
        whole = texts.filter(pa.array(~has_point))
        self._is_large |= cast_or_none(whole, pa.int64()) is None

    def _takes_floats(self, texts: pa.Array) -> bool:
        self._has_exponent = True
        mantissas = pc.replace_substring_regex(texts, r"[eE].*|[-.]", "")
        self._count(0, 0, int(pc.max(pc.binary_length(mantissas)).as_py()))
        return not conversion_of_texts(ColumnType(Kind.DOUBLE))(texts).refused

    def _count(self, before: int, after: int, digits: int) -> None:
        self._most_before = max(self._most_before, before)
        self._most_after = max(self._most_after, after)
        self._most_digits = max(self._most_digits, digits)

    def type_on(self, dialect: str) -> ColumnType:
        if self._has_exponent:
            return ColumnType(Kind.DOUBLE) if self._most_digits <= _FLOAT_DIGITS else TEXT
        if not self._has_point and not self._is_large:
            return ColumnType(Kind.BIGINT)
        if dialect == "sqlite" and self._most_digits > _EXACT_DIGITS:
            return TEXT
        if self._most_before + self._most_after > PRECISION:
            return ColumnType(Kind.NUMERIC)
        return ColumnType(Kind.NUMERIC, precision=PRECISION, scale=self._most_after)


class _Moments:
    """Dates and timestamps in ISO notation: all of them with an offset, or none."""

    def __init__(self) -> None:
        self._has_time = False
        self._has_offset = False
        self._has_none = False

    def takes(self, texts: pa.Array) -> bool:
        is_date, is_timed, is_zoned = (
            bool(pc.any(matching).as_py()) if matching is not None else False for matching in self._matches(texts)
        )
        self._has_time |= is_timed or is_zoned
        self._has_offset |= is_zoned
        self._has_none |= is_date or is_timed
        if not (is_date or is_timed or is_zoned) or (self._has_offset and self._has_none):
            return False
        return not conversion_of_texts(ColumnType(self._kind))(texts).refused

    @staticmethod
    def _matches(texts: pa.Array) -> list[pa.Array | None]:
        """Of dates, of moments, and of moments with an offset; of none, if one of the texts is none of these."""
        if ColumnBytes.of(texts).width == len("YYYY-MM-DD"):  # the conversion takes dates only
            return [pa.array([True]), None, None]
        matches = [
            pc.match_substring_regex(texts, rf"\A{pattern}\z")
            for pattern in (_DATE, f"{_DATE}{_TIME}", f"{_DATE}{_TIME}{_OFFSET}")
        ]
        is_one = pc.or_(pc.or_(matches[0], matches[1]), matches[2])
        return list(matches) if pc.all(is_one).as_py() else [None, None, None]

    @property
    def _kind(self) -> Kind:
        if self._has_offset:
            return Kind.TIMESTAMPTZ
        return Kind.TIMESTAMP if self._has_time else Kind.DATE

    def type_on(self, dialect: str) -> ColumnType:
        return ColumnType(self._kind)


class _Booleans:
    """The words true and false, in upper or lower case, or else those of the spelling, as they are written."""

    def __init__(self, spelling: Spelling) -> None:
        self._words = pa.array([*spelling.true_words, *spelling.false_words], pa.string())

    def takes(self, texts: pa.Array) -> bool:
        if len(self._words):
            return bool(pc.all(pc.is_in(texts, value_set=self._words)).as_py())
        return bool(pc.all(pc.is_in(pc.ascii_lower(texts), value_set=_BOOLEANS)).as_py())

    def type_on(self, dialect: str) -> ColumnType:
        return ColumnType(Kind.BOOLEAN)


class _Uuids:
    """UUIDs with their hyphens."""

    def takes(self, texts: pa.Array) -> bool:
        has_width = ColumnBytes.of(texts).width == len("00000000-0000-0000-0000-000000000000")
        return has_width and bool(pc.all(pc.match_substring_regex(texts, _UUID)).as_py())

    def type_on(self, dialect: str) -> ColumnType:
        return ColumnType(Kind.UUID)


def joined_type(one: ColumnType, other: ColumnType) -> ColumnType:
    """A type that holds all values of both; TEXT where no other does."""
    if one == other:
        return one
    kinds = {one.kind, other.kind}
    for family in _WIDENING:
        if kinds <= set(family):
            return ColumnType(max(kinds, key=family.index))
    if kinds <= {*_WHOLE, Kind.NUMERIC}:
        return _joined_numeric(one, other)
    return TEXT


_WHOLE = (Kind.SMALLINT, Kind.INTEGER, Kind.BIGINT)
_WIDENING = (_WHOLE, (Kind.REAL, Kind.DOUBLE), (Kind.DATE, Kind.TIMESTAMP))


def _joined_numeric(one: ColumnType, other: ColumnType) -> ColumnType:
    given = [type_ for type_ in (one, other) if type_.kind is Kind.NUMERIC]
    if any(type_.precision is None for type_ in given):
        return ColumnType(Kind.NUMERIC)
    scale = max(type_.scale or 0 for type_ in given)
    before = max((type_.precision or 0) - (type_.scale or 0) for type_ in given)
    if len(given) < 2:
        before = max(before, 19)  # of a BIGINT
    return ColumnType(Kind.NUMERIC, precision=PRECISION, scale=scale) if before + scale <= PRECISION else TEXT
