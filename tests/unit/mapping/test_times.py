"""Texts to dates and times in ISO notation."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.mapping.conversion import Refused
from etl.mapping.kinds import conversion_of_texts
from etl.mapping.times import fraction_to_microseconds
from etl.records import ColumnType, Kind, Reason

UTC = dt.UTC


def convert(text: str, kind: Kind) -> object:
    converted = conversion_of_texts(ColumnType(kind))(pa.array([text]))
    return converted.refused[0].reason if converted.refused else converted.values[0].as_py()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-01-31", dt.date(2023, 1, 31)),
        (" 2023-01-31 ", dt.date(2023, 1, 31)),
        ("2024-02-29", dt.date(2024, 2, 29)),
        ("2023-02-29", Reason.RANGE),
        ("1900-02-29", Reason.RANGE),
        ("2023-04-31", Reason.RANGE),
        ("2023-13-01", Reason.RANGE),
        ("2023-00-10", Reason.RANGE),
        ("0001-01-01", dt.date(1, 1, 1)),
        ("9999-12-31", dt.date(9999, 12, 31)),
        ("0000-01-01", Reason.RANGE),
        ("10000-01-01", Reason.TYPE),
        ("2023-1-1", Reason.TYPE),
        ("20230101", Reason.TYPE),
        ("31/01/2023", Reason.TYPE),
        ("2023-01-31 00:00:00", Reason.TYPE),
        ("today", Reason.TYPE),
        ("", Reason.TYPE),
    ],
)
def test_dates(text: str, expected: object) -> None:
    assert convert(text, Kind.DATE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12:34", dt.time(12, 34)),
        ("12:34:56", dt.time(12, 34, 56)),
        ("12:34:56.1", dt.time(12, 34, 56, 100_000)),
        ("12:34:56.1234565", dt.time(12, 34, 56, 123_456)),
        ("12:34:56.1234575", dt.time(12, 34, 56, 123_458)),
        ("23:59:59.9999999", Reason.RANGE),
        ("24:00:00", Reason.RANGE),
        ("12:60", Reason.RANGE),
        ("23:59:60", Reason.RANGE),
        ("12", Reason.TYPE),
        ("1:2", Reason.TYPE),
        ("12:34:56.", Reason.TYPE),
        ("12:34Z", Reason.TYPE),
        ("12:34 PM", Reason.TYPE),
    ],
)
def test_times(text: str, expected: object) -> None:
    assert convert(text, Kind.TIME) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-01-31", dt.datetime(2023, 1, 31)),
        ("2023-01-31 12:34", dt.datetime(2023, 1, 31, 12, 34)),
        ("2023-01-31T12:34:56.123456", dt.datetime(2023, 1, 31, 12, 34, 56, 123_456)),
        ("2024-02-29 12:34:56", dt.datetime(2024, 2, 29, 12, 34, 56)),
        ("2023-12-31 23:59:59.9999999", dt.datetime(2024, 1, 1)),
        ("9999-12-31 23:59:59.9999999", Reason.RANGE),
        ("2023-02-29 12:00", Reason.RANGE),
        ("2023-01-31 24:00:00", Reason.RANGE),
        ("0000-01-31 12:00", Reason.RANGE),
        ("2023-01-31 12", Reason.TYPE),
        ("2023-01-31  12:34", Reason.TYPE),
        ("2023-01-31 12:34:56Z", Reason.TYPE),
        ("2023-01-31 12:34:56+01", Reason.TYPE),
        ("infinity", Reason.TYPE),
    ],
)
def test_timestamps(text: str, expected: object) -> None:
    assert convert(text, Kind.TIMESTAMP) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-01-31 12:34:56", dt.datetime(2023, 1, 31, 12, 34, 56, tzinfo=UTC)),
        ("2023-01-31", dt.datetime(2023, 1, 31, tzinfo=UTC)),
        ("2023-01-31T12:34:56Z", dt.datetime(2023, 1, 31, 12, 34, 56, tzinfo=UTC)),
        ("2023-01-31 12:34+01", dt.datetime(2023, 1, 31, 11, 34, tzinfo=UTC)),
        ("2023-01-31 12:34:56.5-0130", dt.datetime(2023, 1, 31, 14, 4, 56, 500_000, tzinfo=UTC)),
        ("2023-01-31 12:34:56+05:30", dt.datetime(2023, 1, 31, 7, 4, 56, tzinfo=UTC)),
        ("2024-02-29 23:30:00-01:00", dt.datetime(2024, 3, 1, 0, 30, tzinfo=UTC)),
        ("2023-01-31 12:34:56+15:59", dt.datetime(2023, 1, 30, 20, 35, 56, tzinfo=UTC)),
        ("2023-01-31 12:34:56+16", Reason.RANGE),
        ("2023-01-31 12:34:56+01:60", Reason.RANGE),
        ("0001-01-01 00:00:00+01", Reason.RANGE),
        ("9999-12-31 23:59:59-01", Reason.RANGE),
        ("2023-01-31 12:34:56 +01", Reason.TYPE),
        ("2023-01-31 12:34:56+1", Reason.TYPE),
        ("2023-01-31Z", Reason.TYPE),
        ("2023-01-31 12:34:56 CET", Reason.TYPE),
    ],
)
def test_timestamps_with_time_zone(text: str, expected: object) -> None:
    assert convert(text, Kind.TIMESTAMPTZ) == expected


def test_offsets_and_none_may_be_mixed_in_a_column() -> None:
    texts = pa.array(["2023-01-31 12:00", None, "2023-01-31 12:00+02", "x"])
    converted = conversion_of_texts(ColumnType(Kind.TIMESTAMPTZ))(texts)
    assert converted.values.to_pylist() == [
        dt.datetime(2023, 1, 31, 12, tzinfo=UTC),
        None,
        dt.datetime(2023, 1, 31, 10, tzinfo=UTC),
        None,
    ]
    assert list(converted.refused) == [3]


@pytest.mark.parametrize(
    ("digits", "microseconds"),
    [
        ("5", 500_000),
        ("000001", 1),
        ("0000005", 0),
        ("0000015", 2),
        ("9999995", 1_000_000),
        ("1" * 40, 111_111),
    ],
)
def test_fractions_are_rounded_half_to_even(digits: str, microseconds: int) -> None:
    assert fraction_to_microseconds(digits) == microseconds


@given(day=st.dates())
def test_every_day_survives_its_text(day: dt.date) -> None:
    assert convert(day.isoformat(), Kind.DATE) == day


@given(text=st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9]\Z"))
def test_days_are_those_of_python(text: str) -> None:
    try:
        expected: object = dt.date.fromisoformat(text)
    except ValueError:
        expected = Reason.RANGE
    if text.isascii():
        assert convert(text, Kind.DATE) == expected


@given(moment=st.datetimes(), separator=st.sampled_from("T "))
def test_every_moment_survives_its_text(moment: dt.datetime, separator: str) -> None:
    assert convert(moment.isoformat(separator), Kind.TIMESTAMP) == moment
    assert convert(moment.isoformat(separator) + "Z", Kind.TIMESTAMPTZ) == moment.replace(tzinfo=UTC)
    assert convert(moment.time().isoformat(), Kind.TIME) == moment.time()


MOMENT_TEXTS = st.lists(
    st.from_regex(
        r"\A([0-9]{4}-[01][0-9]-[0-3][0-9])?[ T]?([0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{0,8})?)?)?"
        r"(Z|[+-][0-2][0-9](:?[0-6][0-9])?)?\Z"
    )
)


@settings(max_examples=60)
@given(texts=MOMENT_TEXTS, kind=st.sampled_from([Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ]))
def test_fast_and_exact_times_agree(texts: list[str], kind: Kind) -> None:
    conversion = conversion_of_texts(ColumnType(kind))
    for text, value in zip(texts, conversion.fast(pa.array(texts, pa.string())), strict=True):
        exact = conversion.exact(text)
        assert not value.is_valid or (not isinstance(exact, Refused) and value.as_py() == exact), text
