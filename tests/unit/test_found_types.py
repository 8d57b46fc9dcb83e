"""The types that are found for columns of texts and of Arrow: what is kept, and that nothing is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.errors import TargetMismatch
from etl.mapping.arrow_types import type_of_arrow
from etl.mapping.found_types import TypeFinder, joined_type
from etl.mapping.kinds import Reading, conversion_of_texts
from etl.mapping.spelling import USUAL, Spelling
from etl.records import ColumnType, Kind

DIALECTS = ["sqlite", "postgresql"]


def found(
    *texts: str | None, dialect: str = "postgresql", size: int | None = None, spelling: Spelling = USUAL
) -> ColumnType:
    finder = TypeFinder(spelling)
    for start in range(0, len(texts), size or max(1, len(texts))):
        finder.add(pa.array(texts[start : start + (size or len(texts))], pa.string()))
    return finder.found(dialect)


def numeric(precision: int | None, scale: int | None) -> ColumnType:
    return ColumnType(Kind.NUMERIC, precision=precision, scale=scale)


@pytest.mark.parametrize(
    ("texts", "type_"),
    [
        (["1", "-20", "0", None], ColumnType(Kind.BIGINT)),
        (["9223372036854775807", "-9223372036854775808"], ColumnType(Kind.BIGINT)),
        (["9223372036854775808"], numeric(38, 0)),
        (["1.50", "20", "-0.125"], numeric(38, 3)),
        ([".5"], numeric(38, 1)),
        (["1" * 30 + "." + "2" * 9], numeric(None, None)),
        (["1e5", "2", "0.25"], ColumnType(Kind.DOUBLE)),
        (["1.7976931348623157e308"], ColumnType(Kind.DOUBLE)),
        (["true", "FALSE", "True"], ColumnType(Kind.BOOLEAN)),
        (["2024-02-29", "0001-01-01"], ColumnType(Kind.DATE)),
        (["2024-02-29", "2024-03-01 10:30"], ColumnType(Kind.TIMESTAMP)),
        (["2024-03-01T10:30:00.123456"], ColumnType(Kind.TIMESTAMP)),
        (["2024-03-01T10:30:00Z", "2024-03-01 10:30:00+02"], ColumnType(Kind.TIMESTAMPTZ)),
        (["0e6b1a52-9b1e-4c0e-8a83-0d8b2d5c0f11", "0E6B1A52-9B1E-4C0E-8A83-0D8B2D5C0F12"], ColumnType(Kind.UUID)),
    ],
)
def test_a_type_that_all_texts_have_is_found(texts, type_):
    assert found(*texts) == type_
    assert found(*texts, size=1) == type_


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [None, None],
        [""],
        ["1", ""],
        ["007", "8"],  # a leading zero is part of a code
        ["-01.5"],
        ["+351912345678"],
        [" 1"],
        ["1 "],
        ["1."],
        ["1,5"],
        ["0x1F"],
        ["1_000"],
        ["1e400"],  # infinite as a float
        ["1e-400"],  # zero as one
        ["1.23456789012345678e5"],  # more digits than a float keeps
        ["1e5", "12345678901234567890"],
        ["NaN"],
        ["inf", "1e5"],
        ["t", "f"],
        ["yes", "no"],
        ["true", "1"],
        ["2023-02-29"],  # no such day
        ["0000-01-01"],
        ["2024-1-5"],
        ["01/02/2024"],
        ["2024-01-01", "10"],
        ["2024-01-01 10:00:00.1234567"],  # would be rounded
        ["2024-01-01 24:00"],
        ["2024-01-01 10:00", "2024-01-01 10:00Z"],  # of one the zone would be a guess
        ["2024-01-01", "2024-01-01 10:00Z"],
        ["10:30"],
        ["0e6b1a529b1e4c0e8a830d8b2d5c0f11"],
        ["1", "x"],
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_would_come_back_as_another_text_stays_text(texts, dialect):
    assert found(*texts, dialect=dialect) == ColumnType(Kind.TEXT)
    assert found(*texts, dialect=dialect, size=1) == ColumnType(Kind.TEXT)


def test_sqlite_has_no_decimal_number_of_more_than_15_digits():
    assert found("123456789012.345", dialect="sqlite") == numeric(38, 3)
    assert found("1234567890123.456", dialect="sqlite") == ColumnType(Kind.TEXT)
    assert found("9223372036854775808", dialect="sqlite") == ColumnType(Kind.TEXT)


def test_one_text_among_many_decides():
    numbers = [str(number) for number in range(1, 5_000)]

    assert found(*numbers, size=1_000) == ColumnType(Kind.BIGINT)
    assert found(*numbers, "x", size=1_000) == ColumnType(Kind.TEXT)
    assert found(*numbers, "0.5", size=1_000) == numeric(38, 1)


TEXTS = st.one_of(
    st.text("0019.-+e", max_size=6),
    st.integers().map(str),
    st.floats().map(repr),
    st.dates().map(str),
    st.datetimes().map(str),
    st.sampled_from(["2023-02-29", "2024-02-29 10:00Z", "2024-02-29T23:59:60", "true", "False", " 1", "10:00"]),
)


@settings(max_examples=100)
@given(st.lists(TEXTS, max_size=4), st.sampled_from(DIALECTS), st.integers(1, 4))
@example(["-0", "0"], "sqlite", 1)
def test_no_text_is_refused_by_the_type_that_was_found_for_it(texts, dialect, size):
    type_ = found(*texts, dialect=dialect, size=size)
    declared = ColumnType(type_.kind, type_.length, type_.precision, type_.scale, exact_digits=15, has_nan=False)

    converted = conversion_of_texts(declared if dialect == "sqlite" else type_)(pa.array(texts, pa.string()))

    assert not converted.refused
    assert type_ == found(*reversed(texts), dialect=dialect), "the order and the batches make no difference"


@settings(max_examples=50)
@given(st.lists(st.decimals(-(10**9), 10**9, places=4), min_size=1, max_size=4))
def test_the_scale_that_was_found_rounds_nothing(values):
    texts = [f"{value:f}" for value in values]
    type_ = found(*texts)
    if type_.kind is not Kind.NUMERIC:
        return

    converted = conversion_of_texts(type_)(pa.array(texts, pa.string())).values

    assert [type(value)(str(stored)) for value, stored in zip(values, converted.to_pylist(), strict=True)] == values


@pytest.mark.parametrize(
    ("type_", "postgresql", "sqlite"),
    [
        (pa.int8(), ColumnType(Kind.SMALLINT), None),
        (pa.uint16(), ColumnType(Kind.INTEGER), None),
        (pa.int32(), ColumnType(Kind.INTEGER), None),
        (pa.uint32(), ColumnType(Kind.BIGINT), None),
        (pa.uint64(), numeric(20, 0), ColumnType(Kind.TEXT)),
        (pa.float32(), ColumnType(Kind.REAL), None),
        (pa.float64(), ColumnType(Kind.DOUBLE), None),
        (pa.decimal128(9, 2), numeric(9, 2), None),
        (pa.decimal128(18, 2), numeric(18, 2), ColumnType(Kind.TEXT)),
        (pa.decimal128(5, -2), numeric(7, 0), None),
        (pa.decimal256(60, 3), numeric(None, None), ColumnType(Kind.TEXT)),
        (pa.bool_(), ColumnType(Kind.BOOLEAN), None),
        (pa.date32(), ColumnType(Kind.DATE), None),
        (pa.time64("us"), ColumnType(Kind.TIME), None),
        (pa.timestamp("ns"), ColumnType(Kind.TIMESTAMP), None),
        (pa.timestamp("ms", "Europe/Lisbon"), ColumnType(Kind.TIMESTAMPTZ), None),
        (pa.dictionary(pa.int8(), pa.string()), ColumnType(Kind.TEXT), None),
        (pa.large_string(), ColumnType(Kind.TEXT), None),
        (pa.null(), ColumnType(Kind.TEXT), None),
        (pa.binary(), ColumnType(Kind.BYTES), None),
        (pa.uuid(), ColumnType(Kind.UUID), None),
        (pa.list_(pa.int64()), ColumnType(Kind.JSON), None),
        (pa.struct([("a", pa.int64())]), ColumnType(Kind.JSON), None),
    ],
)
def test_an_arrow_type_has_its_column_type(type_, postgresql, sqlite):
    assert type_of_arrow("x", type_, "postgresql") == postgresql
    assert type_of_arrow("x", type_, "sqlite") == (sqlite or postgresql)


def test_an_arrow_type_without_a_column_type_is_told():
    with pytest.raises(TargetMismatch, match=r'"x" has the type duration\[s\]'):
        type_of_arrow("x", pa.duration("s"), "sqlite")


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        (ColumnType(Kind.SMALLINT), ColumnType(Kind.BIGINT), ColumnType(Kind.BIGINT)),
        (ColumnType(Kind.BIGINT), numeric(9, 2), numeric(38, 2)),
        (numeric(9, 2), numeric(12, 4), numeric(38, 4)),
        (numeric(38, 0), numeric(38, 10), ColumnType(Kind.TEXT)),
        (ColumnType(Kind.REAL), ColumnType(Kind.DOUBLE), ColumnType(Kind.DOUBLE)),
        (ColumnType(Kind.DATE), ColumnType(Kind.TIMESTAMP), ColumnType(Kind.TIMESTAMP)),
        (ColumnType(Kind.DATE), ColumnType(Kind.TIMESTAMPTZ), ColumnType(Kind.TEXT)),
        (ColumnType(Kind.BIGINT), ColumnType(Kind.BOOLEAN), ColumnType(Kind.TEXT)),
    ],
)
def test_two_types_are_joined_to_one_that_holds_both(one, other, joined):
    assert joined_type(one, other) == joined
    assert joined_type(other, one) == joined


@pytest.mark.parametrize(
    ("texts", "spelling", "type_"),
    [
        (["1,50", "-20"], Spelling(","), numeric(38, 2)),
        (["1.234,5", "12"], Spelling(",", "."), numeric(38, 1)),
        (["1.234", "12.345"], Spelling(",", "."), ColumnType(Kind.BIGINT)),
        (["1,234", "12"], Spelling(".", ","), ColumnType(Kind.BIGINT)),
        (["1.5"], Spelling(",", "."), ColumnType(Kind.TEXT)),
        (["1.50"], Spelling(","), ColumnType(Kind.TEXT)),
        (["007,5"], Spelling(","), ColumnType(Kind.TEXT)),
        (["ja", "nein"], Spelling(true_words=("ja",), false_words=("nein",)), ColumnType(Kind.BOOLEAN)),
        (["ja", "Nein"], Spelling(true_words=("ja",), false_words=("nein",)), ColumnType(Kind.TEXT)),
        (["true"], Spelling(true_words=("ja",), false_words=("nein",)), ColumnType(Kind.TEXT)),
        (["1", "0"], Spelling(true_words=("1",), false_words=("0",)), ColumnType(Kind.BIGINT)),
    ],
)
def test_types_are_found_as_the_source_spells_them(texts, spelling, type_):
    assert found(*texts, spelling=spelling) == type_
    assert found(*texts, size=1, spelling=spelling) == type_
    assert not conversion_of_texts(type_, Reading(spelling=spelling))(pa.array(texts, pa.string())).refused
