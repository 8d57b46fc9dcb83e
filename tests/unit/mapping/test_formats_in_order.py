"""Several formats for one column, and numbers since 1970 among them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import ConfigError
from etl.mapping.conversion import Converted
from etl.mapping.formats import formats_conversion
from etl.mapping.kinds import Reading, choose_conversion
from etl.records import ColumnType, Kind, Reason


def read(kind: Kind, formats: list[str], *texts: str | None) -> Converted:
    return formats_conversion(kind, formats)(pa.array(texts, pa.string()))


def day(text: str, *formats: str) -> object:
    converted = read(Kind.DATE, list(formats), text)
    return converted.refused[0].reason if converted.refused else str(converted.values[0].as_py())


@pytest.mark.parametrize(
    ("text", "formats", "expected"),
    [
        ("31/01/2023", ("%d/%m/%Y", "%Y-%m-%d"), "2023-01-31"),
        ("2023-01-31", ("%d/%m/%Y", "%Y-%m-%d"), "2023-01-31"),
        ("01/02/2023", ("%d/%m/%Y", "%m/%d/%Y"), "2023-02-01"),
        ("01/02/2023", ("%m/%d/%Y", "%d/%m/%Y"), "2023-01-02"),
        ("12/25/2023", ("%d/%m/%Y", "%m/%d/%Y"), "2023-12-25"),
        ("1/2/2023", ("%d/%m/%Y", "%m/%d/%Y"), "2023-02-01"),
        ("29/02/2024", ("%d/%m/%Y", "%m/%d/%Y"), "2024-02-29"),
        ("31 Jan 2023", ("%d %b %Y", "%d/%m/%Y"), "2023-01-31"),
        ("31/01/2023", ("%d %b %Y", "%d/%m/%Y"), "2023-01-31"),
        ("20230131", ("%Y%m%d", "epoch"), "2023-01-31"),
        ("1675123200", ("%Y%m%d", "epoch"), "2023-01-31"),
        ("30/02/2023", ("%d/%m/%Y", "%Y-%m-%d"), Reason.RANGE),
        ("yesterday", ("%d/%m/%Y", "%Y-%m-%d"), Reason.TYPE),
        ("yesterday", ("%d/%m/%Y", "epoch"), Reason.TYPE),
    ],
)
def test_the_first_format_that_reads_the_text_decides(text: str, formats: tuple[str, ...], expected: object) -> None:
    assert day(text, *formats) == expected


def test_a_text_in_none_of_the_formats_is_told_so() -> None:
    converted = read(Kind.DATE, ["%d/%m/%Y", "%Y-%m-%d"], "x", None, "2023-01-31")
    assert converted.refused[0].message == "in none of the formats that the load gives for it"
    assert converted.values.to_pylist() == [None, None, dt.date(2023, 1, 31)]


PARTS = ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d", "%d.%m.%Y", "%d %m %Y", "%d %b %Y", "%Y-%d-%m", "%Y_%m_%d"]
FORMATS = st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(["", " %H:%M", "T%H:%M:%S"])).map("".join),
                   min_size=1, max_size=4)  # fmt: skip


def first_read_by_python(text: str, formats: list[str]) -> dt.datetime | None:
    for format_ in formats:
        try:
            return dt.datetime.strptime(text, format_)
        except ValueError:
            continue
    return None


@settings(max_examples=30)
@given(data=st.data(), formats=FORMATS)
def test_formats_in_order_mean_strptime_in_order(data: st.DataObject, formats: list[str]) -> None:
    moments = data.draw(st.lists(st.datetimes(dt.datetime(1000, 1, 1)), min_size=1, max_size=4))
    texts = [moment.strftime(data.draw(st.sampled_from(formats))) for moment in moments]
    texts += data.draw(st.lists(st.text("0123/-. T:_", max_size=12), max_size=3))
    texts += [text.replace("/0", "/").replace("-0", "-") for text in texts]
    texts += [f"{text[:4]}{digit}{text[5:]}" for text in texts for digit in "1 "]
    converted = read(Kind.TIMESTAMP, formats, *texts)
    assert converted.values.to_pylist() == [first_read_by_python(text, formats) for text in texts]


# Numbers since 1970


@pytest.mark.parametrize(
    ("text", "format_", "expected"),
    [
        ("0", "epoch", "1970-01-01 00:00:00"),
        ("1700000000", "epoch", "2023-11-14 22:13:20"),
        ("1700000000123", "epoch_ms", "2023-11-14 22:13:20.123000"),
        ("-1", "epoch", "1969-12-31 23:59:59"),
        ("+1", "epoch", "1970-01-01 00:00:01"),
        ("1700000000.5", "epoch", "2023-11-14 22:13:20.500000"),
        ("1.7e9", "epoch", "2023-11-14 22:13:20"),
        ("0.0000015", "epoch", "1970-01-01 00:00:00.000002"),
        ("253402300799", "epoch", "9999-12-31 23:59:59"),
        ("253402300800", "epoch", Reason.RANGE),
        ("-62135596801", "epoch", Reason.RANGE),
        ("1e400", "epoch", Reason.RANGE),
        ("99999999999999999999", "epoch", Reason.RANGE),
        ("999999999999999", "epoch", Reason.RANGE),
        ("", "epoch", Reason.TYPE),
        (" 1", "epoch", Reason.TYPE),
        ("1_000", "epoch", Reason.TYPE),
        ("0x1", "epoch", Reason.TYPE),
        ("nan", "epoch", Reason.TYPE),
    ],
)
def test_numbers_since_1970(text: str, format_: str, expected: object) -> None:
    converted = read(Kind.TIMESTAMP, [format_], text)
    found = converted.refused[0].reason if converted.refused else str(converted.values[0].as_py())
    assert found == expected


@given(st.lists(st.integers(-(10**12), 10**12) | st.decimals(-(10**11), 10**11, places=6), max_size=6))
def test_numbers_since_1970_are_what_timedelta_says(numbers: list[int | Decimal]) -> None:
    def said(number: int | Decimal) -> dt.datetime | None:
        try:
            return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(number * 10**6))
        except OverflowError:
            return None

    converted = read(Kind.TIMESTAMPTZ, ["epoch"], *map(str, numbers))
    assert converted.values.to_pylist() == [said(number) for number in numbers]


def test_a_day_takes_midnights_only() -> None:
    converted = read(Kind.DATE, ["epoch"], "86400", "86401", "-86400", "86400.5")
    assert converted.values.to_pylist() == [dt.date(1970, 1, 2), None, dt.date(1969, 12, 31), None]
    assert {place: why.reason for place, why in converted.refused.items()} == {1: Reason.TYPE, 3: Reason.TYPE}


@pytest.mark.parametrize("cells", [pa.array([1_700_000_000]), pa.array([1.7e9]), pa.array([Decimal("1700000000.0")])])
def test_typed_numbers_are_read_too(cells: pa.Array) -> None:
    conversion = choose_conversion(cells.type, ColumnType(Kind.TIMESTAMP), Reading(("epoch",)))
    assert conversion(cells).values.to_pylist() == [dt.datetime(2023, 11, 14, 22, 13, 20)]


def test_a_time_of_day_is_no_number_since_1970() -> None:
    with pytest.raises(ConfigError, match="epoch has a date"):
        formats_conversion(Kind.TIME, ["epoch"])
    with pytest.raises(ConfigError, match="a format is for texts"):
        choose_conversion(pa.float64(), ColumnType(Kind.DATE), Reading(("epoch", "%Y")))
