"""Local times of a zone to moments: what zoneinfo says, and a refusal where it says two things or none."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.errors import ConfigError
from etl.mapping.conversion import Converted
from etl.mapping.formats import format_conversion
from etl.mapping.kinds import Reading, choose_conversion
from etl.mapping.local_times import LocalTimes
from etl.records import ColumnType, Kind, Reason

MOMENT = ColumnType(Kind.TIMESTAMPTZ)
ZONES = {
    name: LocalTimes(name)
    for name in (
        "UTC",
        "Europe/Lisbon",
        "Europe/Dublin",  # its winter time is the one that is set
        "America/New_York",
        "America/Sao_Paulo",  # set at midnight
        "Australia/Lord_Howe",  # by half an hour
        "Africa/Casablanca",
        "Asia/Kathmandu",
        "Pacific/Apia",  # had no 30 December 2011
    )
}


def converted_by(zone: str, *texts: str | None, formats: tuple[str, ...] = ()) -> Converted:
    return choose_conversion(pa.string(), MOMENT, Reading(formats, zone))(pa.array(texts, pa.string()))


def one(zone: str, text: str, *formats: str) -> object:
    converted = converted_by(zone, text, formats=formats)
    return converted.refused[0] if converted.refused else str(converted.values[0].as_py())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-01-31 12:00", "2023-01-31 12:00:00+00:00"),
        ("2023-07-31 12:00", "2023-07-31 11:00:00+00:00"),
        ("2023-07-31", "2023-07-30 23:00:00+00:00"),
        ("2023-07-31T12:00:00.5", "2023-07-31 11:00:00.500000+00:00"),
        ("2023-07-31 12:00+02:00", "2023-07-31 10:00:00+00:00"),
        ("2023-07-31 12:00Z", "2023-07-31 12:00:00+00:00"),
        ("2024-02-29 12:00", "2024-02-29 12:00:00+00:00"),
        ("1900-01-01 00:00", "1900-01-01 00:36:45+00:00"),  # by the sun, until 1912
        ("2023-03-26 00:59:59", "2023-03-26 00:59:59+00:00"),
        ("2023-03-26 02:00", "2023-03-26 01:00:00+00:00"),
        ("2023-10-29 00:59:59", "2023-10-28 23:59:59+00:00"),
        ("2023-10-29 02:00", "2023-10-29 02:00:00+00:00"),
    ],
)
def test_a_time_without_an_offset_is_one_of_the_zone(text: str, expected: str) -> None:
    assert one("Europe/Lisbon", text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2023-03-26 01:00", "no such time: the clock of Europe/Lisbon is set forward over it"),
        ("2023-03-26 01:59:59.999999", "no such time: the clock of Europe/Lisbon is set forward over it"),
        ("2023-10-29 01:00", "two moments: the clock of Europe/Lisbon is set back and shows it twice"),
        ("2023-10-29 01:59:59.999999", "two moments: the clock of Europe/Lisbon is set back and shows it twice"),
        ("2023-02-29 01:00", "no such day: the calendar has years 1 to 9999 and not this day or month"),
    ],
)
def test_a_time_that_is_no_moment_or_two_is_refused(text: str, message: str) -> None:
    refused = one("Europe/Lisbon", text)
    assert (getattr(refused, "reason", None), getattr(refused, "message", None)) == (Reason.RANGE, message)


def test_an_offset_decides_a_time_that_the_clock_shows_twice() -> None:
    assert one("Europe/Lisbon", "2023-10-29 01:30+01:00") == "2023-10-29 00:30:00+00:00"
    assert one("Europe/Lisbon", "2023-10-29 01:30+00") == "2023-10-29 01:30:00+00:00"


def test_a_format_gives_local_times_unless_it_reads_an_offset() -> None:
    assert one("Europe/Lisbon", "31/07/2023 12:00", "%d/%m/%Y %H:%M") == "2023-07-31 11:00:00+00:00"
    assert one("Europe/Lisbon", "31 Jul 2023", "%d %b %Y") == "2023-07-30 23:00:00+00:00"
    assert one("Europe/Lisbon", "31/07/2023 12:00 -0300", "%d/%m/%Y %H:%M %z") == "2023-07-31 15:00:00+00:00"
    assert one("Europe/Lisbon", "1690804800", "epoch") == "2023-07-31 12:00:00+00:00"
    assert getattr(one("Europe/Lisbon", "26/03/2023 01:30", "%d/%m/%Y %H:%M"), "reason", None) is Reason.RANGE


def test_moments_beyond_the_calendar_are_refused() -> None:
    converted = converted_by("America/New_York", "9999-12-31 23:00", None, "0001-01-01 00:00")
    assert converted.values.to_pylist() == [None, None, dt.datetime(1, 1, 1, 4, 56, 2, tzinfo=dt.UTC)]
    assert {place: why.reason for place, why in converted.refused.items()} == {0: Reason.RANGE}


def test_typed_columns_without_a_zone_are_local_too() -> None:
    read = Reading(timezone="Europe/Lisbon")
    noons = pa.array([dt.datetime(2023, 7, 31, 12), None, dt.datetime(2023, 3, 26, 1, 30)], pa.timestamp("ms"))
    converted = choose_conversion(noons.type, MOMENT, read)(noons)
    assert converted.values.to_pylist() == [dt.datetime(2023, 7, 31, 11, tzinfo=dt.UTC), None, None]
    assert list(converted.refused) == [2]
    days = pa.array([dt.date(2023, 7, 31)])
    assert choose_conversion(days.type, MOMENT, read)(days).values[0].as_py() == dt.datetime(
        2023, 7, 30, 23, tzinfo=dt.UTC
    )
    moments = pa.array([dt.datetime(2023, 7, 31, 12, tzinfo=dt.UTC)], pa.timestamp("us", "Asia/Tokyo"))
    assert choose_conversion(moments.type, MOMENT, read)(moments).values.cast(pa.int64()) == moments.cast(pa.int64())


@pytest.mark.parametrize("kind", [Kind.TIMESTAMP, Kind.DATE, Kind.TIME, Kind.TEXT])
def test_a_zone_is_for_columns_with_one(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="timezone is for columns of type timestamp with time zone"):
        choose_conversion(pa.string(), ColumnType(kind), Reading(timezone="UTC"))


def said_by_zoneinfo(zone: str, time: dt.datetime) -> dt.datetime | None:
    """The moment at which the zone's clock shows this time; None if there is none, or more than one."""
    clock = ZoneInfo(zone)
    moments = set()
    for fold in (0, 1):
        try:
            moment = time.replace(tzinfo=clock, fold=fold).astimezone(dt.UTC)
            if moment.astimezone(clock).replace(tzinfo=None, fold=0) == time:
                moments.add(moment)
        except OverflowError:
            continue
    return moments.pop() if len(moments) == 1 else None


# Near the times at which clocks were set, as well as anywhere.
TIMES = st.one_of(
    st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)),
    st.datetimes(dt.datetime(2023, 3, 25, 23), dt.datetime(2023, 3, 26, 4)),
    st.datetimes(dt.datetime(2023, 10, 29, 0), dt.datetime(2023, 10, 29, 4)),
    st.datetimes(dt.datetime(2018, 11, 3, 22), dt.datetime(2018, 11, 4, 4)),
    st.datetimes(dt.datetime(2023, 4, 2, 0), dt.datetime(2023, 4, 2, 4)),
    st.datetimes(dt.datetime(2011, 12, 29), dt.datetime(2012, 1, 1)),
    st.datetimes(dt.datetime(1880, 1, 1), dt.datetime(1950, 1, 1)),
)


@settings(max_examples=30)
@given(zone=st.sampled_from(sorted(ZONES)), times=st.lists(TIMES, min_size=1, max_size=12))
@example("Pacific/Apia", [dt.datetime(2011, 12, 30, 12), dt.datetime(2011, 12, 29, 12)])
def test_a_column_of_local_times_is_what_zoneinfo_says(zone: str, times: list[dt.datetime]) -> None:
    expected = [said_by_zoneinfo(zone, time) for time in times]
    by_text = converted_by(zone, *(str(time) for time in times))
    assert by_text.values.to_pylist() == expected
    assert sorted(by_text.refused) == [place for place, moment in enumerate(expected) if moment is None]
    by_format = format_conversion(Kind.TIMESTAMPTZ, "%d.%m.%Y %H:%M:%S", ZONES[zone])
    whole = [time.replace(microsecond=0) for time in times]
    texts = pa.array([f"{time:%d.%m.}{time.year:04}{time: %H:%M:%S}" for time in whole])
    assert by_format(texts).values.to_pylist() == [said_by_zoneinfo(zone, time) for time in whole]
