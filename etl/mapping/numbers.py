"""Texts to numbers and booleans, by PostgreSQL's input syntax as far as it is unambiguous.

Sources: PostgreSQL 15, ``numutils.c`` (integers), ``numeric.c`` (NUMERIC), ``float.c`` (REAL, DOUBLE),
``bool.c``.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl.mapping.column_bytes import ColumnBytes
from etl.mapping.conversion import (
    Refused,
    TextConversion,
    always_in_doubt,
    cast_or_none,
    keep_matching,
    keep_where,
    keep_within,
)
from etl.records import ColumnType, Kind, Reason

INTEGER_TYPES = {Kind.SMALLINT: pa.int16(), Kind.INTEGER: pa.int32(), Kind.BIGINT: pa.int64()}
FLOAT_TYPES = {Kind.REAL: pa.float32(), Kind.DOUBLE: pa.float64()}

NOT_WHOLE = Refused(Reason.TYPE, "not a whole number: digits are expected, with a sign or without")
NOT_NUMERIC = Refused(Reason.TYPE, "not a decimal number")
NO_NAN_IN_NUMERIC = Refused(Reason.TYPE, "not a decimal number: NaN and Infinity are not taken in NUMERIC")
NOT_FLOAT = Refused(Reason.TYPE, "not a number")
NOT_BOOLEAN = Refused(Reason.TYPE, "not a boolean: true, false, yes, no, on, off, 1, 0 or a unique prefix is expected")
NO_NAN = Refused(Reason.RANGE, "NaN cannot be stored: SQLite would keep NULL in its place")
FLOAT_OVERFLOW = Refused(Reason.RANGE, "too large for this type: it would become infinite")
FLOAT_UNDERFLOW = Refused(Reason.RANGE, "too small for this type: it would become zero")
NOT_EXACT = Refused(
    Reason.RANGE,
    "more digits than can be stored: SQLite keeps a NUMERIC as an 8-byte float, exact to 15 digits",
)

_DIGITS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_EXPONENT = r"(?:[eE][+-]?[0-9]+)"
_WHOLE = re.compile(r"([+-]?)([0-9]+)")
_NUMBER = re.compile(rf"[+-]?({_DIGITS})({_EXPONENT})?")
_NOT_FINITE = re.compile(r"([+-]?)(?:inf|infinity)|nan", re.IGNORECASE)

# PostgreSQL's limits of a NUMERIC without precision (numeric.h: NUMERIC_WEIGHT_MAX, NUMERIC_DSCALE_MAX).
_MOST_DIGITS_BEFORE = 131_072
_MOST_DIGITS_AFTER = 16_383
_ARROW_PRECISION = 38
_FLOAT_DIGITS = 15  # so many decimal digits survive in an 8-byte float
_EXACT_POWERS = 22  # the greatest power of ten that is an 8-byte float
_WIDE_SCALE = 37  # leaves decimal256 with 38 digits before the point and one for a carry


# Integers


def integer_bounds(kind: Kind) -> tuple[int, int]:
    """Least and greatest value of an integer type."""
    bits = INTEGER_TYPES[kind].bit_width
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def out_of_bounds(kind: Kind) -> Refused:
    low, high = integer_bounds(kind)
    return Refused(Reason.RANGE, f"out of range for {kind.value}: {low} to {high}")


def integer_conversion(kind: Kind) -> TextConversion:
    """Texts to SMALLINT, INTEGER or BIGINT: ``[+-]?digits`` within the type's range."""
    fast, exact = partial(_fast_integers, kind=kind), partial(parse_integer, kind=kind)
    return TextConversion(INTEGER_TYPES[kind], fast, exact)


def _fast_integers(texts: pa.Array, kind: Kind) -> pa.Array:
    if _has_plain_bytes(texts) and (values := cast_or_none(texts, INTEGER_TYPES[kind])) is not None:
        return values
    # The pattern first: Arrow's own parser reads 0x1F as 31.
    plain = keep_matching(texts, "-?[0-9]+")
    values = cast_or_none(plain, INTEGER_TYPES[kind])
    if values is not None:
        return values
    low, high = integer_bounds(kind)
    return keep_within(keep_matching(plain, "-?[0-9]{1,18}").cast(pa.int64()), low, high).cast(INTEGER_TYPES[kind])


def _has_plain_bytes(texts: pa.Array) -> bool:
    """Whether all is written with ``-./0123456789``: of that Arrow reads ``-?digits`` only, a point in it or none."""
    return ColumnBytes.of(texts).all_within("-", "9")


def parse_integer(text: str, kind: Kind) -> int | Refused:
    """The exact rule for one text."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        return NOT_WHOLE
    digits = match[2].lstrip("0") or "0"
    if len(digits) > 19:  # before int(), which refuses to read more than 4,300 digits
        return out_of_bounds(kind)
    low, high = integer_bounds(kind)
    value = int(match[1] + digits)
    return value if low <= value <= high else out_of_bounds(kind)


# NUMERIC


def numeric_arrow_type(column: ColumnType) -> pa.DataType:
    """decimal128 up to 38 digits; beyond, and without a precision, text in plain notation."""
    if column.precision is None or column.precision > _ARROW_PRECISION:
        return pa.string()
    return pa.decimal128(column.precision, column.scale or 0)


def numeric_conversion(column: ColumnType) -> TextConversion:
    """Texts to NUMERIC(p, s): rounded half away from zero to s digits, then checked against p.

    So PostgreSQL does it. With ``exact_digits`` set, only values which an 8-byte float gives back exactly.
    """
    type_ = numeric_arrow_type(column)
    return TextConversion(type_, _fast_numeric(column, type_), partial(parse_numeric, column=column))


def _fast_numeric(column: ColumnType, type_: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    if type_ == pa.string():
        return partial(_fast_wide_numerics, column=column)
    if not 0 <= type_.scale <= type_.precision:  # numeric(3,-2), numeric(2,4): too rare for a fast way
        return always_in_doubt(type_)
    return partial(_fast_decimals, type_=type_, exact_digits=column.exact_digits)


def _fast_decimals(texts: pa.Array, type_: pa.DataType, exact_digits: int | None) -> pa.Array:
    values = _decimals_by_float(texts, type_)
    if values is None:
        plain = keep_matching(texts, f"[+-]?{_DIGITS}")
        values = _short_decimals(plain, type_)
        if values.null_count > texts.null_count:
            values = pc.coalesce(values, _rounded_decimals(plain, type_))
    if exact_digits is None or type_.precision <= exact_digits:
        return values
    limit = pa.scalar(Decimal(10).scaleb(exact_digits - type_.scale), type_)
    return keep_where(values, pc.less(pc.abs(values), limit))


def _decimals_by_float(texts: pa.Array, type_: pa.DataType) -> pa.Array | None:
    """The decimals by way of 8-byte floats, or None if that is not exact for each of them.

    Say a text and ``units / 10 ** scale`` have the same nearest float, and ``units`` has no more than 15 digits. Then
    the two numbers lie at most one step of the floats apart, less than a quarter of the last decimal place: rounded to
    ``scale``, the text is ``units / 10 ** scale``.
    """
    if type_.scale > _EXACT_POWERS or not _has_plain_bytes(texts):
        return None
    floats = cast_or_none(texts, pa.float64())
    if floats is None:
        return None
    nearest = pc.fill_null(floats, 0.0).to_numpy()
    with np.errstate(over="ignore"):  # to infinity, which is not below the limit
        units = np.rint(nearest * 10.0**type_.scale)
    is_exact = (np.abs(units) < 10.0 ** min(type_.precision, _FLOAT_DIGITS)) & (units / 10.0**type_.scale == nearest)
    return _decimals_of_units(units.astype(np.int64), texts, type_) if is_exact.all() else None


def _decimals_of_units(units: NDArray[np.int64], texts: pa.Array, type_: pa.DataType) -> pa.Array:
    # A decimal128 is a whole number of 16 bytes, the low half first; the high half of a small one is its sign alone.
    halves = np.stack((units, units >> 63), axis=1)
    decimals = pa.Array.from_buffers(type_, len(units), [None, pa.py_buffer(halves)])
    return keep_where(decimals, texts.is_valid()) if texts.null_count else decimals


def _short_decimals(plain: pa.Array, type_: pa.DataType) -> pa.Array:
    # Counted before the cast, which overflows without a word on a text with too many digits
    # (pyarrow 26: "150" as decimal128(38, 38) is 0.2757…).
    before = type_.precision - type_.scale
    return keep_matching(plain, rf"[+-]?[0-9]{{0,{before}}}(\.[0-9]{{0,{type_.scale}}})?").cast(type_)


def _rounded_decimals(plain: pa.Array, type_: pa.DataType) -> pa.Array:
    before, wide = type_.precision - type_.scale, pa.decimal256(76, _WIDE_SCALE)
    if type_.scale >= _WIDE_SCALE:
        return pa.nulls(len(plain), type_)
    pattern = rf"[+-]?[0-9]{{0,{before}}}\.[0-9]{{{type_.scale + 1},{_WIDE_SCALE}}}"
    exact = keep_matching(plain, pattern).cast(wide)
    rounded = pc.round(exact, ndigits=type_.scale, round_mode="half_towards_infinity")
    limit = pa.scalar(Decimal(10) ** before, wide)  # rounding may have carried: 9.99 to 10.0
    return keep_where(rounded, pc.less(pc.abs(rounded), limit)).cast(type_)


def _fast_wide_numerics(texts: pa.Array, column: ColumnType) -> pa.Array:
    # Text that is already as PostgreSQL would print it: no needless zeros or signs, no minus zero.
    plain = keep_matching(texts, r"-?[1-9][0-9]*(\.[0-9]+)?|0(\.[0-9]+)?|-0\.[0-9]*[1-9][0-9]*")
    if column.precision is not None:
        plain = keep_matching(plain, _within_precision(column.precision, column.scale or 0))
    # As many characters as are safe in any case, whatever part of them is digits.
    return keep_where(plain, pc.less_equal(pc.binary_length(plain), column.exact_digits or _MOST_DIGITS_AFTER))


def _within_precision(precision: int, scale: int) -> str:
    before = precision - scale
    if scale < 0 or before < 1:
        return "0"
    return rf"-?[0-9]{{1,{before}}}" + (rf"(\.[0-9]{{1,{scale}}})?" if scale else "")


def parse_numeric(text: str, column: ColumnType) -> Decimal | str | Refused:
    """The exact rule for one text; text in plain notation where Arrow has no decimal wide enough."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return NO_NAN_IN_NUMERIC if _NOT_FINITE.fullmatch(text) else NOT_NUMERIC
    if match[2] and len(match[2].lstrip("eE+-0")) > 6:
        return _too_many_digits(column)
    value = _rounded(Decimal(text), column)
    if isinstance(value, Decimal) and column.exact_digits is not None and not _is_exact_float(value):
        return NOT_EXACT
    if isinstance(value, Decimal) and numeric_arrow_type(column) == pa.string():
        return f"{value if value else value.copy_abs():f}"
    return value


def _rounded(value: Decimal, column: ColumnType) -> Decimal | Refused:
    digits_after = -int(value.as_tuple().exponent)
    if digits_after > _MOST_DIGITS_AFTER:  # PostgreSQL looks at it before it rounds
        return _too_many_digits(column)
    if column.precision is None:
        return _too_many_digits(column) if value and value.adjusted() >= _MOST_DIGITS_BEFORE else value
    scale = column.scale or 0
    before = column.precision - scale
    if value and value.adjusted() > before:
        return _too_many_digits(column)
    if digits_after > scale or numeric_arrow_type(column) != pa.string():
        value = _round_half_away(value, scale, column.precision)
    return _too_many_digits(column) if value and value.adjusted() >= before else value


def _round_half_away(value: Decimal, scale: int, precision: int) -> Decimal:
    # Room for every digit: the default context would raise beyond 28.
    context = decimal.Context(prec=precision + 2, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
    return value.quantize(Decimal((0, (1,), -scale)), rounding=decimal.ROUND_HALF_UP, context=context)


def _is_exact_float(value: Decimal) -> bool:
    return Decimal(repr(float(value))) == value


def _too_many_digits(column: ColumnType) -> Refused:
    if column.precision is None:
        most = f"{_MOST_DIGITS_BEFORE} digits before and {_MOST_DIGITS_AFTER} after the point"
        return Refused(Reason.RANGE, f"out of range for numeric: at most {most}")
    scale = column.scale or 0
    return Refused(
        Reason.RANGE,
        f"out of range for numeric({column.precision},{scale}): 10^{column.precision - scale} or more",
    )


# REAL and DOUBLE


def float_conversion(column: ColumnType) -> TextConversion:
    """Texts to REAL or DOUBLE: the nearest float, NaN and infinities by name; no overflow, no underflow."""
    type_ = FLOAT_TYPES[column.kind]
    return TextConversion(type_, partial(_fast_floats, type_=type_), partial(parse_float, column=column))


def _fast_floats(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    values = cast_or_none(texts, type_) if _has_plain_bytes(texts) else None
    if values is None:
        values = keep_matching(texts, f"-?{_DIGITS}{_EXPONENT}?").cast(type_)
    values = keep_where(values, pc.is_finite(values))  # Arrow reads 1e400 as infinity
    is_zero = pc.equal(values, pa.scalar(0, type_))
    if is_zero.true_count == 0:
        return values
    underflown = pc.and_(is_zero, pc.match_substring_regex(texts, r"\A[^eE]*[1-9]"))
    return keep_where(values, pc.invert(underflown))


def parse_float(text: str, column: ColumnType) -> float | Refused:
    """The exact rule for one text."""
    if _NOT_FINITE.fullmatch(text):
        return NO_NAN if text.lower() == "nan" and not column.has_nan else float(text)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return NOT_FLOAT
    # By Arrow: Python reads 8-byte floats only, and rounding twice is not rounding once.
    value: float = pa.scalar(text.removeprefix("+")).cast(FLOAT_TYPES[column.kind]).as_py()
    if value in (float("inf"), float("-inf")):
        return FLOAT_OVERFLOW
    return FLOAT_UNDERFLOW if value == 0 and re.search("[1-9]", match[1]) else value


# BOOLEAN

_WORDS = {
    **{"true"[:length]: True for length in range(1, 5)},
    **{"false"[:length]: False for length in range(1, 6)},
    **{"yes"[:length]: True for length in range(1, 4)},
    **{"no"[:length]: False for length in range(1, 3)},
    "on": True,
    "off": False,
    "of": False,
    "1": True,
    "0": False,
}
_WORD_TEXTS = pa.array(_WORDS.keys())
_WORD_VALUES = pa.array(_WORDS.values())


def boolean_conversion() -> TextConversion:
    """Texts to BOOLEAN: PostgreSQL's words and their unique prefixes in any case."""
    return TextConversion(pa.bool_(), _fast_booleans, parse_boolean)


def _fast_booleans(texts: pa.Array) -> pa.Array:
    return _WORD_VALUES.take(pc.index_in(pc.ascii_lower(texts), value_set=_WORD_TEXTS))


def parse_boolean(text: str) -> bool | Refused:
    """The exact rule for one text."""
    return _WORDS.get(text.lower(), NOT_BOOLEAN) if text.isascii() else NOT_BOOLEAN
