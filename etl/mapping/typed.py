"""Columns that have an Arrow type already, as Parquet gives them.

Types of the same family (integers, floats, moments, …) are converted as they are, with checks of range and
loss. Every other combination goes through the cell's canonical text and the rules for texts, so that a value
means the same in a CSV file and in a Parquet file.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from etl.mapping.conversion import (
    Conversion,
    Converted,
    Refused,
    keep_where,
    keep_within,
    refuse_lost,
    then,
)
from etl.mapping.local_times import LocalTimes
from etl.mapping.numbers import (
    FLOAT_OVERFLOW,
    FLOAT_TYPES,
    FLOAT_UNDERFLOW,
    INTEGER_TYPES,
    NO_NAN,
    integer_bounds,
    integer_conversion,
    numeric_arrow_type,
    out_of_bounds,
)
from etl.mapping.texts import sound_texts, uuids_of_bytes
from etl.mapping.times import FIRST_DAY, LAST_DAY, NO_SUCH_TIME, OUT_OF_YEARS, TIME_TYPES
from etl.records import ColumnType, Kind, Reason

HAS_FRACTION = Refused(Reason.TYPE, "not a whole number: it has a fraction, or is NaN or infinite")
HAS_TIME_OF_DAY = Refused(Reason.TYPE, "a time of day, which a date cannot keep")

_UNITS_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_TO_YEAR_1 = -62_135_596_800
_SECONDS_TO_YEAR_10000 = 253_402_300_800
_MOMENTS = (Kind.TIMESTAMP, Kind.TIMESTAMPTZ)


# What kind of column is it?


def plain_type(type_: pa.DataType) -> pa.DataType:
    """The type without what only says how it is stored: dictionary, extension, view, large, half."""
    if isinstance(type_, pa.BaseExtensionType):
        return plain_type(type_.storage_type)
    if types.is_dictionary(type_):
        return plain_type(type_.value_type)
    if types.is_large_string(type_) or types.is_string_view(type_):
        return pa.string()
    if types.is_large_binary(type_) or types.is_binary_view(type_):
        return pa.binary()
    return pa.float32() if types.is_float16(type_) else type_  # Arrow computes with wider floats only


def plain_array(array: pa.Array) -> pa.Array:
    """The column in its ``plain_type``; the same array if it is that already."""
    if isinstance(array, pa.ExtensionArray):
        return plain_array(array.storage)
    if types.is_dictionary(array.type):
        return plain_array(array.dictionary_decode())
    wanted = plain_type(array.type)
    # large_string to string checks no UTF-8: that is the business of sound_texts.
    return array if array.type == wanted else array.cast(wanted)


def is_document(type_: pa.DataType) -> bool:
    """Whether the cells are lists, structs or maps, which only JSON can hold."""
    return bool(types.is_nested(type_))


def why_not(source: pa.DataType, target: ColumnType) -> str | None:
    """Why no cell of a source type can go into a target type, as the end of a sentence; None if some can."""
    if is_document(source):
        return None if target.kind is Kind.JSON else "lists, structs and maps go into JSON columns only"
    if types.is_timestamp(source) and source.tz and target.kind in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP):
        return f"it has a time zone, which {target.kind.value} cannot keep"
    known = (*_TEXT_LIKE, types.is_boolean, types.is_date, types.is_time, types.is_timestamp, *_NUMBERS)
    return None if any(is_type(source) for is_type in known) else "there is no conversion from this type"


_NUMBERS = (types.is_integer, types.is_floating, types.is_decimal)
_TEXT_LIKE = (types.is_string, types.is_binary, types.is_fixed_size_binary, types.is_null)


# Within a family


def family_conversion(source: pa.DataType, target: ColumnType, local: LocalTimes | None = None) -> Conversion | None:
    """The conversion of a plain source type into a target of its own family; None if it goes by text.

    A timestamp without a zone, or a day, is a time of ``local`` where a TIMESTAMPTZ is wanted.
    """
    kind = target.kind
    if kind in INTEGER_TYPES:
        return _to_integers(source, kind)
    if kind in FLOAT_TYPES and types.is_floating(source):
        return partial(_floats, type_=FLOAT_TYPES[kind], has_nan=target.has_nan)
    if kind is Kind.NUMERIC and types.is_decimal(source) and _holds(target, source):
        return lambda values: Converted(values.cast(numeric_arrow_type(target)))
    if kind is Kind.BOOLEAN and types.is_boolean(source):
        return Converted
    if kind in TIME_TYPES:
        return _to_times(source, kind) if local is None else _to_moments(source, local)
    return _to_bytes(source, kind)


def _to_integers(source: pa.DataType, kind: Kind) -> Conversion | None:
    if types.is_integer(source):
        return partial(_integers, kind=kind)
    if types.is_floating(source):
        return partial(_whole_floats, kind=kind)
    return partial(_whole_decimals, kind=kind) if types.is_decimal(source) else None


def _integers(values: pa.Array, kind: Kind) -> Converted:
    limits = np.iinfo(values.type.to_pandas_dtype())
    low, high = integer_bounds(kind)
    inside = keep_within(values, max(low, int(limits.min)), min(high, int(limits.max)))
    return refuse_lost(values, inside.cast(INTEGER_TYPES[kind]), out_of_bounds(kind))


def _whole_floats(values: pa.Array, kind: Kind) -> Converted:
    whole = keep_where(values, pc.and_(pc.equal(pc.floor(values), values), pc.is_finite(values))).cast(pa.float64())
    return then(refuse_lost(values, whole, HAS_FRACTION), partial(_whole_floats_inside, kind=kind))


def _whole_floats_inside(values: pa.Array, kind: Kind) -> Converted:
    low, high = integer_bounds(kind)
    # high itself is no float for BIGINT, high + 1 is one for every type.
    inside = pc.and_(pc.greater_equal(values, float(low)), pc.less(values, float(high + 1)))
    return refuse_lost(values, keep_where(values, inside).cast(INTEGER_TYPES[kind]), out_of_bounds(kind))


def _whole_decimals(values: pa.Array, kind: Kind) -> Converted:
    rounded = pc.round(values, ndigits=0, round_mode="towards_zero")
    whole = refuse_lost(values, keep_where(rounded, pc.equal(rounded, values)), HAS_FRACTION)
    # As texts without a point: Arrow writes 0.0000000 as 0E-7.
    texts = whole.values.cast(pa.decimal256(76, 0)).cast(pa.string())
    return then(Converted(texts, whole.refused), integer_conversion(kind))


def _holds(target: ColumnType, source: pa.DataType) -> bool:
    type_ = numeric_arrow_type(target)
    if type_ == pa.string() or (target.exact_digits is not None and type_.precision > target.exact_digits):
        return False
    return bool(source.scale <= type_.scale and source.precision - source.scale <= type_.precision - type_.scale)


def _floats(values: pa.Array, type_: pa.DataType, has_nan: bool) -> Converted:
    converted = Converted(values.cast(type_))
    if type_.bit_width < values.type.bit_width:
        converted = _narrowed(values, converted.values)
    if has_nan:
        return converted
    return then(converted, lambda kept: refuse_lost(kept, keep_where(kept, pc.invert(pc.is_nan(kept))), NO_NAN))


def _narrowed(before: pa.Array, after: pa.Array) -> Converted:
    finite = pc.or_(pc.equal(pc.is_inf(after), pc.is_inf(before)), pc.is_nan(before))
    overflown = refuse_lost(before, keep_where(after, finite), FLOAT_OVERFLOW)
    zero = pa.scalar(0.0)
    same = pc.equal(pc.equal(after.cast(pa.float64()), zero), pc.equal(before.cast(pa.float64()), zero))
    return then(overflown, lambda values: refuse_lost(values, keep_where(values, same), FLOAT_UNDERFLOW))


def _to_times(source: pa.DataType, kind: Kind) -> Conversion | None:
    if types.is_date(source):
        return partial(_days, kind=kind) if kind is not Kind.TIME else None
    if types.is_time(source):
        return _times if kind is Kind.TIME else None
    if types.is_timestamp(source) and kind is Kind.DATE:
        return _moments_to_days
    return partial(_moments, kind=kind) if types.is_timestamp(source) and kind in _MOMENTS else None


def _to_moments(source: pa.DataType, local: LocalTimes) -> Conversion | None:
    is_local = types.is_date(source) or (types.is_timestamp(source) and source.tz is None)
    if not is_local:
        return _to_times(source, Kind.TIMESTAMPTZ) if types.is_timestamp(source) else None
    to_times = _days if types.is_date(source) else _moments
    return lambda values: then(to_times(values, Kind.TIMESTAMP), local.moments)


def _days(values: pa.Array, kind: Kind) -> Converted:
    if types.is_date64(values.type):  # milliseconds, which need not be whole days
        moments = values.view(pa.timestamp("ms"))
        return _moments_to_days(moments) if kind is Kind.DATE else _moments(moments, kind)
    inside = refuse_lost(values, keep_within(values, FIRST_DAY, LAST_DAY), OUT_OF_YEARS)
    return Converted(inside.values.cast(TIME_TYPES[kind]), inside.refused)


def _moments_to_days(values: pa.Array) -> Converted:
    moments = _moments(values, Kind.TIMESTAMP)
    return then(moments, _whole_days)


def _whole_days(moments: pa.Array) -> Converted:
    days = moments.cast(pa.date32(), safe=False)
    whole = keep_where(days, pc.equal(days.cast(moments.type), moments))
    return refuse_lost(moments, whole, HAS_TIME_OF_DAY)


def _moments(values: pa.Array, kind: Kind) -> Converted:
    unit, type_ = values.type.unit, TIME_TYPES[kind]
    inside = refuse_lost(values, keep_where(values, _in_calendar(values)), OUT_OF_YEARS)
    if unit != "ns":
        # Arrow's cast between zone and none would move the clock in newer versions; a view cannot.
        moved = inside.values.cast(pa.timestamp("us", values.type.tz))
        return Converted(moved.view(type_), inside.refused)
    return Converted(_round_nanoseconds(inside.values).view(type_), inside.refused)


def _in_calendar(moments: pa.Array) -> pa.Array:
    a_second = _UNITS_A_SECOND[moments.type.unit]
    ticks = moments.view(pa.int64())
    if a_second == 10**9:  # reaches from 1677 to 2262 only
        return ticks.is_valid()
    first, behind_last = _SECONDS_TO_YEAR_1 * a_second, _SECONDS_TO_YEAR_10000 * a_second
    return pc.and_(pc.greater_equal(ticks, first), pc.less(ticks, behind_last))


def _round_nanoseconds(values: pa.Array) -> pa.Array:
    """Nanoseconds as microseconds (int64), rounded as fraction_to_microseconds rounds the text."""
    ticks = pc.fill_null(values.view(pa.int64()), 0).to_numpy()
    seconds, rest = np.divmod(ticks, 10**9)
    # Both operands are exact in a float, so the quotient is what strtod() makes of the nine digits.
    rounded = seconds * 10**6 + np.rint(rest / 1e9 * 1e6).astype(np.int64)
    return keep_where(pa.array(rounded), values.is_valid())


def _times(values: pa.Array) -> Converted:
    if values.type.unit == "ns":
        microseconds = _round_nanoseconds(values)
    else:
        ticks = values.view(pa.int32() if types.is_time32(values.type) else pa.int64())
        microseconds = pc.multiply(ticks.cast(pa.int64()), 10**6 // _UNITS_A_SECOND[values.type.unit])
    inside = keep_within(microseconds, 0, 24 * 3600 * 10**6 - 1)
    return refuse_lost(values, inside.view(TIME_TYPES[Kind.TIME]), NO_SUCH_TIME)


def _to_bytes(source: pa.DataType, kind: Kind) -> Conversion | None:
    if kind is Kind.BYTES and (types.is_binary(source) or types.is_fixed_size_binary(source)):
        return lambda values: Converted(values.cast(pa.binary()))
    return uuids_of_bytes if kind is Kind.UUID and source == pa.binary(16) else None


# By text


def canonical_texts(values: pa.Array) -> Converted:
    """The texts of a plain column of any type but the nested ones.

    Numbers in their shortest exact notation, booleans as true and false, dates and times in ISO notation and,
    where they have a zone, in UTC with ``Z``; binary as the UTF-8 text that it must be.
    """
    type_ = values.type
    if types.is_string(type_):
        return sound_texts(values)
    if types.is_binary(type_) or types.is_fixed_size_binary(type_):
        return sound_texts(values.cast(pa.binary()).view(pa.string()))
    if types.is_date(type_) or types.is_timestamp(type_):
        return _texts_of_moments(values)
    if types.is_floating(type_):
        return Converted(_texts_of_floats(values))
    return Converted(values.cast(pa.string()))


def _texts_of_moments(values: pa.Array) -> Converted:
    # Beyond its calendar Arrow writes "<value out of range: …>" into the text.
    if types.is_date(values.type):
        days = _days(values, Kind.DATE)
        return Converted(days.values.cast(pa.string()), days.refused)
    inside = refuse_lost(values, keep_where(values, _in_calendar(values)), OUT_OF_YEARS)
    zone = "UTC" if values.type.tz else None
    moments = inside.values.view(pa.timestamp(values.type.unit, zone))
    return Converted(moments.cast(pa.string()), inside.refused)


def _texts_of_floats(values: pa.Array) -> pa.Array:
    texts = values.cast(pa.string())
    for name, words in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        texts = pc.if_else(pc.equal(texts, name), words, texts)
    return texts
