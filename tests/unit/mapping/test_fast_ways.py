"""Columns that are almost of one form: the ways that look at a whole column give what the rule says of each text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.mapping import numbers, times
from etl.mapping.column_bytes import ColumnBytes
from etl.mapping.conversion import WHITE_SPACE, Refused, TextConversion
from etl.mapping.kinds import conversion_of_texts
from etl.records import ColumnType, Kind

INTEGER, BIGINT = ColumnType(Kind.INTEGER), ColumnType(Kind.BIGINT)
REAL, DOUBLE = ColumnType(Kind.REAL), ColumnType(Kind.DOUBLE)
NUMERIC_12_2 = ColumnType(Kind.NUMERIC, precision=12, scale=2)
NUMERIC_38_22 = ColumnType(Kind.NUMERIC, precision=38, scale=22)
SQLITE_20_2 = ColumnType(Kind.NUMERIC, precision=20, scale=2, exact_digits=15)
DATE, TIMESTAMP, TIMESTAMPTZ = ColumnType(Kind.DATE), ColumnType(Kind.TIMESTAMP), ColumnType(Kind.TIMESTAMPTZ)
VARCHAR_5 = ColumnType(Kind.TEXT, length=5)

GARBAGE = ["\0", "0x1F", " ", "ÿ"]


def column_with_bytes_beneath_nulls(texts: list[str | None]) -> pa.Array:
    """The texts with garbage beneath each NULL, as a slice of a longer column."""
    stored = ["é", *(GARBAGE[at % 4] if text is None else text for at, text in enumerate(texts)), "\0 "]
    valid = np.array([False, *(text is not None for text in texts), True])
    plain = pa.array(stored, pa.string())
    bitmap = pa.array(valid).buffers()[1]
    array = pa.StringArray.from_buffers(len(stored), plain.buffers()[1], plain.buffers()[2], bitmap)
    return array.slice(1, len(texts))


def assert_is_the_rule(conversion: TextConversion, texts: list[str | None]) -> None:
    """Every cell of the converted column is what the exact parser makes of its text, refusals among them."""
    converted = conversion(column_with_bytes_beneath_nulls(texts))
    converted.values.validate(full=True)
    for place, (text, value) in enumerate(zip(texts, converted.values, strict=True)):
        exact = None if text is None else conversion.exact(text.strip(WHITE_SPACE) if conversion.trims else text)
        if isinstance(exact, Refused):
            assert (converted.refused.get(place), value.as_py()) == (exact, None), text
        else:
            assert place not in converted.refused, text
            # repr: -0.0 is not 0.0
            assert repr(value.as_py()) == repr(pa.array([exact], conversion.type)[0].as_py()), text


def slips_of(text: str) -> Iterator[str]:
    """The text with a character too few, one too many, or another one in its place."""
    others = "\0\t +,-./0359:;TZex~\N{ARABIC-INDIC DIGIT THREE}\N{FULLWIDTH COLON}"
    for place in range(len(text) + 1):
        before, behind = text[:place], text[place + 1 :]
        yield before + behind
        yield from (before + other + behind for other in others)
        yield from (before + other + text[place:] for other in "+-.: 0T")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("-120", INTEGER),
        ("-120.50", NUMERIC_12_2),
        (".50", NUMERIC_12_2),
        ("-7.25", DOUBLE),
        ("2024-02-29", DATE),
        ("0000-12-31", DATE),
        ("2023-05-07 13:50:10", TIMESTAMP),
        ("2023-05-07T13:50:10.25", TIMESTAMP),
        ("0001-01-01 00:00:00", TIMESTAMP),
        ("2023-05-07 23:59:59Z", TIMESTAMPTZ),
        ("2023-05-07 23:59:59.5+15", TIMESTAMPTZ),
        ("2023-05-07 23:59:59-0930", TIMESTAMPTZ),
        ("2023-05-07T23:59:59.125+15:59", TIMESTAMPTZ),
        ("9999-12-31 23:59:59-00:01", TIMESTAMPTZ),
    ],
)
def test_a_slip_of_the_pen_is_judged_by_the_rule(text: str, column: ColumnType) -> None:
    conversion = conversion_of_texts(column)
    for slip in slips_of(text):
        assert_is_the_rule(conversion, [slip])
        assert_is_the_rule(conversion, [text, None, slip])


@pytest.mark.parametrize(
    ("texts", "column", "expected"),
    [
        (["1", "0x1F"], INTEGER, [1, None]),
        (["+5", " 5", "-0"], INTEGER, [5, 5, 0]),
        (["5.", ".5", "-.5", "-0.00"], NUMERIC_12_2, list(map(Decimal, ["5.00", "0.50", "-0.50", "0.00"]))),
        (["1.005", "2.675", "1e3"], NUMERIC_12_2, list(map(Decimal, ["1.01", "2.68", "1000.00"]))),
        (["0.005", "-0.005"], NUMERIC_12_2, list(map(Decimal, ["0.01", "-0.01"]))),
        (["9999999999.99", "9999999999.994"], NUMERIC_12_2, [Decimal("9999999999.99")] * 2),
        (["9999999999.995", "10000000000"], NUMERIC_12_2, [None, None]),
        # 0.0049999999999999999 has the same nearest float as 0.005
        (["0.0049999999999999999", "0.01"], NUMERIC_12_2, list(map(Decimal, ["0.00", "0.01"]))),
        (["9007199254740993", "1"], NUMERIC_38_22, None),
        (["1" + "0" * 300], NUMERIC_38_22, [None]),
        (["2024-02-29", "2023-02-29", "0000-01-01"], DATE, [dt.date(2024, 2, 29), None, None]),
        (["1900-02-29", "2000-02-29"], DATE, [None, dt.date(2000, 2, 29)]),
        (["2023-01-01 24:00:00", "2023-01-01 00:00:60"], TIMESTAMP, [None, None]),
        (["0000-01-01 00:00:00"], TIMESTAMP, [None]),
        (["2023-05-07 13:50+01"], TIMESTAMP, [None]),
        (["2023-05-07 13:50:10+16"], TIMESTAMPTZ, [None]),
    ],
)
def test_odd_columns(texts: list[str], column: ColumnType, expected: list[object] | None) -> None:
    conversion = conversion_of_texts(column)
    assert_is_the_rule(conversion, list(texts))
    if expected is not None:
        assert conversion(pa.array(texts)).values.to_pylist() == expected


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(-(10**13), 10**13, places=2, allow_nan=False).map(lambda value: f"{value:f}"),
    st.decimals(-100, 100, places=18, allow_nan=False).map(lambda value: f"{value:f}"),
    st.text("-./0159", max_size=8),
)
# The halves between two cents, and what lies next to them: where a float would round to the wrong side.
HALVES = st.tuples(st.integers(-(10**14), 10**14), st.sampled_from(["4999999999999999", "5", "50000000000000001"])).map(
    lambda drawn: f"{drawn[0] // 100}.{abs(drawn[0]) % 100:02}{drawn[1]}"
)
MOMENTS = st.one_of(
    st.datetimes().map(str), st.datetimes().map(lambda moment: moment.isoformat(" ", "seconds")), st.text("0129-: TZ+.")
)
DAYS = st.one_of(st.dates().map(str), st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]\Z").filter(str.isascii))
OFFSETS = st.sampled_from(["", "", "Z", "+00", "-1530", "+05:30", "+16:00", "+01:60"])


@st.composite
def columns(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> list[str | None]:
    column = draw(st.lists(texts, max_size=6))
    if draw(st.booleans()):
        return [*column]
    odd = st.one_of(st.none(), st.text(WHITE_SPACE + "+0", max_size=2), texts.map(lambda text: f" {text}\t"))
    return draw(st.permutations([*column, *draw(st.lists(odd, max_size=2))]))


@settings(max_examples=150)
@given(
    texts=columns(NUMBERS) | columns(HALVES),
    column=st.sampled_from([INTEGER, BIGINT, REAL, DOUBLE, NUMERIC_12_2, NUMERIC_38_22, SQLITE_20_2]),
)
def test_columns_of_numbers_are_read_by_the_rule(texts: list[str | None], column: ColumnType) -> None:
    assert_is_the_rule(conversion_of_texts(column), texts)


@settings(max_examples=150)
@given(data=st.data(), column=st.sampled_from([DATE, TIMESTAMP, TIMESTAMPTZ]))
def test_columns_of_times_are_read_by_the_rule(data: st.DataObject, column: ColumnType) -> None:
    offset = data.draw(OFFSETS)
    moments = MOMENTS.map(lambda text: text + offset)
    assert_is_the_rule(conversion_of_texts(column), data.draw(columns(DAYS if column == DATE else moments)))


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("-12", INTEGER),
        ("72895.53", NUMERIC_12_2),
        ("1234567890123.45", SQLITE_20_2),
        ("2.5", REAL),
        ("2024-02-29", DATE),
        ("2023-05-07 13:50:10", TIMESTAMP),
        ("2023-05-07T13:50:10.123456", TIMESTAMP),
        ("2023-05-07 13:50:10Z", TIMESTAMPTZ),
        ("2023-05-07 13:50:10+05:30", TIMESTAMPTZ),
    ],
)
def test_no_pattern_is_matched_to_a_clean_column(
    text: str, column: ColumnType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_pattern(texts: pa.Array, pattern: str) -> pa.Array:
        raise AssertionError(pattern)

    for module in (numbers, times):
        monkeypatch.setattr(module, "keep_matching", refuse_pattern)
    values = conversion_of_texts(column)(column_with_bytes_beneath_nulls([text] * 3)).values
    assert values.null_count == 0


def test_a_text_of_more_bytes_than_it_may_have_characters_is_counted_in_characters() -> None:
    converted = conversion_of_texts(VARCHAR_5)(column_with_bytes_beneath_nulls(["äöüßé", None, "abcdef", "ab"]))
    assert converted.values.to_pylist() == ["äöüßé", None, None, "ab"]
    assert list(converted.refused) == [2]


@pytest.mark.parametrize("texts", [[], [None], ["", None], [""]])
@pytest.mark.parametrize("column", [INTEGER, NUMERIC_12_2, DOUBLE, DATE, TIMESTAMP, TIMESTAMPTZ])
def test_columns_without_a_byte(texts: list[str | None], column: ColumnType) -> None:
    assert_is_the_rule(conversion_of_texts(column), texts)
    assert len(conversion_of_texts(column)(pa.array(texts, pa.string())).values) == len(texts)


def test_bytes_of_a_slice_are_those_of_its_texts() -> None:
    column = ColumnBytes.of(pa.array(["é", "ab", None, "c", "\0"]).slice(1, 3))
    assert column.data.tobytes() == b"abc"
    assert column.lengths.tolist() == [2, 1]
    assert (column.longest, column.width) == (2, None)
    assert column.all_within("a", "c")
    assert not column.all_within("a", "b")
    assert column.at(0).tobytes() == b"ac"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["a b", ""], False), (["a ", "b"], True), (["b", "\ta"], True), ([None, "a"], False), ([], False)],
)
def test_white_edges(texts: list[str | None], expected: bool) -> None:
    assert ColumnBytes.of(pa.array(texts, pa.string())).may_have_white_edge() == expected
