"""Texts to dates and times by a format: the meaning is datetime.strptime's."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import ConfigError
from etl.mapping.conversion import Converted
from etl.mapping.formats import format_conversion
from etl.mapping.kinds import Reading, choose_conversion
from etl.records import ColumnType, Kind, Reason


def convert(text: str, kind: Kind, format_: str) -> object:
    converted = format_conversion(kind, format_)(pa.array([text]))
    return converted.refused[0].reason if converted.refused else converted.values[0].as_py()


@pytest.mark.parametrize(
    ("text", "kind", "format_", "expected"),
    [
        ("31/01/2023", Kind.DATE, "%d/%m/%Y", dt.date(2023, 1, 31)),
        ("1/2/2023", Kind.DATE, "%d/%m/%Y", dt.date(2023, 2, 1)),
        ("20230131", Kind.DATE, "%Y%m%d", dt.date(2023, 1, 31)),
        ("31 Jan 2023", Kind.DATE, "%d %b %Y", dt.date(2023, 1, 31)),
        ("31/01/69", Kind.DATE, "%d/%m/%y", dt.date(1969, 1, 31)),
        ("31/01/68", Kind.DATE, "%d/%m/%y", dt.date(2068, 1, 31)),
        ("31/02/2023", Kind.DATE, "%d/%m/%Y", Reason.RANGE),
        ("31/13/2023", Kind.DATE, "%d/%m/%Y", Reason.TYPE),
        ("01/01/0000", Kind.DATE, "%d/%m/%Y", Reason.RANGE),
        ("31-01-2023", Kind.DATE, "%d/%m/%Y", Reason.TYPE),
        ("31/01/2023 ", Kind.DATE, "%d/%m/%Y", Reason.TYPE),
        ("", Kind.DATE, "%d/%m/%Y", Reason.TYPE),
        ("31/01/2023 00:00", Kind.DATE, "%d/%m/%Y %H:%M", dt.date(2023, 1, 31)),
        ("31/01/2023 00:01", Kind.DATE, "%d/%m/%Y %H:%M", Reason.TYPE),
        ("12.34", Kind.TIME, "%H.%M", dt.time(12, 34)),
        ("01:05 PM", Kind.TIME, "%I:%M %p", dt.time(13, 5)),
        ("31/01/2023 12.34.56", Kind.TIMESTAMP, "%d/%m/%Y %H.%M.%S", dt.datetime(2023, 1, 31, 12, 34, 56)),
        ("2023/031", Kind.TIMESTAMP, "%Y/%j", dt.datetime(2023, 1, 31)),
        (
            "31/01/2023 12:34:56.789",
            Kind.TIMESTAMP,
            "%d/%m/%Y %H:%M:%S.%f",
            dt.datetime(2023, 1, 31, 12, 34, 56, 789_000),
        ),
        ("31/01/2023 12", Kind.TIMESTAMPTZ, "%d/%m/%Y %H", dt.datetime(2023, 1, 31, 12, tzinfo=dt.UTC)),
        (
            "31/01/2023 12 +0100",
            Kind.TIMESTAMPTZ,
            "%d/%m/%Y %H %z",
            dt.datetime(2023, 1, 31, 11, tzinfo=dt.UTC),
        ),
        ("01/01/0001 00 +0100", Kind.TIMESTAMPTZ, "%d/%m/%Y %H %z", Reason.RANGE),
    ],
)
def test_formats(text: str, kind: Kind, format_: str, expected: object) -> None:
    assert convert(text, kind, format_) == expected


@pytest.mark.parametrize(
    ("kind", "format_", "message"),
    [
        (Kind.DATE, "%Q", "Python's strptime"),
        (Kind.DATE, "%d/%d", "Python's strptime"),
        (Kind.DATE, "%d/%m/%", "Python's strptime"),
        (Kind.DATE, "DD/MM/YYYY", "Python's strptime"),
        (Kind.TIMESTAMP, "%Y-%m-%d %z", "cannot keep"),
        (Kind.TIMESTAMPTZ, "%Y-%m-%d %Z", "drops it"),
        (Kind.INTEGER, "%Y", "not for integer"),
    ],
)
def test_formats_that_cannot_serve_are_config_errors(kind: Kind, format_: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        format_conversion(kind, format_)


def test_whole_numbers_are_read_by_a_format() -> None:
    conversion = choose_conversion(pa.int32(), ColumnType(Kind.DATE), Reading(("%Y%m%d",)))
    assert conversion(pa.array([20230131], pa.int32())).values.to_pylist() == [dt.date(2023, 1, 31)]


FORMATS = st.lists(
    st.sampled_from(["%Y", "%m", "%d", "%H", "%M", "%S", "%y", "%f", "%j", "%b", "/", "-", " ", ":", "T", "x"]),
    min_size=1,
    max_size=9,
    unique=True,
).map("".join)


def parsed_by_python(text: str, format_: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, format_)
    except ValueError:
        return None


@settings(max_examples=150)
@given(data=st.data(), format_=FORMATS, moments=st.lists(st.datetimes(), max_size=4))
def test_a_format_means_what_strptime_means(data: st.DataObject, format_: str, moments: list[dt.datetime]) -> None:
    try:
        conversion = format_conversion(Kind.TIMESTAMP, format_)
    except ConfigError:
        return
    texts = [moment.strftime(format_) for moment in moments]
    texts += data.draw(st.lists(st.text("0123456789/-: T", max_size=19), max_size=4))
    texts += [text[:at] + digit + text[at + 1 :] for text in texts for at, digit in [(0, "9"), (3, "0"), (5, "3")]]
    converted: Converted = conversion(pa.array(texts, pa.string()))
    assert converted.values.to_pylist() == [parsed_by_python(text, format_) for text in texts]
