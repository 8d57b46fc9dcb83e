"""Texts to numbers and booleans: the rule for each text, and that the fast way never differs from it."""

from __future__ import annotations

import math
import struct
from decimal import ROUND_HALF_UP, Context, Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.mapping.conversion import Refused, TextConversion
from etl.mapping.kinds import conversion_of_texts
from etl.records import ColumnType, Kind, Reason

NUMERIC_10_2 = ColumnType(Kind.NUMERIC, precision=10, scale=2)
NUMERIC = ColumnType(Kind.NUMERIC)
SQLITE_20_2 = ColumnType(Kind.NUMERIC, precision=20, scale=2, exact_digits=15)
SQLITE_NUMERIC = ColumnType(Kind.NUMERIC, exact_digits=15)
DOUBLE = ColumnType(Kind.DOUBLE)
REAL = ColumnType(Kind.REAL)


def convert(text: str, column: ColumnType) -> object:
    converted = conversion_of_texts(column)(pa.array([text]))
    return converted.refused[0].reason if converted.refused else converted.values[0].as_py()


def assert_ways_agree(conversion: TextConversion, texts: list[str]) -> None:
    """Whatever the fast way gives must be what the exact parser gives."""
    array = pa.array(texts, pa.string())
    fast = conversion.fast(array)
    for text, value in zip(texts, fast, strict=True):
        if value.is_valid:
            exact = conversion.exact(text)
            assert not isinstance(exact, Refused), text
            assert repr(value.as_py()) == repr(pa.array([exact], conversion.type)[0].as_py())


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("0", Kind.INTEGER, 0),
        ("-0", Kind.INTEGER, 0),
        ("+5", Kind.INTEGER, 5),
        ("007", Kind.INTEGER, 7),
        (" \t-12\r\n", Kind.INTEGER, -12),
        ("32767", Kind.SMALLINT, 32767),
        ("32768", Kind.SMALLINT, Reason.RANGE),
        ("-32768", Kind.SMALLINT, -32768),
        ("-32769", Kind.SMALLINT, Reason.RANGE),
        ("2147483648", Kind.INTEGER, Reason.RANGE),
        ("9223372036854775807", Kind.BIGINT, 9223372036854775807),
        ("9223372036854775808", Kind.BIGINT, Reason.RANGE),
        ("-9223372036854775808", Kind.BIGINT, -9223372036854775808),
        ("0" * 5000 + "1", Kind.BIGINT, 1),
        ("1" * 5000, Kind.BIGINT, Reason.RANGE),
        ("", Kind.INTEGER, Reason.TYPE),
        ("-", Kind.INTEGER, Reason.TYPE),
        ("1.0", Kind.INTEGER, Reason.TYPE),
        ("1e3", Kind.INTEGER, Reason.TYPE),
        ("1_000", Kind.INTEGER, Reason.TYPE),
        ("1,000", Kind.INTEGER, Reason.TYPE),
        ("0x1F", Kind.INTEGER, Reason.TYPE),
        ("- 1", Kind.INTEGER, Reason.TYPE),
        ("\N{ARABIC-INDIC DIGIT THREE}", Kind.INTEGER, Reason.TYPE),
        ("\N{NO-BREAK SPACE}1", Kind.INTEGER, Reason.TYPE),
    ],
)
def test_integers(text: str, kind: Kind, expected: object) -> None:
    assert convert(text, ColumnType(kind)) == expected


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("1", NUMERIC_10_2, Decimal("1.00")),
        (" +.5 ", NUMERIC_10_2, Decimal("0.50")),
        ("5.", NUMERIC_10_2, Decimal("5.00")),
        ("1e3", NUMERIC_10_2, Decimal("1000.00")),
        ("15E-1", NUMERIC_10_2, Decimal("1.50")),
        ("1.005", NUMERIC_10_2, Decimal("1.01")),
        ("-1.005", NUMERIC_10_2, Decimal("-1.01")),
        ("1.00499999999999999999999999999999999999999999", NUMERIC_10_2, Decimal("1.00")),
        ("-0.001", NUMERIC_10_2, Decimal("0.00")),
        ("99999999.994", NUMERIC_10_2, Decimal("99999999.99")),
        ("99999999.995", NUMERIC_10_2, Reason.RANGE),
        ("100000000", NUMERIC_10_2, Reason.RANGE),
        ("1e999999999999", NUMERIC_10_2, Reason.RANGE),
        ("0000000000000000000000001", NUMERIC_10_2, Decimal("1.00")),
        ("2.5", ColumnType(Kind.NUMERIC, precision=3), Decimal(3)),
        ("1250", ColumnType(Kind.NUMERIC, precision=3, scale=-2), Decimal("1.3E+3")),
        ("99950", ColumnType(Kind.NUMERIC, precision=3, scale=-2), Reason.RANGE),
        ("0.00125", ColumnType(Kind.NUMERIC, precision=2, scale=4), Decimal("0.0013")),
        ("0.01", ColumnType(Kind.NUMERIC, precision=2, scale=4), Reason.RANGE),
        ("150", ColumnType(Kind.NUMERIC, precision=38, scale=38), Reason.RANGE),
        ("1" * 41, ColumnType(Kind.NUMERIC, precision=38, scale=0), Reason.RANGE),
        ("9" * 38, ColumnType(Kind.NUMERIC, precision=38, scale=0), Decimal("9" * 38)),
        ("NaN", NUMERIC_10_2, Reason.TYPE),
        ("Infinity", NUMERIC_10_2, Reason.TYPE),
        ("", NUMERIC_10_2, Reason.TYPE),
        (".", NUMERIC_10_2, Reason.TYPE),
        ("e5", NUMERIC_10_2, Reason.TYPE),
        ("1.2.3", NUMERIC_10_2, Reason.TYPE),
        ("1,5", NUMERIC_10_2, Reason.TYPE),
        ("1_000", NUMERIC_10_2, Reason.TYPE),
    ],
)
def test_numerics_with_precision(text: str, column: ColumnType, expected: object) -> None:
    assert convert(text, column) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.50", "1.50"),
        ("007", "7"),
        ("+5", "5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1e5", "100000"),
        ("1.5e-3", "0.0015"),
        ("-0", "0"),
        ("-0.00", "0.00"),
        ("-0.10", "-0.10"),
        ("0e5", "0"),
        ("1" * 50 + ".25", "1" * 50 + ".25"),
        ("1e131071", "1" + "0" * 131071),
        ("1e131072", Reason.RANGE),
        ("1e-16383", "0." + "0" * 16382 + "1"),
        ("1e-16384", Reason.RANGE),
    ],
)
def test_numerics_without_precision_are_plain_text(text: str, expected: object) -> None:
    assert convert(text, NUMERIC) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.005", "1.01"), ("1.5", "1.5"), ("9" * 48 + ".995", Reason.RANGE), ("-.001", "0.00")],
)
def test_numerics_too_wide_for_arrow_are_rounded_as_text(text: str, expected: object) -> None:
    assert convert(text, ColumnType(Kind.NUMERIC, precision=50, scale=2)) == expected


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("1234567890123.45", SQLITE_20_2, Decimal("1234567890123.45")),
        ("1234567890123456", SQLITE_20_2, Decimal("1234567890123456.00")),
        ("9007199254740992", SQLITE_20_2, Decimal("9007199254740992.00")),
        ("9007199254740993", SQLITE_20_2, Reason.RANGE),
        ("123456789012345678.91", SQLITE_20_2, Reason.RANGE),
        ("0.1234567890123456789", SQLITE_NUMERIC, Reason.RANGE),
        ("0.123456789012345", SQLITE_NUMERIC, "0.123456789012345"),
        ("1e400", SQLITE_NUMERIC, Reason.RANGE),
    ],
)
def test_numerics_that_sqlite_would_alter_are_refused(text: str, column: ColumnType, expected: object) -> None:
    assert convert(text, column) == expected


@given(
    value=st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9),
    scale=st.integers(0, 4),
)
def test_numeric_rounds_half_away_from_zero(value: Decimal, scale: int) -> None:
    column = ColumnType(Kind.NUMERIC, precision=16, scale=scale)
    expected = value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, Context(prec=60))
    assert convert(str(value), column) == expected


NUMBER_TEXTS = st.lists(st.text("0123456789.+-eE x_", max_size=12) | st.from_regex(r"[+-]?[0-9]{0,12}\.?[0-9]{0,12}"))


@settings(max_examples=60)
@given(
    texts=NUMBER_TEXTS,
    column=st.sampled_from(
        [
            *(ColumnType(kind) for kind in (Kind.SMALLINT, Kind.BIGINT, Kind.REAL, Kind.DOUBLE, Kind.NUMERIC)),
            *(ColumnType(Kind.NUMERIC, precision=p, scale=s) for p, s in [(10, 2), (5, 5), (38, 10), (40, 3), (4, 0)]),
            SQLITE_20_2,
            SQLITE_NUMERIC,
        ]
    ),
)
def test_fast_and_exact_numbers_agree(texts: list[str], column: ColumnType) -> None:
    assert_ways_agree(conversion_of_texts(column), texts)


@given(value=st.integers(-(2**70), 2**70))
def test_every_integer_is_itself_or_out_of_range(value: int) -> None:
    expected = value if -(2**63) <= value < 2**63 else Reason.RANGE
    assert convert(str(value), ColumnType(Kind.BIGINT)) == expected


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("1.5", DOUBLE, 1.5),
        (" -1e3 ", DOUBLE, -1000.0),
        ("+.5", DOUBLE, 0.5),
        ("inf", DOUBLE, math.inf),
        ("-Infinity", DOUBLE, -math.inf),
        ("+INF", DOUBLE, math.inf),
        ("4.9e-324", DOUBLE, 5e-324),
        ("1.7976931348623157e308", DOUBLE, 1.7976931348623157e308),
        ("1e400", DOUBLE, Reason.RANGE),
        ("-1e400", DOUBLE, Reason.RANGE),
        ("1e-400", DOUBLE, Reason.RANGE),
        ("0e-400", DOUBLE, 0.0),
        ("3.4028236e38", REAL, Reason.RANGE),
        ("1e-46", REAL, Reason.RANGE),
        ("0.1", REAL, 0.10000000149011612),
        ("0x10", DOUBLE, Reason.TYPE),
        ("-nan", DOUBLE, Reason.TYPE),
        ("1d", DOUBLE, Reason.TYPE),
        ("", DOUBLE, Reason.TYPE),
        ("1 2", DOUBLE, Reason.TYPE),
        ("NaN", ColumnType(Kind.DOUBLE, has_nan=False), Reason.RANGE),
    ],
)
def test_floats(text: str, column: ColumnType, expected: object) -> None:
    assert convert(text, column) == expected


def test_nan_is_a_float_where_the_database_has_it() -> None:
    assert math.isnan(convert("nAn", DOUBLE))  # type: ignore[arg-type]


def test_minus_zero_stays_minus_zero() -> None:
    assert math.copysign(1, convert("-0.0", DOUBLE)) == -1  # type: ignore[arg-type]


@given(value=st.floats(allow_nan=False))
def test_every_double_survives_its_text(value: float) -> None:
    assert struct.pack("d", convert(repr(value), DOUBLE)) == struct.pack("d", value)


@given(value=st.floats(allow_nan=False, width=32))
def test_every_real_survives_its_text(value: float) -> None:
    assert convert(repr(value), REAL) == value


@pytest.mark.parametrize("text", ["t", "TRUE", "tr", "y", "Yes", "on", "1", " true "])
def test_true(text: str) -> None:
    assert convert(text, ColumnType(Kind.BOOLEAN)) is True


@pytest.mark.parametrize("text", ["f", "FALSE", "fal", "n", "No", "of", "off", "0"])
def test_false(text: str) -> None:
    assert convert(text, ColumnType(Kind.BOOLEAN)) is False


@pytest.mark.parametrize("text", ["", "o", "2", "01", "truee", "\u017f", "null"])
def test_no_boolean(text: str) -> None:
    assert convert(text, ColumnType(Kind.BOOLEAN)) is Reason.TYPE
