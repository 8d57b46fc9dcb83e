"""``filter``: which records are loaded, by conditions on what the source says, before anything is mapped.

The value in the config decides how a cell is compared: a string with the cell's text, a number with the number that
the text says, exactly, a date or a time as a column of that type reads the text. A cell that cannot be read as what it
is compared with makes its record a reject, unless other conditions settle the question: neither way of the filter would
be an honest guess.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.config import Condition
from etl.errors import ConfigError, EtlError, SourceError, TargetMismatch
from etl.mapping.conversion import Conversion, Converted, Refused, then
from etl.mapping.kinds import Reading, choose_conversion
from etl.mapping.numbers import float_conversion
from etl.mapping.paths import SourcePath, find_path, paths_of
from etl.mapping.typed import is_document, plain_type
from etl.mapping.unquoting import cell_texts
from etl.records import ColumnType, Kind

Mask = NDArray[np.bool_]
_TEXT, _NUMBER = ColumnType(Kind.TEXT), ColumnType(Kind.DOUBLE)
_LESS, _EQUAL, _GREATER, _NEITHER = -1, 0, 1, 2  # NULL and NaN are neither
_CORRECT = "Correct the filter of the load."


@dataclass(frozen=True, slots=True)
class Judged:
    """Which records of a batch meet a condition, and the places of those that cannot be judged: column and reason."""

    holds: Mask
    refused: Mapping[int, tuple[str, Refused]]


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison of one source column, or of a field in one."""

    column: SourcePath
    read: Conversion
    judge: Callable[[pa.Array], Mask]

    def __call__(self, columns: pa.RecordBatch) -> Judged:
        read = then(self.column.cells(columns), self.read)
        refused = {place: (self.column.name, why) for place, why in read.refused.items()}
        return Judged(self.judge(read.values), refused)


@dataclass(frozen=True, slots=True)
class Combination:
    """Several conditions, of which all must hold, or one."""

    conditions: tuple[Test | Combination, ...]
    all_must_hold: bool

    def __call__(self, columns: pa.RecordBatch) -> Judged:
        """A cell that cannot be read matters only where the other conditions do not settle the question."""
        judged = [condition(columns) for condition in self.conditions]
        sure = [_known(one) & (one.holds != self.all_must_hold) for one in judged]  # and so settles it by itself
        is_settled: Mask = np.logical_or.reduce(sure)
        refused = {
            place: why for one in reversed(judged) for place, why in one.refused.items() if not is_settled[place]
        }
        return Judged(is_settled != self.all_must_hold, refused)


def _known(judged: Judged) -> Mask:
    known = np.ones(len(judged.holds), dtype=bool)
    known[list(judged.refused)] = False
    return known


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """``filter`` of a load, planned. ``words`` are its conditions, for ``etl check``."""

    condition: Combination
    source_columns: tuple[str, ...]
    words: tuple[str, ...]

    def judge(self, columns: pa.RecordBatch) -> Judged:
        return self.condition(columns)


def plan_filter(source: pa.Schema, conditions: Sequence[Condition]) -> RecordFilter:
    """What the conditions of a load mean for a source.

    Raises SourceError for a column that the source has not, and ConfigError for a comparison that its type cannot meet.
    """
    paths = {name: _path(source, name) for condition in conditions for name in condition.source_columns}
    planned = tuple(_planned(paths, condition) for condition in conditions)
    words = tuple(_words(condition) for condition in conditions)
    columns = tuple(dict.fromkeys(path.column for path in paths.values()))
    return RecordFilter(Combination(planned, all_must_hold=True), columns, words)


def _path(source: pa.Schema, name: str) -> SourcePath:
    path = find_path(source, name)
    if path is None:
        names = ", ".join(f'"{known}"' for known in paths_of(source))
        raise SourceError(f'filter: missing column "{name}"; the source has {names}', _CORRECT)
    return path


def _planned(paths: Mapping[str, SourcePath], condition: Condition) -> Test | Combination:
    if condition.any:
        return Combination(tuple(_planned(paths, inner) for inner in condition.any), all_must_hold=False)
    column = paths[condition.column or ""]
    try:
        return _test(column, condition)
    except EtlError as error:
        raise ConfigError(f'filter: column "{column.name}": {error.problem}', error.remedy or _CORRECT) from error


def _test(column: SourcePath, condition: Condition) -> Test:
    (name, value), type_ = condition.comparison, column.type
    if name == "is_null":
        return Test(column, Converted, partial(_is_null, wanted=bool(value)))
    if is_document(plain_type(type_)):
        raise TargetMismatch(f"a column of type {type_} can be compared by is_null only")
    if name == "matches":
        _require_pattern(str(value))
        return Test(column, cell_texts, partial(_matches, pattern=str(value)))
    values = value if isinstance(value, tuple) else (value,)
    kinds = {_kind_of(one) for one in values}
    if len(kinds) > 1:
        raise ConfigError(f"the values of {name} are of more than one type", _CORRECT)
    read, order = _reading(type_, kinds.pop(), condition.format)
    if name in ("in", "not_in"):
        return Test(column, read, partial(_is_one_of, order=order, values_=values, wanted=name == "in"))
    return Test(column, read, partial(_compares, order=order, value=value, wanted=_WANTED[name]))


_WANTED: dict[str, tuple[int, ...]] = {
    "equals": (_EQUAL,),
    "not_equals": (_LESS, _GREATER, _NEITHER),
    "less": (_LESS,),
    "less_equal": (_LESS, _EQUAL),
    "greater": (_GREATER,),
    "greater_equal": (_GREATER, _EQUAL),
}


def _kind_of(value: object) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int | float):
        return Kind.DOUBLE
    if isinstance(value, dt.datetime):
        return Kind.TIMESTAMP if value.tzinfo is None else Kind.TIMESTAMPTZ
    return {dt.date: Kind.DATE, dt.time: Kind.TIME}.get(type(value), Kind.TEXT)


_Order = Callable[[pa.Array, object], NDArray[np.int8]]


def _reading(type_: pa.DataType, kind: Kind, formats: Sequence[str]) -> tuple[Conversion, _Order]:
    """How the cells of a column are read to be compared with values of ``kind``, and what compares them."""
    if formats and kind in (Kind.TEXT, Kind.DOUBLE, Kind.BOOLEAN):
        raise ConfigError("format goes with dates and times", _CORRECT)
    if kind is Kind.TEXT:
        return cell_texts, _order
    if kind is Kind.DOUBLE:
        choose_conversion(type_, _NUMBER)  # refuses what can be no number
        return _read_numbers, _order_of_numbers
    return choose_conversion(type_, ColumnType(kind), Reading(formats)), _order


def _read_numbers(array: pa.Array) -> Converted:
    """The texts still, in which each that is no number is refused: floats would make neighbours equal."""
    texts = cell_texts(array)
    return Converted(texts.values, then(texts, float_conversion(_NUMBER)).refused)


# What is compared


def _order(values: pa.Array, constant: object) -> NDArray[np.int8]:
    scalar = pa.scalar(constant, values.type)
    order = np.full(len(values), _NEITHER, np.int8)
    for sign, compare in ((_LESS, pc.less), (_EQUAL, pc.equal), (_GREATER, pc.greater)):
        order[_as_mask(compare(values, scalar))] = sign
    return order


def _order_of_numbers(texts: pa.Array, constant: object) -> NDArray[np.int8]:
    order = _order(float_conversion(_NUMBER)(texts).values, float(str(constant)))
    ties = order == _EQUAL
    if ties.any():
        distinct = texts.filter(pa.array(ties)).dictionary_encode()
        exact = [_sign(Decimal(text.strip()), Decimal(str(constant))) for text in distinct.dictionary.to_pylist()]
        order[ties] = np.array(exact, np.int8)[distinct.indices.to_numpy(zero_copy_only=False)]
    return order


def _sign(number: Decimal, other: Decimal) -> int:
    return _EQUAL if number == other else _LESS if number < other else _GREATER


def _as_mask(values: pa.Array) -> Mask:
    mask: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask


def _compares(values: pa.Array, order: _Order, value: object, wanted: tuple[int, ...]) -> Mask:
    return np.isin(order(values, value), wanted)


def _is_one_of(values: pa.Array, order: _Order, values_: Sequence[object], wanted: bool) -> Mask:
    if order is _order:
        found = _as_mask(pc.is_in(values, pa.array(values_, values.type), skip_nulls=True))
    else:
        found = np.logical_or.reduce([order(values, value) == _EQUAL for value in values_])
    mask: Mask = found == wanted
    return mask


def _is_null(values: pa.Array, wanted: bool) -> Mask:
    mask: Mask = _as_mask(values.is_null()) == wanted
    return mask


def _matches(texts: pa.Array, pattern: str) -> Mask:
    return _as_mask(pc.match_substring_regex(texts, pattern))


def _require_pattern(pattern: str) -> None:
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        said = str(error).removeprefix("Invalid regular expression: ")
        raise ConfigError(f"matches is no regular expression of RE2: {said}", _CORRECT) from error


def _words(condition: Condition) -> str:
    if condition.any:
        return " or ".join(_words(inner) for inner in condition.any)
    name, value = condition.comparison
    shown = list(value) if isinstance(value, tuple) else value
    formats = f" as {' or '.join(condition.format)}" if condition.format else ""
    return f'"{condition.column}"{formats} {name} {shown!r}'
